"""A comparison as one HTML file, as LaTeX and as Markdown, with the same tables in each."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from report.comparison import (
    GAP,
    RATIO,
    TIME,
    CellResult,
    Standing,
    Table,
    Values,
    best_so_far,
    mean,
    sd,
)
from report.export import latex_number, latex_row, latex_text
from report.notation import ABSENT, mean_and_sd, score, three_digits, unit
from report.plots.drawing import DPI, GREEN, PALE, new_figure

HERE = Path(__file__).parent
LINES = ("solid", "dashed", "dotted", "dashdot")
# With four kinds of lines, 28 methods can be distinguished.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
LEGEND = (
    "Winners under fresh seeds, on test: mean ± sd (n); z is their distance to the references' "
    "mean in the references' sd. The rank is by mean gap; in parentheses are its bounds in 95 % "
    "of bootstrap samples. Default: the published or first-guess configuration, not tuned."
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table, as text.

    Args:
        name: label of the row.
        cells: one for each column after the name.
        style: class of the row in the page: "reference", "original", "within" or "".
    """

    name: str
    cells: Sequence[str]
    style: str = ""


def headings(table: Table) -> list[str]:
    """Return the columns of a table after the name, with units."""
    metrics = [f"{name} ({unit(name)})" for name in table.metrics]
    gaps = [f"{GAP} ({unit(GAP)})", "default (pp)"]
    return ["rank", *gaps, *metrics, "unlearn (s)", "/ retrain", "tuning (s)"]


def lines(table: Table) -> list[Line]:
    """Return the rows: references and original, then the methods, best first."""
    return [*_measures(table), *(_line(table, standing) for standing in table.standings)]


def verdict(table: Table) -> str:
    """Return what a table says, in a sentence or two."""
    known = [standing for standing in table.standings if standing.rank]
    if not known:
        return "No method has a result yet."
    best = known[0]
    tied = [each.method for each in known[1:] if each.ranks and each.ranks[0] == 1]
    said = f"Best: {best.method}, {GAP} {three_digits(best.gap)} pp"
    said += f", not distinguishable from {', '.join(tied)}." if tied else "."
    within = [each.method for each in known if table.within(each.gap)]
    if len(table.own_gaps):
        said += (
            f" Within the references' own spread (at most {three_digits(table.own_gaps.max())} "
            f"pp): {', '.join(within) or 'none'}."
        )
    nothing = table.original.get(GAP)
    if nothing is not None:
        where = "already within" if table.within(nothing) else "outside"
        said += f" Doing nothing: {three_digits(nothing)} pp, {where} that spread."
    return said


def drawn(table: Table) -> Group:
    """Return a table for a terminal: ranks, gaps and costs; the page has all metrics."""
    grid = RichTable("method", "rank", GAP, "default", "unlearn s", "tuning s", box=box.SIMPLE_HEAD)
    for line in lines(table):
        rank, gap, default, *_, seconds, _ratio, tuning = line.cells
        grid.add_row(line.name, rank, gap, default, seconds, tuning)
    return Group(Text(table.title, style="bold"), grid, Text(verdict(table)), Text())


def markdown(made: Sequence[Table]) -> str:
    """Return the tables as Markdown."""
    parts = []
    for table in made:
        head = ["method", *headings(table)]
        rows = [[line.name, *line.cells] for line in lines(table)]
        body = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in body)
        parts.append(f"### {table.title}\n\n{verdict(table)}\n\n{text}\n")
    return "\n".join(parts)


def latex(name: str, made: Sequence[Table]) -> str:
    """Return the tables as LaTeX, as wide as the text; its first line names packages it needs."""
    parts = [r"% \usepackage{booktabs,graphicx}"]
    for table in made:
        head = headings(table)
        rows = (
            latex_row([latex_text(line.name), *map(_latex_cell, line.cells)])
            for line in lines(table)
        )
        parts += [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{latex_text(f'{name}: {table.title}')}}}",
            r"  \resizebox{\linewidth}{!}{%",
            f"  \\begin{{tabular}}{{l{'r' * len(head)}}}",
            r"    \toprule",
            latex_row(["", *(latex_text(word) for word in head)]),
            r"    \midrule",
            *rows,
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table}",
        ]
    return "\n".join(parts) + "\n"


