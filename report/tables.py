"""A study's result as tables in a terminal: metrics and references, then hyperparameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mixunlearn.plain import finite
from report.notation import (
    ABSENT,
    difference,
    mean_and_sd,
    score,
    three_digits,
    two_digits,
    unit,
)
from report.own import CAPTION, HEADING
from report.own import rows as own_rows
from report.verdict import BESIDE, has_scores, headline, original_detail, timing

Summary = Mapping[str, Any]
Layout = Sequence[Sequence[int]]
Cell = tuple[str, str, str]  # value, gap and z as text; "" where there is nothing to say

HEADINGS = {
    "mia/asr": "mia\nasr",
    "div/js": "div\njs",
    "gap/avg": "gap\navg",
    "time/unlearn_s": "unlearn\ntime",
    "time/ratio_to_retrain": "time /\nretrain",
    "cost/ratio_to_retrain": "images /\nretrain",
}
# Which parts of a cell share a line: one layout each for wide, medium and narrow terminals.
LAYOUTS = (((0, 1, 2),), ((0,), (1, 2)), ((0,), (1,), (2,)))
COST = ("epochs", "seconds")  # shown after the hyperparameters of a trial
BEST_SHOWN = 5
UNLIMITED = 10_000  # columns: wider than any table
LEGEND = "Δ distance to the references' mean, z the same in their sd; mean ± sd (n)"


@dataclass(frozen=True, kw_only=True)
class FirstThatFits:
    """Draws the first of several tables that fits the terminal, else the last."""

    tables: Sequence[Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Decided here: the width is known only when the table is drawn.
        fitting = (table for table in self.tables if _width(table, console) <= options.max_width)
        yield next(fitting, self.tables[-1])


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One configuration of the results: its name in two parts, its metrics, its hyperparameters."""

    name: tuple[str, str]
    values: Mapping[str, Any]
    params: Mapping[str, object] = field(default_factory=dict)


def summary_table(summary: Summary) -> Group:
    """Return the results of a study, readable in 80 columns or more.

    References, the untouched original, the default (trial 0) and the best five trials with
    value, gap (Δ) and z of each metric; their hyperparameters; and the best configuration under
    fresh seeds next to the references' own spread. A missing value is written `–`.

    Args:
        summary: the result of a sweep, all values on `test`.
    """
    rows = list(_rows(summary))
    return Group(
        Text(headline(summary), style="bold"),
        Text(_study(summary)),
        FirstThatFits(tables=[_metrics_table(summary, rows, layout) for layout in LAYOUTS]),
        Text(LEGEND, style="dim"),
        *(Text(line, style="dim") for line in [timing(summary)] if line),
        *_parameters({row.name[1]: row.params for row in rows if row.params}),
        Text(f"\n{_fresh_seeds(summary)}", style="bold"),
        *_own(summary),
    )


def _own(summary: Summary) -> Iterator[Text | Table]:
    """Yield how near the recipe comes to the user's own model, if that is the original."""
    if not summary.get("own"):
        return
    yield Text(f"\n{CAPTION}", style="dim")
    table = _table()
    for heading in HEADING:
        table.add_column(heading)
    for row in own_rows(summary):
        table.add_row(*row)
    yield table


def _study(summary: Summary) -> str:
    counts = [f"{count} {state}" for state, count in (summary.get("trials") or {}).items()]
    seconds = three_digits(summary.get("seconds"))
    trials = ", ".join(counts) or ABSENT
    return f"{summary['name']} · study {summary['study']} · trials: {trials} · {seconds} s"


def _rows(summary: Summary) -> Iterator[TableRow]:
    yield TableRow(
        name=("original", original_detail(summary)), values=summary.get("original") or {}
    )
    default = summary.get("default") or {}
    yield TableRow(
        name=("default", f"trial {default.get('trial', 0)}"),
        values=default,
        params=_params_and_cost(default),
    )
    for rank, trial in enumerate((summary.get("best") or [])[:BEST_SHOWN], start=1):
        name = (f"best {rank}", f"trial {trial['trial']}")
        yield TableRow(name=name, values=trial, params=_params_and_cost(trial))


def _params_and_cost(trial: Mapping[str, Any]) -> dict[str, object]:
    params = trial.get("params") or {}
    cost = {name: trial[name] for name in COST if trial.get(name) is not None}
    return {**params, **cost} if params else {}


# --- metrics ---------------------------------------------------------------------------------


def _metrics_table(summary: Summary, rows: Sequence[TableRow], layout: Layout) -> Table:
    references = summary.get("references") or {}
    table = _table()
    table.add_column("on test", no_wrap=True)
    columns, scored = [], has_scores(summary)
    for metric in _metrics(summary, rows):
        heading = _heading(metric)
        table.add_column(Text(heading, justify="right"), no_wrap=True)
        values = (_cell(metric, row.values, scored=scored) for row in rows)
        cells = [_reference(references.get(metric)), *values]
        columns.append(_aligned(cells, layout, max(map(len, heading.split("\n")))))
    names = [("references", _sample(references)), *(row.name for row in rows)]
    for index, name in enumerate(names):
        spaced = len(layout) > 1 or index in {0, 2}  # after the references and after the default
        row = (column[index] for column in columns)
        table.add_row(_name(name, layout), *row, end_section=spaced)
    return table


