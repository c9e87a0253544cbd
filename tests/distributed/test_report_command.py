"""`report` and `export` on real studies, without Ray and without a driver's lock."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from distributed.config.read import make_experiment
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from distributed.search import session
from distributed.search.outputs import write_json
from distributed.search.session import open_study
from distributed.search.summary import summarise
from mixunlearn.evaluation import Phase
from mixunlearn.store import Entry
from tests.fixtures import Command, Run

EXPERIMENT: Mapping[str, Any] = {
    "name": "small",
    "data": {"source": "digits", "limit": {"train": 300}},
    "model": {"name": "cnn", "width": 4},
    "task": {"kind": "class", "classes": [0]},
    "references": {"seeds": 2, "epochs": 1},
    "search": {"trials": 4, "epochs": 2},
}
OWN_MODEL = """
from torch import nn

def net(channels, size, classes):
    maps = nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(4)
    return nn.Sequential(*maps, nn.Flatten(), nn.Linear(64, classes))
"""
ERROR = "RuntimeError: diverged </script>"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A home with a study that has a verdict, and one that has none yet."""

    home: Path
    study: str
    unfinished: str


def begin(home: Path, seed: int, **changes: object) -> Plan:
    """Begin a study whose models are trained, as a sweep would."""
    experiment = {**EXPERIMENT, "search": {**EXPERIMENT["search"], "seed": seed}, **changes}
    plan = make_plan(make_experiment(experiment), home, command="a test").keep()
    for member in plan.references.missing():
        training = plan.references.training(member, torch.device("cpu"))
        training.epoch()
        plan.references.keep(member, training.model, 1.0)
    return plan


def measured(plan: Plan, phase: Phase) -> dict[str, float]:
    """The metrics of a trial that changes nothing."""
    original = plan.references.evaluation(plan.references.original, phase)
    compared = plan.references.evaluator(phase).references.compare(original)
    return {**compared, "time/unlearn_s": 1.0, "time/ratio_to_retrain": 0.5}


def search(plan: Plan, trials: int) -> None:
    """Record trials of which the last failed."""
    metrics = measured(plan, "val")
    with closing(open_study(plan, create=True)) as study:
        for number in range(trials):
            study.ask()
            study.report(number, 1, {**metrics, "gap/avg": 3.0 + number})
            last = number == trials - 1
            ended = ("failed", ERROR) if last else ("complete", None)
            study.finish(number, ended[0], seconds=1.5, error=ended[1])


def decide(plan: Plan) -> None:
    """Write a verdict."""
    with closing(open_study(plan)) as study:
        rows = study.rows()
    entry = Entry(record={"metrics": measured(plan, "test")}, tensors={}, path=plan.folder)
    trials, seeds = (f"trial {n}" for n in range(4)), (f"seed {n}" for n in range(3))
    examined = dict.fromkeys(("default", *trials, *seeds), entry)
    evaluator = plan.references.evaluator("test")
    assert plan.originals == 2
    summary = summarise(plan, rows, evaluator, examined, tracking_uri="none", seconds=9.0)
    write_json(summary, plan.folder / "summary.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("reports")
    finished, unfinished = begin(home, 0), begin(home, 1)
    search(finished, 4)
    decide(finished)
    search(unfinished, 1)
    return Place(home=home, study=finished.study, unfinished=unfinished.study)


@pytest.fixture
def command(place: Place, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*words: str) -> Run:
        monkeypatch.setattr(session, "connected", lambda address: pytest.fail("Ray was needed"))
        return mixunlearn(*words, "--home", str(place.home))

    return run


# --- report ----------------------------------------------------------------------------------


def test_a_study_has_its_page_in_its_folder(command: Command, place: Place) -> None:
    run = command("report", place.study, "--json")
    assert run.code == 0, run.err
    path = place.home / "studies" / place.study / "report.html"
    size = path.stat().st_size
    assert run.result == {"path": str(path), "bytes": size, "studies": [place.study]}
    assert run.out.splitlines()[0] == str(path)
    html = path.read_text()
    assert place.study in html
    assert '<p class="state">Undecided</p>' in html
    assert "The spread is unknown" in html
    assert "1 trial failed" in html


def test_several_studies_have_a_page_in_the_home(command: Command, place: Place) -> None:
    run = command("report", place.study, place.unfinished, place.study, "--json")
    assert run.code == 0, run.err
    assert run.result["path"] == str(place.home / "report.html")
    assert run.result["studies"] == [place.study, place.unfinished]
    html = (place.home / "report.html").read_text()
    assert "Studies side by side" in html
    assert "There is no verdict yet" in html


def test_a_report_changes_nothing_else(command: Command, place: Place, tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in place.home.rglob("*") if path.is_file()}

    before = content()
    run = command("report", place.study, "--output", str(tmp_path / "new" / "page.html"))
    assert run.code == 0, run.err
    assert content() == before
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("report {study} --output {new}/page.html", "page.html"),
        ("export {study} --output {new}/table.csv", "table.csv"),
        ("rerun {study}/0", "{study}, trial 0: "),
        ("sync {study} --dry-run", "{study}: 4 trials would be written to {home}/studies/"),
        ("data digits --set data.limit.train=300", "digits: 1797 images of 1×8×8"),
    ],
)
def test_what_is_in_a_read_only_home_can_be_used(
    place: Place,
    read_only: Callable[[Path], Path],
    mixunlearn: Command,
    tmp_path: Path,
    words: str,
    said: str,
) -> None:
    home = read_only(place.home)
    names = {"study": place.study, "home": str(home), "new": str(tmp_path / "new")}
    run = mixunlearn(*words.format(**names).split(), "--home", str(home))
    # The recorded numbers are not those of the trial: `rerun` finds a difference.
    assert run.code == (1 if words.startswith("rerun") else 0), run.err
    assert said.format(**names) in run.out
    assert "mixunlearn: " not in run.err