def write_comparison(
    name: str, made: Sequence[Table], results: Sequence[CellResult], path: Path
) -> None:
    """Write the page: the tables and the course of each search.

    Args:
        name: name of the comparison.
        made: its tables.
        results: results of its studies.
        path: the file to write.

    Raises:
        OSError: the file cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        # A misspelt name in the template is an error, not an empty place.
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    problems = [
        {
            "title": table.title,
            "verdict": verdict(table),
            "headings": headings(table),
            "lines": lines(table),
            "picture": _picture(table, [each for each in results if each.problem == table.problem]),
        }
        for table in made
    ]
    path.write_text(
        environment.get_template("comparison.html.j2").render(
            name=name,
            problems=problems,
            legend=LEGEND,
            style=Markup((HERE / "page.css").read_text("utf-8")),
        )
    )


def curves_figure(table: Table, results: Sequence[CellResult]) -> Figure:
    """Return the best gap on `val` after each trial: the mean over a method's searches."""
    figure = new_figure(width=8.0, height=4.6)
    axes = figure.add_subplot()
    for number, (method, curve) in enumerate(_curves(table, results)):
        axes.step(
            np.arange(1, len(curve) + 1),
            curve,
            where="post",
            label=method,
            color=COLOURS[number % len(COLOURS)],
            linestyle=LINES[number // len(COLOURS) % len(LINES)],
        )
    _draw_levels(axes, table)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("trials")
    axes.set_ylabel(f"best {GAP} so far on val (pp)")
    axes.set_title(table.title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=PALE, alpha=0.2)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _curves(table: Table, results: Sequence[CellResult]) -> Iterator[tuple[str, Values]]:
    for standing in table.standings:
        own = [
            best_so_far(each.rows, str(each.summary["objective"]))
            for each in results
            if each.method == standing.method and each.rows and each.summary
        ]
        if own:
            shortest = min(map(len, own))  # a mean over all searches needs all of them
            yield standing.method, np.mean([curve[:shortest] for curve in own], axis=0)


def _draw_levels(axes: Axes, table: Table) -> None:
    if len(table.own_gaps) and table.own_gaps.max() > 0:
        # An own gap may be zero, which a logarithmic axis cannot show.
        low = max(float(table.own_gaps.min()), float(table.own_gaps.max()) / 10)
        axes.axhspan(low, float(table.own_gaps.max()), color=GREEN, alpha=0.2, linewidth=0)
    if table.original.get(GAP):
        axes.axhline(table.original[GAP], color=PALE, linestyle="--", linewidth=1)


def _picture(table: Table, results: Sequence[CellResult]) -> str:
    """Return the curves as a `data:` URL; "" if there are none yet."""
    if next(_curves(table, results), None) is None:
        return ""
    stream = io.BytesIO()
    curves_figure(table, results).savefig(stream, format="png", dpi=DPI)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _measures(table: Table) -> list[Line]:
    own = _written(table.own_gaps)
    rest = [_written(table.references.get(name, ())) for name in table.metrics]
    seconds = _written(table.references.get(TIME, ()))
    references = Line(
        name="retrained references",
        cells=[ABSENT, own, ABSENT, *rest, seconds, "1", ABSENT],
        style="reference",
    )
    values = [three_digits(table.original.get(name)) for name in table.metrics]
    nothing = three_digits(table.original.get(GAP))
    original = Line(
        name="original, untouched",
        cells=[ABSENT, nothing, ABSENT, *values, "0", "0", ABSENT],
        style="original",
    )
    return [references, original]


def _line(table: Table, standing: Standing) -> Line:
    if standing.rank is None or standing.ranks is None:
        empty = [ABSENT] * len(table.metrics)
        # Without the reason, which may be long: `comparison.parquet` has it.
        absent = standing.absent.partition(":")[0]
        return Line(name=standing.method, cells=[absent, ABSENT, ABSENT, *empty, *[ABSENT] * 3])
    low, high = standing.ranks
    metrics = [_with_z(standing, name) for name in table.metrics]
    return Line(
        name=standing.method,
        cells=[
            str(standing.rank) if low == high else f"{standing.rank} ({low}–{high})",
            _written(standing.tuned[GAP]),
            _written(standing.default),
            *metrics,
            three_digits(mean(standing.tuned[TIME])),
            three_digits(mean(standing.tuned[RATIO])),
            three_digits(standing.cost),
        ],
        style="within" if table.within(standing.gap) else "",
    )


def _with_z(standing: Standing, name: str) -> str:
    z = mean(standing.tuned.get(f"z/{name}", ()))
    value = _written(standing.tuned.get(name, ()))
    return value if np.isnan(z) else f"{value}, z {score(z)}"


def _written(values: Values | Sequence[float]) -> str:
    if len(values) < 2:  # noqa: PLR2004
        return three_digits(mean(values))
    return mean_and_sd({"mean": mean(values), "sd": sd(values), "n": len(values)})


def _latex_cell(text: str) -> str:
    if "/" in text or "–" in text.strip(ABSENT):  # n/a, the bounds of a rank
        return latex_text(text).replace("–", "--")
    value, comma, z = text.partition(", z ")
    return latex_number(value) + (f" ({latex_number(z)})" if comma else "")