def _name(parts: tuple[str, str], layout: Layout) -> str:
    return f"{parts[0]} ({parts[1]})" if len(layout) == 1 else "\n".join(parts)


def _metrics(summary: Summary, rows: Sequence[TableRow]) -> list[str]:
    """Return the metrics to show: first those of the average gap, then others with a value."""
    known = [summary.get("references") or {}, *(row.values for row in rows)]
    present = [name for name in BESIDE if any(values.get(name) is not None for values in known)]
    return [*summary["gap_metrics"], *present]


def _heading(metric: str) -> str:
    words = HEADINGS.get(metric) or metric.partition("/")[2].replace("_", "\n")
    return f"{words}\n{unit(metric)}"


def _sample(references: Mapping[str, Mapping[str, object]]) -> str:
    """Return the number of references; a range if the metrics differ in it."""
    counts = sorted({int(str(each.get("n", 0))) for each in references.values() if each})
    return f"n={'–'.join(map(str, counts[:: max(1, len(counts) - 1)])) or 0}"


def _reference(distribution: Mapping[str, object] | None) -> Cell:
    values = distribution or {}
    spread = finite(values.get("sd"))
    return three_digits(values.get("mean")), "" if spread is None else f"±{two_digits(spread)}", ""


def _cell(metric: str, values: Mapping[str, object], *, scored: bool) -> Cell:
    gap, z = values.get(f"gap/{metric}"), values.get(f"z/{metric}")
    return (
        three_digits(values.get(metric)),
        "" if finite(gap) is None else f"Δ{difference(gap)}",
        f"z{score(z)}" if scored and finite(z) is not None else "",
    )


def _aligned(cells: Sequence[Cell], layout: Layout, width: int) -> list[Text]:
    """Return a column's cells, `width` or wider, value under value, gap under gap, z under z."""
    widths = [max(map(len, part)) for part in zip(*cells, strict=True)]
    parts = [[part for part in line if widths[part]] for line in layout]
    needed = [sum(widths[part] + 1 for part in line) - 1 for line in parts]
    return [_lines(cell, widths, parts, max(width, *needed)) for cell in cells]


def _lines(cell: Cell, widths: Sequence[int], layout: Layout, width: int) -> Text:
    text = Text("\n").join(_line(cell, widths, parts, width) for parts in layout)
    text.rstrip()  # a cell does not need an empty last line
    return text


def _line(cell: Cell, widths: Sequence[int], parts: Sequence[int], width: int) -> Text:
    padded = [Text(cell[p].rjust(widths[p]), style="dim" if p else "") for p in parts]
    line = Text(" ").join(padded)
    line.pad_left(width - len(line))
    return line


def _table() -> Table:
    return Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))


def _width(table: Table, console: Console) -> int:
    # Without a limit: rich would give the terminal's width for every table that is too wide.
    return Measurement.get(console, console.options.update(width=UNLIMITED), table).maximum


# --- hyperparameters ------------------------------------------------------------------------------


def _parameters(params: Mapping[str, Mapping[str, object]]) -> Iterator[FirstThatFits | Text]:
    """Yield what differs between the trials as a table, then what they have in common."""
    # False comes before True: the costs are last.
    names = sorted(dict.fromkeys(chain(*params.values())), key=COST.__contains__)
    written = {name: [_setting(values.get(name)) for values in params.values()] for name in names}
    common = [name for name in names if len(params) > 1 and len(set(written[name])) == 1]
    differing = {name: written[name] for name in names if name not in common}
    if differing:
        trials = list(params)
        yield FirstThatFits(tables=[_side_by_side(trials, differing), _by_trial(trials, differing)])
    if common:
        yield Text("same for all: " + ", ".join(f"{name} {written[name][0]}" for name in common))


def _setting(value: object) -> str:
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:.3g}" if isinstance(value, float) else ABSENT if value is None else str(value)


def _side_by_side(trials: Sequence[str], settings: Mapping[str, Sequence[str]]) -> Table:
    table = _table()
    table.add_column("parameter", no_wrap=True)
    for trial in trials:
        table.add_column(trial, justify="right", no_wrap=True)
    for name, values in settings.items():
        table.add_row(name, *values)
    return table


def _by_trial(trials: Sequence[str], settings: Mapping[str, Sequence[str]]) -> Table:
    table = _table()
    table.add_column("trial", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    for index, trial in enumerate(trials):
        pairs = (f"{name}={values[index]}" for name, values in settings.items())
        table.add_row(trial.removeprefix("trial "), "  ".join(pairs))
    return table


# --- fresh seeds -----------------------------------------------------------------------------


def _fresh_seeds(summary: Summary) -> str:
    own = mean_and_sd((summary.get("references") or {}).get("gap/avg"))
    spread = summary.get("spread") or {}
    again = mean_and_sd(spread.get("gap/avg"))
    trial = f"trial {spread['trial']}" if "trial" in spread else "best"
    return f"gap/avg: {trial}, fresh seeds {again}; references {own} pp"