def test_a_study_can_be_read_without_the_code_of_its_model(
    mixunlearn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_small.py").write_text(OWN_MODEL)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        plan = begin(tmp_path, 0, model={"name": "own_small:net"})
        search(plan, 4)
        decide(plan)
    del sys.modules["own_small"]
    for verb in ("report", "export"):
        run = mixunlearn(verb, plan.study, "--home", str(tmp_path))
        assert run.code == 0, run.err
    page = (plan.folder / "report.html").read_text()
    assert '<p class="state">Undecided</p>' in page
    assert "own_small:net" in page
    run = mixunlearn("rerun", f"{plan.study}/0", "--home", str(tmp_path))
    assert run.code == 2
    assert "No module named 'own_small'" in run.err


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("report {study}", "--output"),
        ("sync {study}", "--home"),
        ("data mnist5k", "--home"),
    ],
)
def test_what_has_to_write_refuses_a_read_only_home(
    place: Place,
    read_only: Callable[[Path], Path],
    mixunlearn: Command,
    words: str,
    key: str,
) -> None:
    home = read_only(place.home)
    run = mixunlearn(*words.format(study=place.study).split(), "--home", str(home))
    assert run.code == 2, run.err
    assert run.err.startswith(f"mixunlearn: {key} = ")
    assert run.err.count("\n") == 1


def test_two_references_have_one_distance_to_each_other_and_no_spread(place: Place) -> None:
    path = place.home / "studies" / place.study / "summary.json"
    references = json.loads(path.read_text())["references"]
    assert references["gap/avg"]["sd"] is references["div/js"]["sd"] is None
    assert references["mia/asr"]["sd"] is not None


# --- export ----------------------------------------------------------------------------------


def test_csv_goes_to_standard_output(command: Command, place: Place) -> None:
    run = command("export", place.study)
    assert run.code == 0, run.err
    rows = list(csv.DictReader(io.StringIO(run.out)))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["error"] for row in rows] == ["", "", "", ERROR]
    assert rows[2]["gap/avg"] == "5"


@pytest.mark.parametrize("form", ["csv", "json", "latex", "parquet"])
def test_every_format_goes_to_a_file(
    command: Command, place: Place, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "new" / "file"
    run = command("export", place.study, "--format", form, "--output", str(path), "--json")
    assert run.code == 0, run.err
    result = {"study": place.study, "format": form, "trials": 4, "path": str(path)}
    assert run.result == {**result, "bytes": path.stat().st_size}
    assert list(path.parent.iterdir()) == [path]
    if form == "parquet":
        assert pq.read_table(path).column("state").to_pylist() == ["complete"] * 3 + ["failed"]


def test_whoever_reads_the_table_may_stop(
    command: Command, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        run = command("export", place.study)
    assert (run.code, run.err) == (0, "")


# --- mistakes --------------------------------------------------------------------------------


NONE = "STUDY = '{wrong}': no such study in {home}/studies; did you mean '{study}'?"
FOLDER = "--output = '{home}': cannot be written (Is a directory); choose another file"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("report {wrong}", NONE),
        ("report {study} {wrong}", NONE),
        ("export {wrong}", NONE),
        ("export {study} --format xls", "--format = 'xls': unknown; did you mean"),
        ("export {study} --format parquet", "--format = 'parquet': is not text; name a file with"),
        ("export {study} --output {home}", FOLDER),
        ("report {study} --output {home}", FOLDER),
        ("report {study} --set search.seed=5", "its data or settings have changed and now make"),
    ],
)
def test_a_mistake_is_one_line(command: Command, place: Place, words: str, said: str) -> None:
    names = {"study": place.study, "wrong": f"{place.study}x", "home": str(place.home)}
    run = command(*words.format(**names).split())
    assert run.code == 2
    assert said.format(**names) in run.err
    assert run.err.count("\n") == 1
    assert not [*place.home.rglob(".*.part"), *place.home.rglob(".*.tmp")]


def test_latex_of_a_study_without_a_verdict_is_refused(command: Command, place: Place) -> None:
    run = command("export", place.unfinished, "--format", "latex")
    assert run.code == 1
    assert f"{place.unfinished} has no verdict yet" in run.err
