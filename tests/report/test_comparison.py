"""Groups, tables and pages of a comparison, on invented results with known answers."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report.comparison import Standing, Table, Values, best_so_far, tables
from report.comparison_page import drawn, latex, lines, markdown, verdict, write_comparison
from report.runs import NOTHING, RETRAINED, CellResult, run_rows

ORIGINALS = 6
WOBBLE = np.array([-0.5, 0.4, 0.1, -0.2, 0.3, -0.1])  # what originals have in common


def distribution(values: Sequence[float] | Values) -> dict[str, Any]:
    found = [float(value) for value in values]
    return {"mean": float(np.mean(found)), "values": found, "n": len(found), "sd": 1.0}


def summary(accuracy: float, *, seeds: int = 1, originals: int = ORIGINALS) -> dict[str, Any]:
    """Return a summary of a method with this accuracy; the references' mean is 90."""
    noise = np.random.default_rng(round(10 * accuracy)).normal(0, 0.3, originals)
    own = accuracy + WOBBLE[:originals] + noise - noise.mean() * (originals > 1)
    values = np.concatenate([own + 0.05 * seed for seed in range(seeds)])
    untouched = distribution(95 + WOBBLE[:originals])
    count = len(values)
    spread = {
        "seeds": count,
        "trial": 1,
        "originals": [*range(originals)] * seeds,
        "gap/avg": distribution(np.abs(values - 90)),
        "acc/test": distribution(values),
        "time/unlearn_s": distribution([1.0] * count),
        "time/ratio_to_retrain": distribution([0.1] * count),
    }
    return {
        "objective": "gap/avg",
        "gap_metrics": ["acc/test"],
        "references": {
            "acc/test": distribution([89.8, 90.2, 90.0, 89.9, 90.1]),
            "gap/avg": distribution([0.2, 0.2, 0.0, 0.1, 0.1]),
            "time/unlearn_s": distribution([10.0, 12.0, 11.0, 11.0, 11.0]),
        },
        "original": {"acc/test": float(untouched["values"][0]), "gap/avg": 5.0},
        "originals": {"acc/test": untouched},
        "verdict": {"state": "undecided", "reasons": []},
        "default": {"gap/avg": 9.0},
        "best": [{"trial": 1}],
        "spread": spread,
    }


def old_summary(gaps: Sequence[float]) -> dict[str, Any]:
    """Return a summary of an earlier version: one original, whose metrics are numbers."""
    found = summary(88.0, seeds=len(gaps), originals=1)
    del found["spread"]["originals"], found["originals"], found["verdict"]
    found["spread"]["gap/avg"] = distribution(gaps)
    return {**found, "original": {"gap/avg": 1.5, "acc/test": 92.0, "div/js": 0.1}}


def result(method: str, seed: int = 0, **more: Any) -> CellResult:
    rows = [
        {"trial": 1, "state": "complete", "gap/avg": 4.0, "seconds": 3.0},
        {"trial": 0, "state": "pruned", "gap/avg": 6.0, "seconds": 2.0},
        {"trial": 2, "state": "failed", "gap/avg": 0.5, "seconds": 1.0},
        {"trial": 3, "state": "complete", "gap/avg": 5.0, "seconds": None},
    ]
    given = {"rows": rows, "study": f"s-{method}", **more}
    return CellResult(data="d", task="t", labels="aware", method=method, seed=seed, **given)


@pytest.fixture
def results() -> list[CellResult]:
    return invented_results()


def invented_results() -> list[CellResult]:
    return [
        result("none", absent="n/a: needs labels", rows=[], study=""),
        result("far", summary=summary(70.0)),
        result("near", summary=summary(90.6, seeds=2)),
        result("near", seed=1, summary=summary(90.7)),
        result("like near", summary=summary(90.8)),
        result("like the original", summary=summary(95.1)),
    ]


def standing(table: Table, method: str) -> Standing:
    return next(each for each in table.standings if each.method == method)


def test_methods_are_grouped_by_whether_they_are_told_apart(results: list[CellResult]) -> None:
    (table,) = tables(results)
    known = ["near", "like near", NOTHING, "like the original", "far"]
    assert [each.method for each in table.standings] == [*known, "none"]
    assert [each.group for each in table.standings] == ["a", "a", "b", "b", "c", ""]
    near = standing(table, "near")
    assert near.searches == 2
    assert near.cost == pytest.approx(6.0)
    assert near.distance
    assert near.distance.value == pytest.approx(0.65, abs=0.06)
    assert near.distance.low < near.distance.value < near.distance.high
    assert near.against_nothing
    assert near.against_nothing.value == pytest.approx(0.65 - 5, abs=0.1)
    assert near.against_nothing.p < 0.001
    assert standing(table, "none").absent == "n/a: needs labels"
    assert table.few == ""


def test_without_five_originals_nothing_is_told_apart() -> None:
    old = [
        result("far", summary=old_summary([20.0, 21.0, 22.0])),
        result("near", summary=old_summary([1.0, 1.2, 1.4])),
    ]
    (table,) = tables(old)
    assert [each.group for each in table.standings] == ["", "", ""]
    assert table.few == "Too few originals (1 original; 5 are needed): not told apart."
    said = f"{table.few} Smallest distance to retraining: "
    assert verdict(table).startswith(said)
    assert "told apart from" not in verdict(table)
    new = [result(name, summary=summary(90.5)) for name in ("new", "newer")]
    (mixed,) = tables([*new, *old])
    assert (
        mixed.few
        == "Too few originals, so not told apart from any: far (1), near (1), doing nothing (1)."
    )
    assert standing(mixed, "near").group == standing(mixed, "new").group


