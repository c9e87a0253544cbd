"""The wheel, installed into an empty virtual environment with Dask's `distributed` in it."""

import json
import os
import random
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.drills.cluster import nodes
from tests.drills.process import FOREIGN

ROOT = Path(__file__).parents[1]
TINY = (
    "--trials=2",
    "--set=search.epochs=1",
    "--set=references.seeds=2",
    "--set=references.epochs=1",
    "--set=references.originals=1",
)
WHERE = """
import json, sys
from mixunlearn.__main__ import program_folder
sys.path.insert(0, str(program_folder()))
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
from distributed.cluster.connection import connected

@ray.remote(num_cpus=1)
def where():
    import distributed, mixunlearn, trainables
    return [each.__file__ for each in (distributed, mixunlearn, trainables)]

with connected(sys.argv[1]):
    nodes = [node["NodeID"] for node in ray.nodes()]
    asked = [where.options(scheduling_strategy=On(node, soft=False)).remote() for node in nodes]
    print(json.dumps(ray.get(asked)))
"""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment with the wheel.

    Args:
        packages: its folder of packages.
        folder: an empty folder, in which commands run.
    """

    packages: Path
    folder: Path

    @property
    def python(self) -> str:
        """Its Python."""
        return str(self.packages.parents[2] / "bin" / "python")

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """Return what a command prints."""
        command, *others = words
        kept = {n: text for n, text in os.environ.items() if n not in (*FOREIGN, "PYTHONPATH")}
        done = subprocess.run(
            [str(Path(self.python).with_name(command)), *others],
            cwd=self.folder,
            env={**kept, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = str(tmp_path_factory.mktemp("dist"))
    return Path(next(WheelBuilder(str(ROOT)).build(directory=folder, versions=["standard"])))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("environment")
    venv.create(root / "venv", symlinks=True)
    (packages,) = (root / "venv").glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(root / "venv/bin/python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    # All other packages are borrowed, but not this project's own: Python reads no .pth there.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    (packages / "distributed" / "cli").mkdir(parents=True)
    (packages / "distributed" / "__init__.py").write_text("OWNER = 'Dask'\n")
    (packages / "distributed" / "cli" / "__init__.py").touch()
    (root / "work").mkdir()
    return Installed(packages=packages, folder=root / "work")


def test_a_wheel_has_one_package_with_everything_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"mixunlearn"}
    inside = {name.removeprefix("mixunlearn/_program/") for name in names}
    assert {"mixunlearn/py.typed", "pyproject.toml", "distributed/cli/app.py"} <= inside
    assert {"report/page.css", "report/page.html.j2", "experiments/mnist_class.yaml"} <= inside
    assert not [name for name in names if "/." in name or "__pycache__" in name]


def test_an_editable_installation_holds_no_copy(tmp_path: Path) -> None:
    """Python would take the folder of the copies for the library."""
    made = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["editable"]))
    with zipfile.ZipFile(made) as archive:
        assert not [name for name in archive.namelist() if "_program" in name]


def test_dask_keeps_its_name_and_the_program_works(installed: Installed) -> None:
    code = "import distributed; print(distributed.OWNER)"
    assert installed.run("python", "-c", code) == "Dask\n"
    assert installed.run("mixunlearn", "--version").startswith("mixunlearn ")
    assert "mnist_class\tThe quickstart" in installed.run("mixunlearn", "init")
    words = ("python", "-m", "mixunlearn", "init", "digits_class")
    assert installed.run(*words) == "digits_class.yaml\n"


@pytest.mark.drill
def test_a_sweep_runs_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    home = ("--home", str(tmp_path / "home"))
    assert "digits-class-" in installed.run("mixunlearn", "sweep", "digits_class", *TINY, *home)
    assert "\tmixunlearn\tclass\t2\t" in installed.run("mixunlearn", "list", *home)


@pytest.mark.drill
def test_each_node_of_a_cluster_gets_the_program_of_the_wheel(installed: Installed) -> None:
    """The nodes have another environment; each says which files it has imported."""
    with nodes(random.Random(7), [sys.executable, "-m", "ray.scripts.scripts"]) as two:
        words = ("python", "-c", WHERE, two.address)
        found = json.loads(installed.run(*words, environment=two.environment).splitlines()[-1])
    assert len(found) == 2
    for path in (path for node in found for path in node):
        assert "working_dir_files" in path
