"""Export of a study for other programs."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixunlearn.errors import InputError, MissingError
from report.export import FORMATS, export, require_format

ERROR = 'RuntimeError: "loss", is nan\n=1+1 & 100 %'
ROWS: list[dict[str, object]] = [
    {"study": "small", "trial": 0, "state": "complete", "params/lr": 1e-4, "gap/avg": 1 / 3},
    {"study": "small", "trial": 1, "state": "failed", "params/lr": 0.1, "gap/avg": None},
]
TRIALS = pa.Table.from_pylist([{**ROWS[0], "error": None}, {**ROWS[1], "error": ERROR}])


def table(summary: dict[str, Any]) -> list[list[str]]:
    """The cells of the LaTeX table, with the header."""
    text = export(TRIALS, summary, "latex").decode()
    lines = [line.strip() for line in text.splitlines() if line.endswith(r"\\")]
    return [[cell.strip() for cell in line.removesuffix(r"\\").split("&")] for line in lines]


def test_csv_has_every_column_to_the_last_digit() -> None:
    rows = list(csv.DictReader(io.StringIO(export(TRIALS, {}, "csv").decode(), newline="")))
    assert list(rows[0]) == TRIALS.column_names
    assert float(rows[0]["gap/avg"]) == 1 / 3
    assert (rows[0]["error"], rows[1]["error"]) == ("", ERROR)
    assert rows[1]["gap/avg"] == ""


def test_json_has_null_for_what_is_not_a_number() -> None:
    odd = pa.table({"trial": [0, 1, 2], "gap/avg": [math.inf, math.nan, 0.1]})
    content = export(odd, {}, "json").decode()
    assert [row["gap/avg"] for row in json.loads(content)] == [None, None, 0.1]
    assert json.loads(export(TRIALS, {}, "json")) == TRIALS.to_pylist()


def test_parquet_is_the_table() -> None:
    assert pq.read_table(io.BytesIO(export(TRIALS, {}, "parquet"))).equals(TRIALS)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_study_without_trials_is_an_empty_table(form: str) -> None:
    empty = TRIALS.slice(0, 0)
    content = export(empty, {}, form)
    assert content == b"[]\n" if form == "json" else content


def test_latex_shows_the_verdict(summary: dict[str, Any]) -> None:
    names, details, *rows = table(summary)
    assert names == ["", "references", "original", "default", "best", "fresh seeds"]
    assert details[1:4] == ["retrained, $n = 3$", "untouched", "trial 0"]
    assert details[4:] == ["trial 11", "trial 11 again, $n = 3$"]
    cells = {row[0]: row[1:] for row in rows}
    assert cells[r"mia/asr (\%)"] == [
        r"$39.4 \pm 2.0$",
        "$91.3$ ($51.9$)",
        "$44.1$ ($4.7$)",
        "$38.4$ ($1.0$)",
        r"$41.3 \pm 2.8$",
    ]
    assert cells[r"acc/train\_forget (\%)"][4] == "--"
    assert cells[r"time/ratio\_to\_retrain ($\times$)"][0] == "--"


def test_latex_states_the_verdict_in_words(summary: dict[str, Any]) -> None:
    said = "The best trial is better than doing nothing, not equivalent."
    assert said in export(TRIALS, summary, "latex").decode()
    del summary["verdict"]  # of an earlier version
    assert "The best trial is" not in export(TRIALS, summary, "latex").decode()


def test_latex_escapes_what_means_something_to_it(summary: dict[str, Any]) -> None:
    text = export(TRIALS, {**summary, "name": r"50% \input{x} a_b & $c^2 ~#"}, "latex").decode()
    wanted = r"50\% \textbackslash{}input\{x\} a\_b \& \$c\textasciicircum{}2 \textasciitilde{}\#"
    assert wanted in text


def test_latex_says_of_how_many_runs_where_metrics_differ(summary: dict[str, Any]) -> None:
    summary["references"]["mia/asr"] = {"mean": 39.0, "sd": 1.0, "n": 2, "values": [38.0, 40.0]}
    assert table(summary)[1][1] == "retrained, $n = 2$--$3$"


@pytest.mark.parametrize("odd", [{}, {"name": r"a_b% \x{$&#^~"}])
def test_latex_compiles(summary: dict[str, Any], odd: dict[str, str], tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("there is no pdflatex here")
    body = export(TRIALS, {**summary, **odd}, "latex").decode()
    text = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{body}"
    (tmp_path / "table.tex").write_text(text + "\\end{document}")
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_latex_needs_a_verdict() -> None:
    with pytest.raises(MissingError, match="small has no verdict yet"):
        export(TRIALS, {"study": "small"}, "latex")


def test_a_format_is_checked_before_anything_is_done() -> None:
    for form in FORMATS:
        require_format(form, file=True)
    with pytest.raises(
        InputError, match=re.escape("--format = 'cvs': unknown; did you mean 'csv'")
    ):
        require_format("cvs", file=True)
    with pytest.raises(InputError, match="is not text; name a file with --output"):
        require_format("parquet", file=False)
