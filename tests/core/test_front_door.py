"""`import mixunlearn` gives the names that a user needs and the version, and is fast."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import mixunlearn
from mixunlearn import data, methods, models
from mixunlearn.methods import METHODS, Method
from mixunlearn.release import UNKNOWN, version_of_checkout

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "pyarrow", "scipy", "ray", "mlflow", "optuna", "pydantic")


def python(code: str, *options: str) -> str:
    """Return what code prints in a separate process that can import the checkout."""
    ran = subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()


@pytest.mark.parametrize("name", mixunlearn.__all__)
def test_every_name_is_the_one_of_its_module(name: str) -> None:
    defined = getattr(import_module(mixunlearn._PLACES[name]), name)
    assert getattr(mixunlearn, name) is defined


def test_the_names_are_those_of_all() -> None:
    assert set(mixunlearn._PLACES) == set(mixunlearn.__all__)
    assert dir(mixunlearn) == sorted(mixunlearn.__all__)


@pytest.mark.parametrize("package", [mixunlearn, methods, models])
def test_another_name_is_the_usual_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'no'"):
        getattr(package, "no")  # noqa: B009 (a type checker knows that it is not there)


def test_names_are_listed_without_importing_what_they_stand_for() -> None:
    code = (
        "import sys, json\n"
        "import mixunlearn\n"
        "from mixunlearn.data import SOURCES\n"
        "from mixunlearn.methods import METHODS\n"
        "from mixunlearn.models import MODELS\n"
        "from search_spaces import SPACES\n"
        "known = {'digits': SOURCES, 'scrub': METHODS, 'cnn': MODELS, 'salun': SPACES}\n"
        "assert all(name in names and 'no' not in names for name, names in known.items())\n"
        "assert list(METHODS) == list(SPACES)\n"
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )
    assert json.loads(python(code)) == []


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_is_a_method(name: str) -> None:
    assert issubclass(METHODS[name], Method)


@pytest.mark.parametrize("names", [data.SOURCES, data.CONTENTS, data.ROW_NAMES, models.MODELS])
def test_every_entry_can_be_called(names: dict[str, object]) -> None:
    assert all(callable(names[name]) for name in names)


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert mixunlearn.__version__ == project["version"]


def test_the_version_is_known_without_an_installation() -> None:
    code = "import mixunlearn; print(mixunlearn.__version__)"
    assert python(code, "-S") == mixunlearn.__version__  # -S: no installed package is found


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('[project]\nname = "mixunlearn"\nversion = "7.1"\n', "7.1"),
        ('[project]\nname = "other"\nversion = "7.1"\n', UNKNOWN),
        ("[tool]\n", UNKNOWN),
        ("no TOML", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_the_version_of_a_checkout_is_its_own(
    tmp_path: Path, text: str | None, version: str
) -> None:
    path = tmp_path / "pyproject.toml"
    if text is not None:
        path.write_text(text)
    assert version_of_checkout(path) == version
