"""Ranks, tables and pages of a comparison, on invented results with known answers."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report.comparison import CellResult, best_so_far, rank_bounds, tables
from report.comparison_page import latex, lines, markdown, verdict, write_comparison


def distribution(values: list[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "values": values, "n": len(values), "sd": 1.0}


def summary(gaps: list[float], default: float | None = 9.0) -> dict[str, Any]:
    references = {
        "acc/test": distribution([90.0, 91.0]),
        "gap/avg": distribution([1.0, 2.0]),
        "time/unlearn_s": distribution([10.0, 12.0]),
    }
    spread = {
        "seeds": len(gaps),
        "trial": 1,
        "gap/avg": distribution(gaps),
        "acc/test": distribution([88.0] * len(gaps)),
        "z/acc/test": distribution([-2.0] * len(gaps)),
        "time/unlearn_s": distribution([1.0] * len(gaps)),
        "time/ratio_to_retrain": distribution([0.1] * len(gaps)),
    }
    return {
        "objective": "gap/avg",
        "gap_metrics": ["acc/test"],
        "references": references,
        "original": {"gap/avg": 1.5, "acc/test": 92.0},
        "default": None if default is None else {"gap/avg": default},
        "best": [{"trial": 1}],
        "spread": spread,
    }


def result(method: str, seed: int = 0, **more: Any) -> CellResult:
    rows = [
        {"trial": 1, "gap/avg": 4.0, "seconds": 3.0},
        {"trial": 0, "gap/avg": 6.0, "seconds": 2.0},
        {"trial": 2, "gap/avg": None, "seconds": 1.0},
        {"trial": 3, "gap/avg": 5.0, "seconds": None},
    ]
    given = {"rows": rows, "study": f"s-{method}", **more}
    return CellResult(data="d", task="t", labels="aware", method=method, seed=seed, **given)


@pytest.fixture
def results() -> list[CellResult]:
    return [
        result("far", summary=summary([20.0, 21.0, 22.0])),
        result("near", summary=summary([1.0, 1.2, 1.4])),
        result("near", seed=1, summary=summary([1.6, 1.8], default=None)),
        result("like near", summary=summary([1.1, 1.3, 1.9])),
        result("none", absent="n/a: needs labels", rows=[], study=""),
    ]


def test_methods_are_ranked_by_mean_gap_over_all_searches(results: list[CellResult]) -> None:
    (table,) = tables(results)
    assert [each.method for each in table.standings] == ["near", "like near", "far", "none"]
    near, like, far, none = table.standings
    assert near.gap == pytest.approx((1.0 + 1.2 + 1.4 + 1.6 + 1.8) / 5)
    assert near.searches == 2
    assert near.default.tolist() == [9.0]
    assert near.cost == pytest.approx(6.0)
    assert (near.rank, like.rank, far.rank, none.rank) == (1, 2, 3, None)
    assert near.ranks == (1, 2) == like.ranks
    assert far.ranks == (3, 3)
    assert none.absent == "n/a: needs labels"


def test_bounds_of_ranks() -> None:
    apart = [np.array([1.0, 1.1]), np.array([5.0, 5.1]), np.array([3.0, 3.1])]
    assert rank_bounds(apart) == [(1, 1), (3, 3), (2, 2)]
    alike = [np.array([1.0, 3.0, 2.0])] * 3
    assert rank_bounds(alike) == [(1, 3)] * 3
    assert rank_bounds([np.array([1.0]), np.array([1.0])]) == [(1, 1), (1, 1)]


def test_the_best_so_far_goes_by_trial_and_never_up() -> None:
    rows = result("x").rows
    assert best_so_far(rows, "gap/avg").tolist() == [6.0, 4.0, 4.0, 4.0]
    unknown = best_so_far([{"trial": 0, "gap/avg": None}, {"trial": 1, "gap/avg": 2.0}], "gap/avg")
    assert np.isnan(unknown[0])
    assert unknown[1] == 2.0
    assert best_so_far([], "gap/avg").tolist() == []


def test_the_verdict_says_what_cannot_be_told_apart(results: list[CellResult]) -> None:
    (table,) = tables(results)
    assert verdict(table) == (
        "Best: near, gap/avg 1.40 pp, not distinguishable from like near. Within the references' "
        "own spread (at most 2.00 pp): near, like near. Doing nothing: 1.50 pp, already within "
        "that spread."
    )
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
    shown = lines(table)
    assert [line.name for line in shown[:2]] == ["retrained references", "original, untouched"]
    assert shown[2].cells[0] == "1 (1–2)"
    assert shown[-1].cells[0] == "n/a"
    assert {line.style for line in shown if line.name in ("near", "like near")} == {"within"}
    assert "88.0 ± 0.0 (5), z −2.0" in shown[2].cells
    text = markdown(made)
    assert "| near | 1 (1–2) |" in text
    source = latex("a_b", made)
    assert r"a\_b: d, t, label-aware" in source
    assert r"like near & 2 (1--2) &" in source
    assert not set("–±−") & set(source)
    write_comparison("a<b", made, results, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "a&lt;b" in page
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 1
