"""A study as one page of Markdown: the description of its run in MLflow."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mixunlearn.wording import counted
from report.notation import markdown_text, three_digits
from report.report_data import ReportData, hyperparameters, rerun_command
from report.verdict import Cell, configurations, headline, metrics, with_unit

LENGTH = 7_800  # characters; MLflow accepts 8,000, and redacting passwords may add some
LEGEND = "Δ: distance to the references' mean; z: the same in their sd; mean ± sd (n)."


def describe(report_data: ReportData) -> str:
    """Return a study as Markdown: its verdict, or that there is none yet, and how to continue.

    At most `LENGTH` characters: whole lines are cut at the end, where the least important are.
    """
    sections: list[Iterable[str]] = [
        [f"**{markdown_text(report_data.study)}**: {markdown_text(headline(report_data.summary))}"],
        # Most important first: MLflow's limit cuts at the end.
        _table(report_data),
        _listed("Warnings", [markdown_text(warning) for warning in report_data.warnings]),
        _winner(report_data),
        _costs(report_data),
        _listed("Commands", [f"{what}: `{line}`" for what, line in report_data.commands.items()]),
        _facts(report_data),
    ]
    written = ["\n".join(section) for section in map(list, sections) if section]
    return _fitting("\n\n".join(written).split("\n"))


def _table(report_data: ReportData) -> Iterator[str]:
    """Yield the table of the scores on `test`."""
    names = metrics(report_data.summary)
    if not names:
        return
    yield _row(["on test", *(with_unit(name) for name in names)])
    yield "|---" + len(names) * "|---:" + "|"
    for each in configurations(report_data.summary):
        yield _row([f"{each.name}, {each.detail}", *(_cell(each.cell(name)) for name in names)])
    yield f"\n{LEGEND}"


def _winner(report_data: ReportData) -> Iterator[str]:
    """Yield the winner's hyperparameters and how to run it again."""
    best = next(iter(report_data.summary.get("best") or []), None)
    row = next((row for row in report_data.rows if best and row["trial"] == best["trial"]), None)
    if row is not None:
        given = ", ".join(f"{name} = {value}" for name, value in hyperparameters(row).items())
        again = f"`{rerun_command(report_data, row['trial'])}`"
        epochs = counted(row["epochs"], "epoch")
        yield f"**Trial {row['trial']}**: {markdown_text(given)}; {epochs}; rerun: {again}"


def _costs(report_data: ReportData) -> Iterator[str]:
    """Yield how many trials there were, and what they took."""
    if not report_data.rows:
        return
    states = Counter(row["state"] for row in report_data.rows)
    counts = ", ".join(f"{states[state]} {state}" for state in ("complete", "pruned", "failed"))
    own = three_digits(sum(row["seconds"] for row in report_data.rows))
    sweep = three_digits(report_data.summary.get("seconds"))
    trials = f"{counted(len(report_data.rows), 'trial')} ({counts})"
    yield f"**Costs**: {trials} took {own} s in total, the last sweep {sweep} s"


def _facts(report_data: ReportData) -> Iterator[str]:
    if report_data.facts:
        yield from ("| study | |", "|---|---|")
        yield from (_row(fact) for fact in report_data.facts.items())


def _listed(title: str, points: Sequence[str]) -> Iterator[str]:
    if points:
        yield f"**{title}**\n"
        yield from (f"- {point}" for point in points)


def _cell(cell: Cell) -> str:
    beside = [f"Δ {cell.gap}"] * bool(cell.gap) + [f"z {cell.z}"] * bool(cell.z)
    return f"{cell.value} ({', '.join(beside)})" if beside else cell.value


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(markdown_text, cells))} |"


def _fitting(lines: Sequence[str]) -> str:
    """Return as many of the lines as fit."""
    kept, size = list[str](), len("…")
    # Whole lines: half a row would break a table.
    for line in lines:
        size += len(line) + 1
        if size > LENGTH:
            return "\n".join([*kept, "…"])
        kept.append(line)
    return "\n".join(kept)
