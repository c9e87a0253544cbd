"""A study in a page of Markdown: what its run in MLflow says of itself."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from report.notation import three_digits
from report.report_data import ReportData, parameters, rerun_command
from report.verdict import Cell, configurations, headline, metrics, with_unit

LENGTH = 7_800  # characters; MLflow takes 8,000, and passwords are yet to be blotted out
LEGEND = "Δ: distance to the references' mean; z: the same in their sd; mean ± sd (n)."


def describe(review: ReportData) -> str:
    """Return a study in Markdown: its verdict, or that there is none yet, and how to go on.

    At most `LENGTH` characters: whole lines are left out at the end, where the least is said.
    """
    sections: list[Iterable[str]] = [
        [f"**{_text(review.study)}**: {_text(headline(review))}"],
        _table(review),
        _listed("Bear in mind", [_text(warning) for warning in review.warnings]),
        _winner(review),
        _costs(review),
        _listed("What to type", [f"{what}: `{line}`" for what, line in review.commands.items()]),
        _facts(review),
    ]
    written = ["\n".join(section) for section in map(list, sections) if section]
    return _fitting("\n\n".join(written).split("\n"))


def _table(review: ReportData) -> Iterator[str]:
    """Yield who scored what on `test`."""
    names = metrics(review.summary)
    if not names:
        return
    yield _row(["on test", *(with_unit(name) for name in names)])
    yield "|---" + len(names) * "|---:" + "|"
    for each in configurations(review.summary):
        yield _row([f"{each.name}, {each.detail}", *(_cell(each.cell(name)) for name in names)])
    yield f"\n{LEGEND}"


def _winner(review: ReportData) -> Iterator[str]:
    """Yield the winner's hyperparameters and how to run it again."""
    best = next(iter(review.summary.get("best") or []), None)
    row = next((row for row in review.rows if best and row["trial"] == best["trial"]), None)
    if row is not None:
        given = ", ".join(f"{name} = {value}" for name, value in parameters(row).items())
        again = f"`{rerun_command(review, row['trial'])}`"
        yield f"**Trial {row['trial']}**: {_text(given)}; {row['epochs']} epochs; again: {again}"


def _costs(review: ReportData) -> Iterator[str]:
    """Yield how many trials there were, and what they took."""
    if not review.rows:
        return
    states = Counter(row["state"] for row in review.rows)
    counts = ", ".join(f"{states[state]} {state}" for state in ("complete", "pruned", "failed"))
    own = three_digits(sum(row["seconds"] for row in review.rows))
    sweep = three_digits(review.summary.get("seconds"))
    trials = f"{len(review.rows)} trials ({counts})"
    yield f"**Costs**: {trials} took {own} s in all, the last sweep {sweep} s"


def _facts(review: ReportData) -> Iterator[str]:
    if review.facts:
        yield from ("| study | |", "|---|---|")
        yield from (_row(fact) for fact in review.facts.items())


def _listed(title: str, points: Sequence[str]) -> Iterator[str]:
    if points:
        yield f"**{title}**\n"
        yield from (f"- {point}" for point in points)


def _cell(cell: Cell) -> str:
    beside = [f"Δ {cell.gap}"] * bool(cell.gap) + [f"z {cell.z}"] * bool(cell.z)
    return f"{cell.value} ({', '.join(beside)})" if beside else cell.value


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_text, cells))} |"


def _text(text: str) -> str:
    """Return text that Markdown takes for nothing else, in one line."""
    line = " ".join(text.split())
    return line.replace("|", "\\|").replace("<", "&lt;").replace("`", "'").replace("*", "\\*")


def _fitting(lines: Sequence[str]) -> str:
    """Return as many of the lines as fit."""
    kept, size = list[str](), len("…")
    for line in lines:
        size += len(line) + 1
        if size > LENGTH:
            return "\n".join([*kept, "…"])
        kept.append(line)
    return "\n".join(kept)
