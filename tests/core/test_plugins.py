"""Methods and tasks of other packages: found through entry points, or an error of one line."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from mixunlearn import plugins
from mixunlearn.errors import MixUnlearnError
from mixunlearn.methods import METHODS
from mixunlearn.plugins import extended
from tests.warm import PARENT

ROOT = Path(__file__).parents[2]
GROUPS = ("mixunlearn.methods", "mixunlearn.search_spaces")
OUTSIDER = """
    from dataclasses import dataclass

    from mixunlearn.methods import Method
    from search_spaces import Float, Space


    @dataclass(kw_only=True)
    class Timid(Method):
        needs_labels = True
        share: float = 0.5

        def update(self, forget_B, retain_B):
            loss = self.share * self.cross_entropy(self.context.retain, retain_B)
            self.step(loss)
            return {"loss": loss.detach()}


    def space(stages, default_stage):
        return Space(share=Float(low=0.1, high=1, default=0.5, source="us"))
"""
TRAIN = """
    import outsider  # first, as its own tests would
    import json, pickle, sys, torch
    from mixunlearn.trial import Trial
    from mixunlearn.methods import METHODS
    from search_spaces import SPACES

    problem = pickle.loads(open(sys.argv[1], "rb").read())
    default = SPACES["timid"]((), "").defaults({})
    trial = Trial(problem, "timid", default, 0, torch.device("cpu"))
    known = ["timid" in names and "finetune" in names for names in (METHODS, SPACES)]
    print(json.dumps([known, default, trial.unlearn()]))
"""

TASK_POINT = {"mixunlearn.tasks": "dark = outsider:Dark"}
TASK = """
    from collections.abc import Sequence
    from dataclasses import dataclass
    from typing import Annotated, ClassVar

    import numpy as np

    from mixunlearn.tasks import Measure, Task
    from mixunlearn.tasks.corruption import replaced
    from mixunlearn.tasks.draws import share
    from mixunlearn.tasks.keys import Fraction, OneOf


    def flipped(images_NCHW):
        return images_NCHW[:, :, ::-1].copy()


    @dataclass(frozen=True, kw_only=True)
    class Dark(Task):
        metrics: ClassVar[tuple[str, ...]] = ("dark/flipped",)

        fraction: Annotated[float, Fraction(default=0.2)]
        of: Annotated[str, OneOf(options=("pixels", "peaks"), default="pixels")]

        def forget(self, dataset, train_N, seed):
            images = dataset.images_NCHW[train_N].reshape(len(train_N), -1)
            light_N = images.mean(axis=1) if self.of == "pixels" else images.max(axis=1)
            return train_N[np.argsort(light_N, kind="stable")][: share(self.fraction, train_N)]

        def corrupted(self, dataset, forget_N, key):
            upside_down = flipped(dataset.images_NCHW[forget_N])
            return replaced(dataset, forget_N, dataset.labels_N[forget_N], upside_down)

        def gap_metrics(self, held_out):
            return (*super().gap_metrics(held_out), "dark/flipped")

        def measures(self, held_out, truth_N):
            return (
                Measure(
                    name="dark/flipped",
                    labels_N=held_out.labels_N,
                    images_NCHW=lambda: flipped(held_out.images_NCHW),
                ),
            )

        def words(self, names, *, forget, retain, known):
            return f"the {forget} images of darkest {self.of}"
"""
UNLEARN = """
    import outsider  # first, as its own tests would
    import json, sys, torch
    import numpy as np
    from pathlib import Path
    from mixunlearn.data.sources import SOURCES
    from mixunlearn.splits import make_splits
    from mixunlearn.problem import Architecture
    from mixunlearn.references import ReferenceStore
    from mixunlearn.store import Store
    from mixunlearn.tasks.written import level
    from mixunlearn.recipes import Recipe
    from mixunlearn.trial import Trial

    digits = SOURCES["digits"]()
    task = {"kind": "dark", "fraction": 0.1}
    splits = make_splits(digits, task, limit={"train": 300})
    changed = splits.corrupted(digits)
    references = ReferenceStore(
        store=Store(Path(sys.argv[1])),
        dataset=changed,
        splits=splits,
        architecture=Architecture(name="cnn", width=4, image_shape=(1, 8, 8), classes=10),
        recipe=Recipe(epochs=1),
        references=2,
        stages=(),
        command="a test",
    )
    references.fill()
    trial = Trial(references.problem(with_labels=True), "finetune", {}, 0, torch.device("cpu"))
    light_N = digits.images_NCHW.mean(axis=(1, 2, 3))
    training_N = np.union1d(splits.forget_N, splits.retain_N)
    rows = splits.forget_N
    print(json.dumps({
        "known": list(references.val_metrics),
        "level": level(task),
        "shares": [len(rows) / len(training_N), float(light_N[splits.retain_N].min())],
        "lightest": float(light_N[rows].max()),
        "flipped": bool((changed.images_NCHW[rows, :, ::-1] == digits.images_NCHW[rows]).all()),
        "content": splits.task.content(),
        "words": splits.words(digits.classes),
        "epoch": trial.epoch(),
    }))
