"""The last lines of a sweep: one verdict, paths that can be copied, the next command."""

from pathlib import Path
from typing import Any

import pytest

from distributed.cli.compare import after_comparison
from distributed.cli.last_lines import next_command, print_result
from distributed.study.folder import StudyFolder

SWEEP = "mixunlearn sweep 'a home/studies/tiny-1/experiment.yaml'"


def summary(
    state: str = "undecided", *, failed: int = 0, originals: int = 5, references: int = 5
) -> dict[str, Any]:
    return {
        "best": [{"trial": 3}],
        "trials": {"complete": 4, "pruned": 2, "failed": failed},
        "originals": {name: {"n": originals} for name in ("mia/asr", "acc/val")},
        "references": {name: {"n": references} for name in ("mia/asr", "acc/val")},
        "verdict": {"state": state, "reasons": ["a reason that is not shown"]},
    }


@pytest.mark.parametrize(
    ("found", "following"),
    [
        (summary("equivalent to retraining"), "mixunlearn evidence tiny-1"),
        (summary("better than doing nothing, not equivalent"), f"{SWEEP} --trials 12"),
        (summary("no better than doing nothing"), f"{SWEEP} --trials 12"),
        (summary("harmful (utility lost)"), f"{SWEEP} --trials 12"),
        (summary("undecided"), f"{SWEEP} --set references.originals=10"),
        (summary("undecided", originals=1), f"{SWEEP} --set references.originals=3"),
        (
            summary("undecided", originals=1, references=1),
            f"{SWEEP} --set references.originals=5 --set references.seeds=5",
        ),
        (summary("undecided", failed=1), f"{SWEEP} --retry-failed"),
        ({**summary(failed=6), "best": [], "verdict": []}, f"{SWEEP} --retry-failed"),
    ],
)
def test_the_next_command_is_what_the_verdict_asks_for(
    found: dict[str, Any], following: str
) -> None:
    home = Path("a home")
    files = StudyFolder(path=home / "studies" / "tiny-1")
    assert next_command(files, home, found) == f"{following} --home 'a home'"


def test_the_last_lines_are_whole_and_the_last_one_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    files = StudyFolder(path=Path("runs/studies/tiny-[1]-with-a-name-that-is-long"))
    print_result(files, Path("runs"), summary())
    assert capsys.readouterr().out.splitlines() == [
        "MLflow   mixunlearn ui",
        "verdict  Trial 3 of 6 is undecided.",
        "report   runs/studies/tiny-[1]-with-a-name-that-is-long/report.html",
        "next     mixunlearn sweep 'runs/studies/tiny-[1]-with-a-name-that-is-long/experiment.yaml'"
        " --set references.originals=10",
    ]
    files = StudyFolder(path=tmp_path)
    files.model(3).mkdir(parents=True)
    print_result(files, Path("runs"), summary())
    assert f"\nmodel    {files.model(3)}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("only", "left", "failed", "following"),
    [
        (None, False, False, "mixunlearn evidence tiny.yaml --set search.trials=3"),
        (None, False, True, "mixunlearn compare tiny.yaml --set search.trials=3"),
        (
            "method=salun",
            True,
            True,
            "mixunlearn compare tiny.yaml --only method=salun --set search.trials=3",
        ),
        ("method=salun", True, False, "mixunlearn compare tiny.yaml --set search.trials=3"),
    ],
)
def test_a_part_of_a_comparison_is_followed_by_the_rest_of_it(
    only: str | None, left: bool, failed: bool, following: str
) -> None:
    settings = ["search.trials=3"]
    file, home = Path("tiny.yaml"), Path("runs")
    assert after_comparison(file, only, settings, home, left=left, failed=failed) == following
