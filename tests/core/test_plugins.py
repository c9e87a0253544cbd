"""Methods of other packages: found through entry points, or an error of one line."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from mixunlearn.errors import MixUnlearnError
from mixunlearn.methods import METHODS
from mixunlearn.plugins import extended

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
    command = [sys.executable, "-c", dedent(code), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_method_of_another_package_is_one_of_ours(tmp_path: Path, problem_file: Path) -> None:
    points = dict(zip(GROUPS, ("timid = outsider:Timid", "timid = outsider:space"), strict=True))
    ran = python(TRAIN, install(tmp_path, points), str(problem_file))
    assert ran.returncode == 0, ran.stderr
    known, default, losses = json.loads(ran.stdout)
    assert known == [True, True]
    assert default == {"share": 0.5}
    assert losses["train/loss"] > 0


PLAN = """
    import sys
    from pathlib import Path
    from distributed.config.experiment import make_experiment
    from distributed.plan.make import make_plan

    content = {"name": "x", "data": {"source": "digits"}, "task": {"kind": "class", "classes": [0]}}
    experiment = make_experiment({**content, "model": {"name": "cnn"}, "method": "timid"})
    make_plan(experiment, Path(sys.argv[1]), command="x")
"""


def test_a_method_without_a_space_is_named(tmp_path: Path) -> None:
    ran = python(PLAN, install(tmp_path, {GROUPS[0]: "timid = outsider:Timid"}), str(tmp_path))
    assert "method = 'timid': has no space" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            "finetune = outsider:Timid",
            "finetune = outsider:Timid: the name is taken; give it another",
        ),
        (
            "timid = absent:Timid",
            "timid = absent:Timid: No module named 'absent'; mend or uninstall the package",
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


def test_nothing_is_added_without_packages() -> None:
    assert extended({"one": 1}, "mixunlearn.nothing") == {"one": 1}