"""


def install(folder: Path, points: Mapping[str, str], code: str = OUTSIDER) -> Path:
    """Make a folder as pip would for a package `outsider` with these entry points."""
    (folder / "outsider.py").write_text(dedent(code))
    info = folder / "outsider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outsider\nVersion: 1.0\n")
    sections = [f"[{group}]\n{line}\n" for group, line in points.items()]
    (info / "entry_points.txt").write_text("\n".join(sections))
    return folder


def python(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has the package in `folder` installed."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [*PARENT.quick, "-c", dedent(code), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_method_of_another_package_is_one_of_ours(tmp_path: Path, problem_file: Path) -> None:
    points = dict(zip(GROUPS, ("timid = outsider:Timid", "timid = outsider:space"), strict=True))
    ran = python(TRAIN, install(tmp_path, points), str(problem_file))
    assert ran.returncode == 0, ran.stderr
    known, default, losses = json.loads(ran.stdout)
    assert known == [True, True]
    assert default == {"share": 0.5}
    assert losses["train/loss"] > 0


def test_a_task_of_another_package_is_one_of_ours(tmp_path: Path) -> None:
    ran = python(UNLEARN, install(tmp_path, TASK_POINT, TASK), str(tmp_path / "store"))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    share, darkest_retained = found["shares"]
    assert share == pytest.approx(0.1, abs=0.005)
    assert found["lightest"] <= darkest_retained
    assert found["flipped"]
    content = {"kind": "dark", "classes": None, "fraction": 0.1, "of": "pixels"}
    assert found["content"] == content
    assert found["words"] == "the 18 images of darkest pixels"
    assert found["level"] == "dark"
    assert found["known"][-2:] == ["dark/flipped", "div/js"]
    epoch = found["epoch"]
    usual = ("acc/train_retain", "acc/train_forget", "acc/val", "mia/asr", "dark/flipped")
    assert 0 <= epoch["dark/flipped"] <= 100
    assert epoch["gap/avg"] == pytest.approx(sum(epoch[f"gap/{name}"] for name in usual) / 5)
    assert "z/dark/flipped" in epoch


PLAN = """
    import sys
    from pathlib import Path
    from distributed.config.read import make_experiment
    from distributed.plan.make import make_plan

    content = {"name": "x", "data": {"source": "digits"}, "task": {"kind": "class", "classes": [0]}}
    experiment = make_experiment({**content, "model": {"name": "cnn"}, "method": "timid"})
    make_plan(experiment, Path(sys.argv[1]), command="x")
"""


def test_a_method_without_a_space_is_named(tmp_path: Path) -> None:
    ran = python(PLAN, install(tmp_path, {GROUPS[0]: "timid = outsider:Timid"}), str(tmp_path))
    assert "method = 'timid': has no search space" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            "finetune = outsider:Timid",
            "finetune = outsider:Timid: the name is already in use; choose another",
        ),
        (
            "timid = absent:Timid",
            "timid = absent:Timid: No module named 'absent'; fix or uninstall the package",
        ),
    ],
)
def test_a_package_that_does_not_fit_is_named(
    point: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, {GROUPS[0]: point}))
    with pytest.raises(MixUnlearnError) as caught:
        dict(extended({"finetune": METHODS["finetune"]}, GROUPS[0]))
    assert str(caught.value) == f"entry point mixunlearn.methods: {message}"


@pytest.mark.parametrize(
    ("code", "limit_s", "message"),
    [
        ("raise SystemExit(0)", 30, "it raises SystemExit"),
        ("import time; time.sleep(100)", 0.1, "no end after 0.1 s"),
    ],
)
def test_a_package_that_exits_or_hangs_while_it_is_imported_is_named(
    code: str, limit_s: float, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "IMPORT_S", limit_s)
    monkeypatch.syspath_prepend(install(tmp_path, {GROUPS[0]: "timid = outsider:Timid"}, code))
    with pytest.raises(MixUnlearnError) as caught:
        dict(extended({}, GROUPS[0]))
    assert caught.value.exit_code == 2
    line = f"entry point mixunlearn.methods: timid = outsider:Timid: {message}; fix or uninstall"
    assert str(caught.value).startswith(line)


def test_nothing_is_added_without_packages() -> None:
    assert extended({"one": 1}, "mixunlearn.nothing") == {"one": 1}
