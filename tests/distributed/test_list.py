"""`list`, names of studies, and the words that a shell completes."""

from pathlib import Path

import pytest
import typer
from typer.main import get_command

from distributed.cli import home as home_commands
from distributed.cli.completion import preset_names, study_names
from distributed.study.folder import full_name, study_folder
from mixunlearn.errors import InputError
from mixunlearn.release import __version__
from tests.fixtures import Command
from tests.mistakes import STUDY, old_home

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of an earlier version."""
    return old_home(tmp_path)


def test_the_version(mixunlearn: Command) -> None:
    assert mixunlearn("--version").out == f"mixunlearn {__version__}\n"


def test_what_a_home_has(mixunlearn: Command, home: Path) -> None:
    before = sorted(home.rglob("*"))
    listed = mixunlearn("list", "--home", str(home), "--json")
    assert listed.code == 0, listed.err
    found = listed.result
    assert STUDY in [study["study"] for study in found["studies"]]
    (study,) = [study for study in found["studies"] if study["study"] == STUDY]
    assert study["trials"] == 4
    assert study["task"] == "class"
    assert found["records"] == []
    assert f"{STUDY}\t" in listed.out
    assert sorted(home.rglob("*")) == before


def test_a_home_with_nothing(mixunlearn: Command, tmp_path: Path) -> None:
    assert mixunlearn("list", "--home", str(tmp_path)).out == (
        "studies: none\nchampions: none\nrecords: none\n"
    )
    gone = mixunlearn("list", "--home", str(tmp_path / "gone"))
    assert gone.code == 2
    assert "no such folder" in gone.err


def test_what_is_damaged_is_no_error(mixunlearn: Command, tmp_path: Path) -> None:
    folder = study_folder(tmp_path, "broken-1")
    folder.path.mkdir(parents=True)
    folder.experiment.write_text("task: [")
    folder.summary.write_text("[]")
    folder.trials.write_text("no table")
    (study,) = mixunlearn("list", "--home", str(tmp_path), "--json").result["studies"]
    assert study == {
        "study": "broken-1",
        "method": None,
        "task": None,
        "trials": None,
        "state": "not finished",
        "gap/avg": None,
    }


def test_mlflow_that_does_not_answer_costs_only_the_champions(
    mixunlearn: Command, tmp_path: Path
) -> None:
    listed = mixunlearn(
        "list", "--home", str(tmp_path), "--set", "tracking.uri=http://127.0.0.1:9", "--json"
    )
    assert (listed.code, listed.result["champions"]) == (0, [])
    assert "does not answer" in listed.err


def test_tables_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    home_commands._show("studies", [{"study": "a[b]", "gap/avg": 1.234, "state": None}])
    said = capsys.readouterr().out
    assert "a[b]" in said
    assert "1.23" in said
    assert "–" in said


@pytest.fixture
def named(tmp_path: Path) -> Path:
    for name in ("mnist-class-12", "mnist-class-34", "mnist-data-5", "mnist"):
        study_folder(tmp_path, name).path.mkdir(parents=True)
        study_folder(tmp_path, name).experiment.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("mnist-d", "mnist-data-5"),
        ("mnist-class-1", "mnist-class-12"),
        ("mnist-class-12", "mnist-class-12"),
        ("mnist", "mnist"),  # a whole name, although others begin so
        ("cifar", "cifar"),
        ("", ""),
        ("*", "*"),
    ],
)
def test_a_study_is_named_by_its_beginning(named: Path, word: str, name: str) -> None:
    assert full_name(named, word) == name


def test_a_beginning_of_several_studies_is_refused(named: Path) -> None:
    with pytest.raises(InputError, match=r"2 studies begin so: mnist-class-12, mnist-class-34; "):
        full_name(named, "mnist-c")


def test_a_shell_completes_names(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = typer.Context(get_command(typer.Typer(callback=lambda: None)))
    context.params = {"home": str(named)}
    assert study_names(context, "mnist-c") == ["mnist-class-12", "mnist-class-34"]
    monkeypatch.setenv("MIXUNLEARN_HOME", str(named))
    context.params = {}
    assert study_names(context, "mnist-d") == ["mnist-data-5"]
    assert preset_names("digits_i") == ["digits_ids"]


def test_commands_take_the_beginning_of_a_name(mixunlearn: Command, home: Path) -> None:
    begin = STUDY[:7]
    done = mixunlearn("export", begin, "--home", str(home), "--json")
    assert (done.code, done.result["study"]) == (0, STUDY), done.err
    done = mixunlearn("sync", begin, "--dry-run", "--home", str(home), "--json")
    assert (done.code, done.result["study"]) == (0, STUDY), done.err
