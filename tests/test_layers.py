"""The rules of the repository: import direction, what a wheel contains, one way to check."""

import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.structure import measured

ROOT = Path(__file__).parents[1]
LAYERS = ("mixunlearn", "trainables", "search_spaces", "report", "distributed")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


WRONG = {  # a file and what it must not import
    "mixunlearn/upward.py": "import report",
    "mixunlearn/heavy.py": "import ray",
    "report/sideways.py": "import search_spaces",
    "report/heavy.py": "import ray",
    "trainables/heavy.py": "import optuna",
    "distributed/search/stray_study.py": "import optuna",
    "distributed/search/stray_tracking.py": "import mlflow",
    "distributed/study/stray_cluster.py": "import ray",
    "distributed/config/upward.py": "import distributed.search.sweep",
    "distributed/tracking/upward.py": "import distributed.plan.plan",
    "distributed/rerun/sideways.py": "import distributed.compare.run",
    "distributed/study/first.py": "import distributed.study.second",  # a cycle
    "distributed/study/second.py": "import distributed.study.first",
    "distributed/heap.py": "",  # in no wing
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy of the code with all these files in it."""
    copy = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, copy / layer, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for file, line in WRONG.items():
        (copy / file).write_text(f"{line}\n")
    linted = lint_imports(copy)
    assert linted.returncode != 0
    return linted.stdout


def test_imports_go_down_only() -> None:
    linted = lint_imports(ROOT)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("file", [*WRONG][:11])
def test_an_import_in_the_wrong_direction_is_found(found: str, file: str) -> None:
    assert f"{file.removesuffix('.py').replace('/', '.')} -> " in found


def test_a_module_outside_of_all_wings_is_found(found: str) -> None:
    assert "- distributed.heap" in found


def test_a_cycle_between_modules_is_found(found: str) -> None:
    assert "No cycles are allowed in distributed.study" in found


def test_files_and_functions_are_short() -> None:
    figures = measured(ROOT)
    assert figures["all: largest file, lines"] <= 400
    assert figures["all: function length, median"] <= 8
    assert figures["all: function length, 90th percentile"] <= 20
    assert figures["all: longest function"] <= 45
    assert figures["distributed: cycles"] == 0


def test_only_one_package_is_installed(project: dict[str, Any]) -> None:
    build = project["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["packages"] == ["mixunlearn"]
    assert build["dev-mode-exact"] is True
    assert project["project"]["scripts"] == {"mixunlearn": "mixunlearn.__main__:main"}


def test_no_package_among_the_tests() -> None:
    """A `tests/distributed/__init__.py` would shadow the package of that name."""
    assert [*(ROOT / "tests").rglob("__init__.py")] == []


def test_before_a_commit_runs_what_check_runs() -> None:
    planned = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--always-make", "check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    setup = ("-m venv", "pip install", "touch ")
    check = [line for line in planned.stdout.splitlines() if not any(s in line for s in setup)]
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == check


def test_every_direct_dependency_is_constrained(project: dict[str, Any]) -> None:
    metadata = project["project"]
    extras = metadata["optional-dependencies"]
    everything = extras.pop("all")  # of this project's own extras
    assert everything == ["mixunlearn[tune,cluster,report,attack,data]"]
    wanted = chain(metadata["dependencies"], *extras.values())
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_name(pin) for pin in pins if "==" in pin and not pin.startswith("#")}
    assert {_name(requirement) for requirement in wanted} <= pinned
    assert not [pin for pin in pinned if pin.startswith(("nvidia-", "cuda-", "triton"))]


def _name(requirement: str) -> str:
    for separator in "=<>![; ":
        requirement = requirement.partition(separator)[0]
    return requirement.strip().lower().replace("_", "-")


def test_the_changelog_has_the_version_and_its_date(project: dict[str, Any]) -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    release = re.compile(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d")
    released = [release.fullmatch(each) for each in headings[1:]]
    assert all(released)
    assert project["project"]["version"] in {match[1] for match in released if match}


def test_the_citation_has_the_version(project: dict[str, Any]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["project"]["version"]
