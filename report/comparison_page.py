"""A comparison as one HTML file, as LaTeX and as Markdown, with the same tables in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from mixunlearn.metrics.distances import Difference
from report.comparison import (
    GAP,
    RATIO,
    TIME,
    Standing,
    Table,
    Values,
    best_so_far,
    mean,
    sd,
)
from report.export import latex_number, latex_row, latex_text
from report.notation import (
    ABSENT,
    MINUS,
    mean_and_sd,
    probability,
    signed,
    three_digits,
    unit,
)
from report.plots.drawing import GREEN, INK, PALE, drawing, new_figure
from report.runs import NOTHING, RETRAINED, CellResult
from report.template import render
from report.verdict import style

# As Matplotlib and SVG write them. With four kinds of lines, 28 methods can be distinguished.
LINES = {"solid": "none", "dashed": "6 3", "dotted": "2 3", "dashdot": "8 3 2 3"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
CURVES = "Best gap so far on val by trial, one line per method; the key is below"
LEGEND = (
    "Winners under fresh seeds, on test. Distance: the size of the mean bias against retrained "
    "references, averaged over the metrics, with its 95 % interval. Methods that share a letter "
    "are not told apart (Holm-corrected p of at least 0.05). Against doing nothing: difference of "
    "the two distances; negative is better than the untouched original. Metrics: mean ± sd (n), "
    "and the bias. gap/avg: what the search minimises; it also grows with the noise of single "
    "runs, so it is no verdict. Default: gap/avg of the published or first-guess configuration. "
    "Verdict: of each search on its own, by equivalence within margins. "
    "Times: of the run of each search that had the device to itself; without one, there is no "
    "share of a retraining. "
    "All this holds for the configurations that these searches found."
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table, as text.

    Args:
        name: label of the row.
        cells: one for each column after the name.
        style: class of the row in the page: "reference", "original" or "".
    """

    name: str
    cells: Sequence[str]
    style: str = ""


def headings(table: Table) -> list[str]:
    """Return the columns of a table after the name, with units."""
    metrics = [f"{name} ({unit(name)})" for name in table.metrics]
    gaps = [f"{GAP} ({unit(GAP)})", "default (pp)"]
    sizes = ["group", "distance (pp)", "against doing nothing (pp)"]
    return [*sizes, *metrics, *gaps, "unlearn (s)", "/ retrain", "tuning (s)", "verdict"]


def lines(table: Table) -> list[Line]:
    """Return the rows: references, then the methods and doing nothing, nearest first."""
    return [_references(table), *(_line(table, standing) for standing in table.standings)]


def verdict(table: Table) -> str:
    """Return what a table says, in a few sentences."""
    methods = [each.method for each in table.known if each.method != NOTHING]
    if not methods:
        return "No method has a result yet."
    best = table.known[0]
    assert best.distance is not None  # it is known
    judged = f" ({'; '.join(best.states)})" if best.states else ""
    said = [f"Smallest distance to retraining: {best.method}{judged}, {_pp(best.distance.value)}"]
    if table.group_of(best.method):
        tied = [
            each.method for each in table.known[1:] if not table.apart(best.method, each.method)
        ]
        said[0] += f", not told apart from {', '.join(tied)}." if tied else "."
        nothing = [each for each in table.pairs if each.second == NOTHING and each.apart]
        better = [each.first for each in nothing if each.value < 0]
        worse = [each.first for each in nothing if each.value > 0]
        none = "No method is shown to be better than doing nothing."
        said.append(f"Better than doing nothing: {', '.join(better)}." if better else none)
        said += [f"Worse than doing nothing: {', '.join(worse)}."] if worse else []
    else:
        said[0] += "."
        untouched = table.nothing
        if untouched and untouched.distance and best.method != NOTHING:
            said.append(f"Doing nothing: {_pp(untouched.distance.value)}.")
    return " ".join([table.few, *said] if table.few else said)


def _pp(value: float) -> str:
    return f"{three_digits(value)} pp"


