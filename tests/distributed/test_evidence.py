"""Evidence about a tuned method: real Ray, real MLflow, models of digits that train in a second."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from distributed.cli.evidence import _again
from distributed.compare.cells import merged
from distributed.config.read import make_experiment
from distributed.evidence.contenders import Contender
from distributed.evidence.forget_sets import forget_sets
from distributed.evidence.profiles import PROFILES, Profile
from distributed.evidence.results import Measured, methods, results
from distributed.evidence.targets import _file_names
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from mixunlearn.effort import Retraining
from mixunlearn.errors import InputError
from mixunlearn.evidence.examination import PARTS, Examined
from mixunlearn.evidence.likelihood import per_example
from mixunlearn.evidence.states import STATES
from tests.distributed.test_compare import COMPARISON, UNCLOSED, stopped_when
from tests.fixtures import Command
from trainables.examine import Examination

TINY = Profile(originals=3, references=3, forget_sets=2)
EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits", "limit": {"train": 500}},
    "model": {"name": "cnn", "width": 4},
    "task": {"kind": "class", "classes": [0]},
    "method": "finetune",
    "references": {"seeds": 2, "epochs": 3, "lr": 3e-3},
    "search": {"trials": 1, "epochs": 1, "scheduler": "none"},
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "quick", TINY)
    # Whether intervals are right is tested where they are computed.
    assert per_example.__kwdefaults__ is not None
    monkeypatch.setitem(per_example.__kwdefaults__, "draws", 20)


def written(folder: Path, name: str = "experiment.yaml", task: Any = None) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump({**EXPERIMENT, **({"task": task} if task else {})}))
    return path


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
@UNCLOSED
def test_evidence_is_collected_once_and_resumed(mixunlearn: Command, tmp_path: Path) -> None:
    home, path = tmp_path / "home", written(tmp_path)
    words = ["evidence", str(path), "--home", str(home), "--json"]

    dry = mixunlearn(*words, "--dry-run")
    assert dry.code == 0, dry.err
    assert "B: all" in dry.out
    assert "of class 1" in dry.out
    assert "3 originals and 2 × 3 references: 9 to train" in dry.out
    assert not home.exists()

    # Stopped once half of the models are examined: what is done is kept.
    examined = home / "store" / "examined"
    with stopped_when(lambda: examined.exists() and len(list(examined.iterdir())) > 3):
        cut = mixunlearn(*words)
    assert cut.code == 1, cut.err
    before = {each: each.stat().st_mtime_ns for each in examined.glob("[!.]*/manifest.json")}
    assert before

    whole = mixunlearn(*words)
    assert whole.code == 0, whole.err
    assert {each: each.stat().st_mtime_ns for each in before} == before
    (found,) = whole.result["evidence"]
    assert [each["name"] for each in found["forget_sets"]] == ["B", "C"]
    assert found["looks"] == 1
    files_are_whole(Path(found["folder"]), found)
    in_mlflow(home, found)
    # Neither the forget sets nor their folders look like studies.
    assert [each.name for each in (home / "studies").iterdir()] == [found["name"]]

    again = mixunlearn(*words)
    assert again.code == 0, again.err
    assert "models examined" not in again.err
    assert again.result == whole.result

    looks_are_counted(mixunlearn, words, home / "evidence" / found["name"] / "looks.json")

    # By the name of the study; its home now has a search of class 1.
    planned(home, {"kind": "class", "classes": [1]}).keep()
    line = mixunlearn("evidence", found["name"], "--home", str(home), "--dry-run").out
    assert "has searched on it" in line
    assert "B: all" in line
    assert "of class 2" in line


def looks_are_counted(mixunlearn: Command, words: list[str], looks: Path) -> None:
    """Each set of models that was measured is a look; a damaged list is told."""
    kept = looks.read_text()
    looks.write_text("[")
    damaged = mixunlearn(*words)
    assert damaged.code == 1
    assert "looks.json is damaged" in damaged.err
    looks.write_text(kept)
    (look,) = json.loads(kept)
    other = looks.parent.with_name("of another study") / looks.name  # at the same forget sets
    other.parent.mkdir()
    other.write_text(json.dumps([{**look, "digest": "of other models"}]))
    assert mixunlearn(*words).result["evidence"][0]["looks"] == 2


def files_are_whole(folder: Path, found: dict[str, Any]) -> None:
    """Table, margins, leaderboard and page have each model, method and forget set."""
    rows = pq.read_table(folder / "evidence.parquet").to_pylist()
    assert len(rows) == 2 * 3 * 3  # forget sets × models × (retrained, untouched, finetune)
    assert {each["forget"] for each in rows} == {"B", "C"}
    assert all(np.isfinite(each["relearn/retain"]) for each in rows)
    unlearned = [each for each in rows if each["method"] == "finetune"]
    assert sorted(each["original"] for each in unlearned) == [0, 0, 1, 1, 2, 2]
    # The first of each forget set is timed, with the device to itself.
    assert 0 in {each["original"] for each in unlearned if each["time/unlearn_s"]}
    margins = load_file(folder / "margins.safetensors")
    assert len(margins) == 2 * 3 * len(PARTS)
    assert all(each.dtype == np.float16 and len(each) == 3 for each in margins.values())
    assert json.loads((folder / "leaderboard.json").read_text()) == found
    methods = {each["method"]: each for each in found["methods"]}
    assert methods.keys() == {"finetune", "doing nothing"}
    assert methods["finetune"]["state"] in STATES
    assert methods["doing nothing"]["state"] == ""
    for name, of_set in methods["finetune"]["sets"].items():
        assert of_set["verdict"]["state"] in STATES, name
        assert len(of_set["verdict"]["reasons"]) == 3
        assert {"excess_auc", "excess_tpr_1"} <= of_set["per_example"]["forget"].keys()
    page = (folder / "evidence.html").read_text()
    assert methods["finetune"]["state"] in page
    assert "of class 2" in page


def in_mlflow(home: Path, found: dict[str, Any]) -> None:
    """The evidence is one run with its verdict; margins of single images stay at home."""
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment
    title = f"evidence {found['name']} quick"
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`mixunlearn.study` = '{title}'")
    assert run.info.status == "FINISHED"
    assert run.data.tags["mixunlearn.verdict"] in STATES
    assert "distance/finetune" in run.data.metrics
    files = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert files == {"evidence.html", "evidence.parquet", "leaderboard.json"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
@UNCLOSED  # the dashboard that Ray started for the stopped command of the test before
def test_evidence_about_a_comparison_ranks_its_methods(
    mixunlearn: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home, path = tmp_path / "home", tmp_path / "comparison.yaml"
    monkeypatch.setitem(PROFILES, "quick", replace(TINY, forget_sets=1))
    content = merged(COMPARISON, {"labels": [], "methods": {"neggrad": None}})
    content["labels"], content["tasks"] = ["aware"], {"random": {"kind": "random", "fraction": 0.2}}
    content["methods"].pop("w/o MixBlock")
    path.write_text(yaml.safe_dump(content))
    found = mixunlearn("evidence", str(path), "--home", str(home), "--json")
    assert found.code == 0, found.err
    (evidence,) = found.result["evidence"]
    assert evidence["name"] == "tiny-digits-random-aware"
    assert {each["method"] for each in evidence["methods"]} == {
        *("finetune", "neggrad", "doing nothing")
    }
    values = [each["distance"]["value"] for each in evidence["methods"]]
    assert values == sorted(values)  # nearest to retraining first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-study"], "STUDY = 'no-such-study'"),
        (["missing.yaml"], "missing.yaml"),
        (["{path}", "--profile", "huge"], "--profile = 'huge'"),
        (["{hard}"], "task.kind = 'hard': its forget set is always the same"),
        (["{half}"], "task.kind = 'random': only 1 forget set of this size"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(
    mixunlearn: Command, tmp_path: Path, words: list[str], said: str
) -> None:
    paths = {
        "path": written(tmp_path),
        "hard": written(tmp_path, "hard.yaml", {"kind": "hard"}),
        "half": written(tmp_path, "half.yaml", {"kind": "random", "fraction": 0.6}),
    }
    home = tmp_path / "home"
    asked = [each.format(**paths) for each in words]
    found = mixunlearn("evidence", *asked, "--home", str(home))
    assert found.code == 2, found.err
    assert said in found.err
    assert found.err.count("\n") == 1
    assert not home.exists()


def planned(home: Path, task: dict[str, Any], **changed: Any) -> Plan:
    # None: without this key, such as all images in place of a limit.
    data = {
        key: value for key, value in (EXPERIMENT["data"] | changed).items() if value is not None
    }
    content = {**EXPERIMENT, "task": task, "data": data}
    return make_plan(make_experiment(content), home, command="x", local=False)


def test_what_cannot_be_measured_or_is_searched_as_well_is_left_out(tmp_path: Path) -> None:
    # Of 30 images, some classes have none for `val`: no accuracy could be measured on these.
    plan = planned(tmp_path, {"kind": "class", "classes": [1]}, limit={"train": 30})
    found, left_out = forget_sets(plan, 2)
    assert len(found) == 2
    assert any("no images are left to measure" in reason for reason in left_out)

    first = planned(tmp_path, {"kind": "class", "classes": [0]}, limit=None)
    second = planned(tmp_path, {"kind": "class", "classes": [1]}, seed=1, limit=None)
    # A comparison of both tasks searches on class 1 before the evidence is collected.
    found, left_out = forget_sets(first, 1, [first, second])
    assert [each.splits.forgotten for each in found] == [(2,)]
    assert f"{second.study} has searched on it" in left_out[0]
    # So does a study in the home, whatever the seed of its split.
    second.keep()
    assert [each.splits.forgotten for each in forget_sets(first, 1)[0]] == [(2,)]


def test_the_command_on_the_page_has_all_that_it_needs_but_no_password(tmp_path: Path) -> None:
    found = _again("a b.yaml", "quick", ["x=1", "tracking.uri=http://me:secret@host"], tmp_path)
    assert found.startswith("mixunlearn evidence 'a b.yaml' --profile quick --set x=1 --set ")
    assert found.endswith(f" --home {tmp_path}")
    assert "secret" not in found


def test_two_problems_of_a_comparison_never_share_a_folder() -> None:
    plain = _file_names("tiny", [("digits", "class 0", "aware"), ("digits", "class-1", "aware")])
    assert [*plain.values()] == ["tiny-digits-class-0-aware", "tiny-digits-class-1-aware"]
    with pytest.raises(InputError, match="has the same folder as digits, class 0, aware"):
        _file_names("tiny", [("digits", "class 0", "aware"), ("digits", "class-0", "aware")])


def examined(forget: float, seed: int) -> Examination:
    rng = np.random.default_rng(seed)
    names = ("acc/train_retain", "acc/train_forget", "acc/test", "acc/test_retain")
    metrics = {name: 95 + rng.normal() for name in (*names, "acc/test_forget", "mia/asr")}
    metrics["acc/train_forget"] = forget + rng.normal()
    margins = {part: rng.normal(size=9).astype(np.float16) for part in PARTS}
    found = Examined(metrics=metrics, margins=margins)
    return Examination(examined=found, seconds=1.0, at_once=1)


@pytest.mark.parametrize("names", [("good", "bad"), ("bad",)])
def test_a_method_that_diverges_on_one_forget_set_has_no_result(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    plan = planned(tmp_path, {"kind": "class", "classes": [0]})
    contenders = [
        Contender(name=name, plan=plan, trial=0, hyperparameters={}, epochs=1) for name in names
    ]
    models = [examined(1, seed) for seed in range(3)]
    measured = [
        Measured(
            forget_set=each,
            margins=plan.margins,
            retrained=[examined(1, 10 + seed) for seed in range(3)],
            untouched=[examined(99, 20 + seed) for seed in range(3)],
            unlearned={name: models for name in names if (name, each.name) != ("bad", "C")},
            absent={"bad": "diverged"} if each.name == "C" else {},
            retraining=Retraining(seconds=[2.0]),
        )
        for each in forget_sets(plan, 2)[0]
    ]
    found = {each["method"]: each for each in methods(contenders, measured)}
    assert (found["bad"]["absent"], found["bad"]["state"]) == ("diverged", "")
    # As the rows of the table are made: from the leaderboard, which names all methods.
    sets = {name: each["sets"] for name, each in found.items()}
    shown = results(contenders, measured, sets)
    assert {each.method for each in shown if each.judged} == {*names} - {"bad"}
