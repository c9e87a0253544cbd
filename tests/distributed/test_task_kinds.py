"""Kinds of tasks: ours keep the names of their studies; those of other packages work as well."""

import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import cloudpickle

from distributed.config import experiment, read
from distributed.config import tasks as config_tasks
from distributed.config.read import make_experiment
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from distributed.study.trials_table import read_trials
from mixunlearn.evaluation import evaluation_set
from mixunlearn.plugins import extended
from mixunlearn.signature import signature
from mixunlearn.tasks import TASKS, written
from tests.core.test_plugins import TASK, TASK_POINT, install, python
from tests.fixtures import Command

ROWS = ("forget_N", "retain_N", "val_N", "test_N", "truth_N", "known_N")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "runs"


def planned(home: Path, task: dict[str, Any]) -> Plan:
    model = {"name": "cnn", "width": 8}
    content = {"name": "x", "data": {"source": "digits"}, "model": model, "task": task}
    return make_plan(make_experiment(content), home, command="a test")


def shown(plan: Plan) -> list[object]:
    """Return what users and MLflow see of a task."""
    judged = [evaluation_set(plan.dataset, plan.splits, phase) for phase in ("val", "test")]
    later: Any = {  # keys that came after the pins
        "margins": True,
        "model": {"original", "size"},
        "references": {"originals", "proxies", "recipe"},
        "resources": {"data_memory", "precision", "capture", "deterministic"},
    }
    content = plan.experiment.model_dump(exclude=later)
    return [
        yaml.safe_dump(content, sort_keys=False, allow_unicode=True),
        plan.experiment.model_dump_json(exclude=later),
        plan.forget_set,
        plan.references.val_metrics,
        [[images.gap_metrics, list(images.resolution().items())] for images in judged],
    ]


def found(plan: Plan) -> tuple[str, str, str, str, str]:
    """Return the key of the study, its splits, their rows, its models, and what is shown."""
    splits, bank = plan.splits, replace(plan.references, originals=1)
    rows = [getattr(splits, name).tolist() for name in ROWS]
    entries = [list(entry) for member in bank.members for entry in bank._entries(member)]
    shown_text = hashlib.sha256(repr(shown(plan)).encode()).hexdigest()[:8]
    names = (signature([rows, list(splits.forgotten)]), signature(entries), shown_text)
    return (plan.study.removeprefix("x-"), splits.key, *names)


PINNED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "class"}, "57ad1209 dc1e924b 1bae8706 ffe9de95 ce7b3c5b"),
    ({"kind": "class", "classes": [7, 2]}, "0c6f3d18 c5946c44 6f0b884f 9255f0dc 17da0389"),
    ({"kind": "data"}, "d8a6772f ea2e0c00 3ffce4d3 0ac0808f f13aead7"),
    (
        {"kind": "data", "classes": [8, 3, 5], "fraction": 0.2},
        "46b7ad30 29957427 1c4890e3 68206893 4b5ac376",
    ),
    ({"kind": "random"}, "c96d1844 1b491eb4 74e3dd1e dd765d5d f42722e1"),
    ({"kind": "random", "fraction": 0.25}, "e3ac4f8a 671390ae 34599cc1 15534e01 b3853b7a"),
    ({"kind": "ids", "ids": [40, 7, 1200]}, "55d623b6 b80c885f dca63fdc 9c0cab2a 19a6c9da"),
    ({"kind": "noisy"}, "276bd171 f69a7dcd 833be0ea b2e0b62a 5dd4b7e4"),
    (
        {"kind": "noisy", "classes": [1, 9], "fraction": 1},
        "d32c2c0f 5542dc3f c463b63d d75bbe56 5ca2014e",
    ),
    ({"kind": "backdoor"}, "19bf8683 380b17be 3f306b10 d6578b10 69185b7a"),
    (
        {"kind": "backdoor", "target": 4, "fraction": 0.3, "size": 2},
        "89968938 71cb8733 dd93af0b b0322321 adce78e6",
    ),
    ({"kind": "semi"}, "91feead9 9ab61d2e b92a55fa 34bb68db 044b4e95"),
    (
        {"kind": "semi", "of": "data", "classes": [2], "fraction": 0.5, "labelled": 0.3},
        "31727424 9635f795 02691164 0e8bddb5 3797a0e1",
    ),
    ({"kind": "semi", "of": "class"}, "aff882c1 3995524e 04305185 596476f6 1eb5f487"),
    (
        {"kind": "semi", "of": "class", "classes": [6, 1], "labelled": 0.05},
        "4a486052 527e7747 c350c11b 662f776a 712b015d",
    ),
    ({"kind": "hard"}, "89dc2a24 fd56ba2c c5e404be bccab637 970306a2"),
    (
        {"kind": "hard", "fraction": 0.2, "by": "loss", "order": "lowest"},
        "f51ca0b8 f7f7b531 46a97ae3 17f6b52d 1cdbce2e",
    ),
]