def test_runs_are_written_with_where_they_come_from(results: list[CellResult]) -> None:
    rows = [*run_rows(results)]
    near = [row for row in rows if (row["method"], row["seed"]) == ("near", 0)]
    assert [(row["original"], row["fresh"]) for row in near] == [
        *((original, fresh) for fresh in range(2) for original in range(ORIGINALS))
    ]
    assert near[7]["acc/test"] == pytest.approx(near[1]["acc/test"] + 0.05)
    assert "gap/avg" not in near[0]
    shared = [row["method"] for row in rows if row["seed"] is None]
    assert shared == [RETRAINED] * 5 + [NOTHING] * ORIGINALS
    assert [row["original"] for row in rows[:6]] == [None] * 5 + [0]
    (old, *_) = run_rows([result("old", summary=old_summary([1.0, 2.0]))])
    assert old["method"] == RETRAINED


def test_the_best_so_far_goes_by_trial_and_leaves_out_failures() -> None:
    rows = result("x").rows
    assert best_so_far(rows, "gap/avg").tolist() == [6.0, 4.0, 4.0, 4.0]
    unknown = best_so_far([{"trial": 0, "gap/avg": None}, {"trial": 1, "gap/avg": 2.0}], "gap/avg")
    assert np.isnan(unknown[0])
    assert unknown[1] == 2.0
    assert best_so_far([], "gap/avg").tolist() == []


def test_the_verdict_says_what_cannot_be_told_apart(results: list[CellResult]) -> None:
    (table,) = tables(results)
    near = table.known[0].distance
    assert near
    assert verdict(table) == (
        f"Smallest distance to retraining: near (undecided), {near.value:.2f} pp, not told apart "
        "from like near. Better than doing nothing: near, like near. Worse than doing nothing: far."
    )
    (idle,) = tables([result("like the original", summary=summary(95.1))])
    assert verdict(idle).endswith("No method is shown to be better than doing nothing.")
    (empty,) = tables([result("none", absent="to come", rows=[])])
    assert verdict(empty) == "No method has a result yet."


def test_latex_compiles_and_fits_on_the_page(results: list[CellResult], tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("there is no pdflatex here")
    source = latex(r"a_b% \x{$&#^~", tables(results))
    packages = source.partition("\n")[0].removeprefix("% ")
    text = f"\\documentclass{{article}}{packages}\\begin{{document}}{source}\\end{{document}}"
    (tmp_path / "tables.tex").write_text(text)
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout


def test_all_writings_hold_the_same_rows(results: list[CellResult], tmp_path: Path) -> None:
    (table,) = made = tables(results)
    shown = {line.name: line for line in lines(table)}
    assert [*shown][:2] == [RETRAINED, "near"]
    assert shown["near"].cells[0] == "a"
    assert shown["none"].cells[0] == "n/a"
    assert shown[NOTHING].style == "original"
    assert (shown["near"].cells[-1], shown[NOTHING].cells[-1]) == ("undecided", "–")
    assert shown["near"].cells[2].endswith(" (p < 0.001)")
    assert any("(6), bias −20.0" in cell for cell in shown["far"].cells)
    text = markdown(made)
    assert "| near | a |" in text
    source = latex("a_b", made)
    assert r"a\_b: d, t, label-aware" in source
    assert r"like near & a &" in source
    assert not set("–±−") & set(source)
    assert drawn(table)


def test_the_page_links_to_the_studies_and_colours_their_verdicts(
    results: list[CellResult], tmp_path: Path
) -> None:
    found = [
        replace(each, summary=judged(each, "equivalent to retraining" if each.seed else "harmful"))
        for each in results
    ]
    pages = {"s-near": "../../studies/s-near/report.html", "s-far": "../../studies/s-far/"}
    write_comparison("a<b", tables(found), found, tmp_path / "page.html", pages)
    page = (tmp_path / "page.html").read_text()
    assert "a&lt;b" in page
    assert "<script" not in page
    assert '<a href="../../studies/s-far/">far</a>' in page
    assert page.count('<a href="../../studies/s-near/report.html">seed ') == 2
    assert "like near</th>" in page  # a study that is not there has no link


@pytest.mark.parametrize(
    ("state", "look"),
    [
        ("equivalent to retraining", "within"),
        ("better than doing nothing, not equivalent", "partly"),
        ("harmful (utility lost)", "beyond"),
        ("undecided", ""),
    ],
)
def test_the_nearest_methods_verdict_has_its_colour(
    state: str, look: str, results: list[CellResult], tmp_path: Path
) -> None:
    found = [replace(each, summary=judged(each, state)) for each in results]
    write_comparison("c", tables(found), found, tmp_path / "page.html", {})
    page = (tmp_path / "page.html").read_text()
    assert f'<div class="verdict {look}">\n<p class="state">near: {state}</p>' in page
    assert f'<td class="number {look}">{state.partition(" (")[0]}<' in page


def judged(found: CellResult, state: str) -> dict[str, Any]:
    """The summary of a study, with this verdict."""
    verdict = {"state": state, "reasons": []}
    return {**found.summary, "verdict": verdict} if found.summary else {}


def test_the_curves_are_drawn_in_the_colours_of_the_page(
    results: list[CellResult], tmp_path: Path
) -> None:
    write_comparison("c", tables(results), results, tmp_path / "page.html", {})
    page = (tmp_path / "page.html").read_text()
    key = page.partition('<ul class="key">')[2].partition("</ul>")[0]
    assert re.findall("</svg>([^<]+)", key) == ["near", "like near", "like the original", "far"]
    (curves,) = re.findall('<svg role="img".*?</svg>', page, flags=re.DOTALL)
    assert "currentColor" in curves
    assert not re.search("#000000|#222222|#ffffff|<!--", curves)
