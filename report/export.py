"""A study for other programs: its trials as CSV, JSON or Parquet, its verdict as LaTeX."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError, MissingError
from mixunlearn.plain import plain
from report.notation import ABSENT, MINUS, unit
from report.verdict import Cell, TestedModel, configurations, metrics, state

Summary = Mapping[str, Any]

_SPECIAL = re.compile(r"[\\{}$&#^_~%]")
_COMMANDS = {"\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}"}
_UNITS = {"%": r"\%", "×": r"$\times$"}


def export(trials: pa.Table, summary: Summary, form: str) -> bytes:
    """Return a study in one of `FORMATS`.

    Args:
        trials: one row per trial, all metrics on `val`.
        summary: the verdict on `test`; only LaTeX needs it.
        form: `csv`, `json` (an array of objects) and `parquet` hold all columns of all trials;
            `latex` is a table of the verdict.

    Raises:
        MissingError: there is no verdict yet.
    """
    return FORMATS[form](trials, summary)


def require_format(form: str, *, file: bool) -> None:
    """Check that a study can be exported in this format.

    Args:
        form: the format that the user typed.
        file: whether the output goes to a file.

    Raises:
        InputError: the format is unknown, or it cannot be written to a terminal.
    """
    if form not in FORMATS:
        raise InputError("--format", form, f"unknown; {known_names(form, FORMATS)}")
    if form == "parquet" and not file:
        raise InputError("--format", form, "is not text; name a file with --output")


def _csv(trials: pa.Table, _: Summary) -> bytes:
    stream = io.BytesIO()
    pyarrow.csv.write_csv(trials, stream)
    return stream.getvalue()


def _json(trials: pa.Table, _: Summary) -> bytes:
    rows = plain(trials.to_pylist())  # JSON has no infinity: it becomes null
    return (json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parquet(trials: pa.Table, _: Summary) -> bytes:
    stream = io.BytesIO()
    pq.write_table(trials, stream)
    return stream.getvalue()


# --- LaTeX ----------------------------------------------------------------------------------


def _latex(_: pa.Table, summary: Summary) -> bytes:
    """Return a table that needs only the package booktabs."""
    if not summary.get("best"):
        raise MissingError(
            f"{summary['study']} has no verdict yet: its sweep writes one when it ends"
        )
    shown = metrics(summary)
    columns = configurations({**summary, "best": summary["best"][:1]})
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{latex_text(_caption(summary))}}}",
        f"  \\label{{tab:{summary['study']}}}",
        f"  \\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"    \toprule",
        latex_row(["", *(latex_text(each.name.removesuffix(" 1")) for each in columns)]),
        latex_row(["", *(_detail(each, shown) for each in columns)]),
        r"    \midrule",
        *(
            latex_row([_heading(name), *(_cell(each.cell(name)) for each in columns)])
            for name in shown
        ),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return ("\n".join(lines) + "\n").encode()


def _caption(summary: Summary) -> str:
    """Return what the table shows, and the verdict in words."""
    shown = "metrics on test, in parentheses the distance to the references' mean"
    verdict = f" The best trial is {state(summary)}." if state(summary) else ""
    return f"{summary['name']}: {shown}.{verdict}"


def latex_row(cells: Sequence[str]) -> str:
    """Return a line of a LaTeX table."""
    return f"    {' & '.join(cells)} \\\\"


def _detail(configuration: TestedModel, shown: Sequence[str]) -> str:
    """Return which model it is and the number of its runs; a range if the metrics differ in it."""
    values = [configuration.values.get(metric) for metric in shown]
    runs = sorted({each["n"] for each in values if isinstance(each, Mapping) and each["n"]})
    counts = "$--$".join(str(count) for count in dict.fromkeys([*runs[:1], *runs[-1:]]))
    return latex_text(configuration.detail) + (f", $n = {counts}$" if counts else "")


def _heading(metric: str) -> str:
    symbol = unit(metric)
    return f"{latex_text(metric)} ({_UNITS.get(symbol, symbol)})" if symbol else latex_text(metric)


def _cell(cell: Cell) -> str:
    value = latex_number(cell.value.partition(" (")[0])
    return f"{value} ({latex_number(cell.gap)})" if cell.gap else value


def latex_number(text: str) -> str:
    """Return a number, or `mean ± sd`, in LaTeX's notation."""
    if text == ABSENT:
        return "--"
    return "$" + text.replace("±", r"\pm").replace(MINUS, "-") + "$"


def latex_text(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    # In one pass: replacing one after the other would escape the backslashes of replacements.
    return _SPECIAL.sub(lambda found: _COMMANDS.get(found[0], f"\\{found[0]}"), text)


FORMATS: Mapping[str, Callable[[pa.Table, Summary], bytes]] = {
    "csv": _csv,
    "json": _json,
    "latex": _latex,
    "parquet": _parquet,
}