@pytest.mark.parametrize(("task", "names"), PINNED, ids=str)
def test_a_kind_keeps_its_names(home: Path, task: dict[str, Any], names: str) -> None:
    assert found(planned(home, task)) == tuple(names.split())


@pytest.mark.parametrize(
    ("named", "numbered"),
    [
        ({"kind": "class", "classes": ["7", 2]}, {"kind": "class", "classes": [2, 7]}),
        ({"kind": "backdoor", "target": "4"}, {"kind": "backdoor", "target": 4}),
        (
            {"kind": "semi", "of": "class", "classes": ["1"]},
            {"kind": "semi", "of": "class", "classes": [1]},
        ),
    ],
)
def test_names_of_classes_make_the_study_of_their_numbers(
    home: Path, named: dict[str, Any], numbered: dict[str, Any]
) -> None:
    assert found(planned(home, named)) == found(planned(home, numbered))


def test_every_kind_is_pinned() -> None:
    assert {task["kind"] for task, _ in PINNED} == set(TASKS)


# A kind of another package

PLAN = """
    import json, sys
    from pathlib import Path
    from distributed.config.read import make_experiment
    from distributed.plan.make import make_plan
    from distributed.plan.plan import resolved
    from distributed.search.trial_callback import is_metric
    from mixunlearn.errors import InputError
    from report.notation import unit

    def experiment(**task):
        model = {"name": "cnn", "width": 4}
        data = {"source": "digits", "limit": {"train": 300}}
        return make_experiment({"name": "x", "data": data, "model": model, "task": task})

    def refused(**task):
        try:
            experiment(**task)
        except InputError as error:
            return str(error)

    plan = make_plan(experiment(kind="dark"), Path(sys.argv[1]), command="a test")
    print(json.dumps({
        "task": experiment(kind="dark", of="peaks").task.model_dump(),
        "names": len({plan.study, make_plan(experiment(kind="dark", of="peaks"), plan.home,
            command="a test").study}),
        "resolved": resolved(plan.experiment),
        "words": plan.forget_set,
        "metric": [is_metric("dark/flipped"), unit("dark/flipped"), unit("gap/dark/flipped")],
        "refused": [
            refused(kind="dark", fraction=2),
            refused(kind="dark", of="edges"),
            refused(kind="dark", size=3),
            refused(kind="dark", off="pixels"),
            refused(kind="darker"),
            refused(kind="random", of="data"),
        ],
    }))
"""


def test_an_experiment_takes_a_kind_of_another_package(home: Path, tmp_path: Path) -> None:
    ran = python(PLAN, install(tmp_path, TASK_POINT, TASK), str(home))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["task"] == {"kind": "dark", "fraction": 0.2, "of": "peaks"}
    assert found["names"] == 2
    assert "task:\n  kind: dark\n  fraction: 0.2\n  of: pixels\n" in found["resolved"]
    assert found["words"] == "the 36 images of darkest pixels"
    assert found["metric"] == [True, "%", "pp"]
    assert found["refused"] == [
        "task.fraction = 2: must be at most 1",
        "task.of = 'edges': must be 'pixels' or 'peaks'",
        "task.size = 3: a dark task has no such key; it belongs to backdoor tasks",
        "task.off = 'pixels': a dark task has no such key; did you mean 'of'? There are: kind, "
        "fraction, of",
        "task.kind = 'darker': must be one of class, data, random, ids, noisy, backdoor, semi, "
        "hard, dark",
        "task.of = 'data': a random task has no such key; it belongs to semi, dark tasks",
    ]


EXPERIMENT = """
name: dark
data: {source: digits, limit: {train: 300}}
model: {name: cnn, width: 4}
task: {kind: dark}
method: finetune
references: {seeds: 2, epochs: 1}
search: {trials: 1, epochs: 1, scheduler: none}
"""


@pytest.fixture
def _dark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the package installed in this process; Ray's workers are sent what they need of it."""
    monkeypatch.syspath_prepend(install(tmp_path, TASK_POINT, TASK))
    for module in (written, experiment, config_tasks, read):
        monkeypatch.setattr(module, "TASKS", extended(dict(TASKS), "mixunlearn.tasks"))
    written.own_groups.cache_clear()
    outsider = importlib.import_module("outsider")
    cloudpickle.register_pickle_by_value(outsider)
    yield
    cloudpickle.unregister_pickle_by_value(outsider)
    del sys.modules["outsider"]  # monkeypatch would put it back at its own end
    written.own_groups.cache_clear()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray", "_dark")
def test_a_sweep_searches_a_task_of_another_package(
    mixunlearn: Command, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "dark.yaml").write_text(EXPERIMENT)
    ran = mixunlearn("sweep", str(tmp_path / "dark.yaml"), "--home", str(home))
    assert ran.code == 0, ran.err
    (study,) = (home / "studies").iterdir()
    (row,) = read_trials(study / "trials.parquet")
    assert row["state"] == "complete"
    assert {"dark/flipped", "gap/dark/flipped", "z/dark/flipped"} <= row.keys()
    assert "dark/flipped" in (study / "report.html").read_text()