def drawn(table: Table) -> Group:
    """Return a table for a terminal: distances and costs; the page has all metrics."""
    heads = ("method", "group", "distance (pp)", "unlearn s", "tuning s")
    grid = RichTable(*heads, box=box.SIMPLE_HEAD)
    for line in lines(table):
        group, distance, *_, seconds, _ratio, tuning, _verdict = line.cells
        grid.add_row(line.name, group, distance, seconds, tuning)
    return Group(Text(table.title, style="bold"), grid, Text(verdict(table)), Text())


def markdown(made: Sequence[Table]) -> str:
    """Return the tables as Markdown."""
    texts = []
    for table in made:
        head = ["method", *headings(table)]
        rows = [[line.name, *line.cells] for line in lines(table)]
        body = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in body)
        texts.append(f"### {table.title}\n\n{verdict(table)}\n\n{text}\n")
    return "\n".join(texts)


def latex(name: str, made: Sequence[Table]) -> str:
    """Return the tables as LaTeX, as wide as the text; its first line names packages it needs."""
    source = [r"% \usepackage{amsmath,booktabs,graphicx}"]
    for table in made:
        head = headings(table)
        rows = (
            latex_row([latex_text(line.name), *map(_latex_cell, line.cells)])
            for line in lines(table)
        )
        source += [
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
    return "\n".join(source) + "\n"


def write_comparison(
    name: str,
    made: Sequence[Table],
    results: Sequence[CellResult],
    path: Path,
    pages: Mapping[str, str],
) -> None:
    """Write the page: the tables and the course of each search.

    Args:
        name: name of the comparison.
        made: its tables.
        results: results of its studies.
        path: the file to write.
        pages: address of each study, as seen from the page.

    Raises:
        OSError: the file cannot be written.
    """
    problems = [
        {
            "anchor": f"problem-{number}",
            "entry": (f"problem-{number}", table.title),
            "title": table.title,
            **_verdict(table),
            "headings": headings(table),
            "lines": lines(table),
            "looks": {each.method: _look(each) for each in table.standings},
            **_drawn(table, own),
            "studies": _studies(own, pages),
        }
        for number, table in enumerate(made, start=1)
        for own in [[each for each in results if each.problem == table.problem]]
    ]
    path.write_text(
        render("comparison.html.j2", name=name, problems=problems, legend=LEGEND, parts=parts)
    )


def _verdict(table: Table) -> dict[str, Any]:
    """Return the verdict on the nearest method: its look, its state, and what the table says."""
    best = next(iter(table.known), None)
    states = "; ".join(best.states) if best else ""
    return {
        "look": _look(best) if best else "",
        "state": f"{best.method}: {states}" if best and states else "",
        "verdict": verdict(table),
    }


def _look(standing: Standing) -> str:
    """Return the look of a method's verdict; searches that disagree have none."""
    return style(standing.states[0]) if len(standing.states) == 1 else ""


def _studies(
    results: Sequence[CellResult], pages: Mapping[str, str]
) -> dict[str, list[tuple[str, str]]]:
    """Return the studies of each method: the seed of the search in words, and the address."""
    found: dict[str, list[tuple[str, str]]] = {}
    for each in results:
        if each.study in pages:
            known = found.setdefault(each.method, [])
            known.append((f"seed {each.seed}", pages[each.study]))
    return found


def parts(cell: str) -> tuple[str, str]:
    """Return a cell's number, and what qualifies it: its bias, interval or p; "" without any."""
    number, comma, bias = cell.partition(", bias ")
    if comma:
        return number, f"bias {bias}"
    # The parentheses of `mean ± sd (n)` belong to the number.
    if "±" in cell or not cell.endswith(")"):
        return cell, ""
    number, _, below = cell.partition(" (")
    return number, f"({below}"


def curves_figure(table: Table, results: Sequence[CellResult]) -> Figure:
    """Return the best gap on `val` after each trial: the mean over a method's searches."""
    figure = new_figure(width=5.6, height=3.8)  # inches: narrow, to be read on a phone
    axes = figure.add_subplot()
    for number, (method, curve) in enumerate(_curves(table, results)):
        axes.step(
            np.arange(1, len(curve) + 1),
            curve,
            where="post",
            label=method,
            color=_colour(number),
            linestyle=_line_of(number),
        )
    _draw_levels(axes, table)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("trials")
    axes.set_ylabel(f"best {GAP} so far on val (pp)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=PALE, alpha=0.2)
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
    nothing = table.nothing
    if nothing and nothing.gap > 0:
        axes.axhline(nothing.gap, color=PALE, linestyle="--", linewidth=1)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _line_of(number: int) -> str:
    return list(LINES)[number // len(COLOURS) % len(LINES)]


def _drawn(table: Table, results: Sequence[CellResult]) -> dict[str, Any]:
    """Return the curves as a picture, "" if there are none yet, and their key: a line for each."""
    known = [method for method, _ in _curves(table, results)]
    return {
        "picture": drawing(curves_figure(table, results), CURVES) if known else "",
        "key": [
            (method, _colour(number).replace(INK, "currentColor"), LINES[_line_of(number)])
            for number, method in enumerate(known)
        ],
    }


def _references(table: Table) -> Line:
    metrics = [_written(table.references.get(name, ())) for name in table.metrics]
    seconds = _written(table.references.get(TIME, ()))
    gaps = [_written(table.own_gaps), ABSENT]
    cells = [*[ABSENT] * 3, *metrics, *gaps, seconds, "1", ABSENT, ABSENT]
    return Line(name=RETRAINED, cells=cells, style="reference")


def _line(table: Table, standing: Standing) -> Line:
    style = "original" if standing.method == NOTHING else ""
    if standing.distance is None:
        # Without the reason, which may be long: `comparison.parquet` has it.
        absent = standing.absent.partition(":")[0] or ABSENT
        rest = [ABSENT] * (len(headings(table)) - 1)
        return Line(name=standing.method, cells=[absent, *rest], style=style)
    found = standing.distance
    bounds = f"{three_digits(found.low)} to {three_digits(found.high)}"
    known = not np.isnan(found.low)
    return Line(
        name=standing.method,
        cells=[
            standing.group or ABSENT,
            three_digits(found.value) + (f" ({bounds})" if known else ""),
            _against(standing.against_nothing),
            *(_with_bias(table, standing, name) for name in table.metrics),
            _written(standing.tuned.get(GAP, ())),
            _written(standing.default),
            three_digits(mean(standing.tuned.get(TIME, ()))),
            three_digits(mean(standing.tuned.get(RATIO, ()))),
            three_digits(standing.cost),
            "; ".join(standing.states) or ABSENT,
        ],
        style=style,
    )


def _against(found: Difference | None) -> str:
    """Return a method compared with doing nothing: −3.20 (p 0.004)."""
    if found is None or np.isnan(found.value):
        return ABSENT
    return signed(found.value) + (f" (p {probability(found.p)})" if found.p >= 0 else "")


def _with_bias(table: Table, standing: Standing, name: str) -> str:
    values = standing.tuned.get(name, ())
    bias = mean(values) - mean(table.references.get(name, ()))
    known = _written(values)
    return known if np.isnan(bias) else f"{known}, bias {signed(bias)}"


def _written(values: Values | Sequence[float]) -> str:
    if len(values) < 2:  # noqa: PLR2004
        return three_digits(mean(values))
    return mean_and_sd({"mean": mean(values), "sd": sd(values), "n": len(values)})


def _latex_cell(text: str) -> str:
    if text[:1].isalpha():  # a state (n/a, to come), or letters of groups
        return latex_text(text)
    number, below = parts(text)
    below = below.removeprefix("bias ").strip("()").removeprefix("p ")
    return latex_number(number) + (f" (${_latex_below(below)}$)" if below else "")


def _latex_below(text: str) -> str:
    """Return an interval, a bias or a probability for LaTeX's mathematics."""
    return text.replace(MINUS, "-").replace(" to ", r"\text{ to }").replace("< ", "<")
