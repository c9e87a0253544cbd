import json
import re
from dataclasses import replace
from typing import Any

import pytest

from report.description import LENGTH, describe
from report.leaderboard import ROWS, leaderboard
from report.report_data import ReportData


def row(number: int, gap: float | None, state: str = "complete") -> dict[str, Any]:
    params = {"params/lr": 1e-4 * (number + 1), "params/pairing": "any", "params/omega": None}
    return {
        **{"study": "3f2a91bc", "trial": number, "state": state, "epochs": 6, "seconds": 12.0},
        **params,
        "gap/avg": gap,
        "mlflow_run_id": f"{number:032x}",
        "error": "it broke" if state == "failed" else None,
    }


@pytest.fixture
def report_data(summary: dict[str, Any]) -> ReportData:
    gaps = {best["trial"]: float(rank) for rank, best in enumerate(summary["best"], start=1)}
    rows = [row(number, gaps.get(number, 50.0)) for number in range(15)]
    return ReportData(
        summary=summary,
        rows=[*rows, row(15, None, "failed")],
        curves={},
        ended=[],
        axes={},
        objective="gap/avg",
        facts={"data": "mnist5k, images of 1×28×28", "forget set": "423 images of class 0"},
        commands={"resume": "mixunlearn sweep here", "this report": "mixunlearn report 3f2a91bc"},
        warnings=["Only 3 references."],
    )


def table_row(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_study_is_described_by_its_verdict(report_data: ReportData) -> None:
    text = describe(report_data)
    assert text.startswith("**3f2a91bc**: Trial 11 of 16 is better than doing nothing")
    assert table_row(text, "references, retrained")[1] == "0.0 ± 0.0 (3)"
    assert table_row(text, "original")[1] == "99.8 (Δ 99.8)"
    assert table_row(text, "default, trial 0")[4].startswith("44.1 (Δ 4.7)")
    assert table_row(text, "best 1, trial 11")[4] == "38.4 (Δ 1.0)"
    assert table_row(text, "fresh seeds, trial 11 again")[6] == "1.07 ± 0.25 (3)"
    assert "- Only 3 references." in text
    assert "**Trial 11**: lr = 0.0012" in text
    assert "omega" not in text  # a hyperparameter that the trial does not have
    assert "rerun: `mixunlearn rerun 3f2a91bc/11`" in text
    costs = "16 trials (15 complete, 0 pruned, 1 failed) took 192 s in total, the last sweep 260 s"
    assert costs in text
    assert "- resume: `mixunlearn sweep here`" in text
    assert table_row(text, "forget set") == ["forget set", "423 images of class 0"]


def test_a_study_that_has_just_begun_says_how_to_go_on(report_data: ReportData) -> None:
    text = describe(replace(report_data, summary={"study": "3f2a91bc"}, rows=[]))
    assert text.startswith("**3f2a91bc**: There is no verdict yet")
    assert "- resume: `mixunlearn sweep here`" in text
    assert table_row(text, "data")[1] == "mnist5k, images of 1×28×28"
    assert "best 1" not in text


def test_a_description_is_cut_between_lines(report_data: ReportData) -> None:
    facts = {f"fact {number}": "x" * 90 for number in range(200)}
    text = describe(replace(report_data, facts=facts))
    assert LENGTH - 110 < len(text) <= LENGTH
    *rows, last = text.splitlines()
    assert last == "…"
    assert rows[-1].endswith("x |")
    assert describe(replace(report_data, facts={"one": "x" * 9_000})).endswith(
        "| study | |\n|---|---|\n…"
    )


def test_what_a_user_named_is_not_taken_for_markdown(report_data: ReportData) -> None:
    text = describe(replace(report_data, facts={"forget set": "class a|b\n<img src=x> **c** `d`"}))
    assert "| forget set | class a\\|b &lt;img src=x> \\*\\*c\\*\\* \\`d\\` |" in text
    names = r"[a](http://e) \[b](c) ![](x) <http://e> https://e www.e ann@e &#104; \| WWW.e"
    (row,) = (
        line
        for line in describe(replace(report_data, facts={"classes": names})).splitlines()
        if line.startswith("| classes |")
    )
    assert re.sub(r"\\[^\w\s]", "", row).count("|") == 3
    for live in (r"(?<!\\)(\\\\)*\[", "<", "://", r"(?i)www\.", "@", "&#104"):
        assert not re.search(live, row)


def test_a_study_without_a_result_is_described(
    report_data: ReportData, summary: dict[str, Any]
) -> None:
    failed = {**summary, "best": [], "spread": [], "default": None}
    text = describe(replace(report_data, summary=failed, rows=[row(0, None, "failed")]))
    assert "No trial has a result." in text
    assert table_row(text, "original")[1] == "99.8 (Δ 99.8)"


def test_the_leaderboard_has_the_best_first_and_failures_last(report_data: ReportData) -> None:
    table = json.loads(json.dumps(leaderboard(report_data), allow_nan=False))
    assert table["columns"][:3] == ["rank", "trial", "verdict"]
    assert table["columns"][3:5] == ["gap/avg on val", "gap/avg on test"]
    found = [dict(zip(table["columns"], each, strict=True)) for each in table["data"]]
    assert [each["trial"] for each in found[:5]] == [11, 7, 14, 3, 9]
    assert [each["rank"] for each in found] == [*range(1, 16), None]
    assert found[-1]["state"] == "failed"
    first = found[0]
    assert first["verdict"] == "better than doing nothing, not equivalent"
    assert {each["verdict"] for each in found[1:]} == {None}
    assert first["gap/avg on val"] == 1.0
    assert first["mia/asr on test"] == 38.4
    assert first["lr"] == pytest.approx(0.0012)
    assert first["mlflow_run_id"] == f"{11:032x}"
    assert first["command"] == "mixunlearn rerun 3f2a91bc/11"
    assert found[7]["mia/asr on test"] is None  # not measured on test


def test_a_long_leaderboard_is_cut(report_data: ReportData) -> None:
    rows = [row(number, float(number)) for number in range(ROWS + 50)]
    assert len(leaderboard(replace(report_data, rows=rows))["data"]) == ROWS
