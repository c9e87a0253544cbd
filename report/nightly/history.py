"""The nights as a table with one row per night and experiment, also for a terminal."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from report.nightly.content import LEGEND, Cells, key_of
from report.nightly.headline import headline, night_word
from report.nightly.record import Record, numbers_in, parts_of, text_of, verdict_of
from report.nightly.wording import between, distribution, minutes, signed
from report.notation import ABSENT, mean_and_sd, three_digits
from report.tables import FirstThatFits

TERMINAL = {"failed": "bold red", "regressed": "bold red", "improved": "green"}
COLUMNS = (
    *("date", "verdict", "experiment", "champion", "gap/avg (pp)"),
    *("shift (pp)", "CUSUM", "duel (pp)", "trials", "minutes"),
)


def trend(nights: Sequence[Record]) -> Group:
    """Return a table for a terminal: one row per night and experiment, then why nights failed.

    Args:
        nights: in order of date.
    """
    rows = history_of(nights)
    failed = [Text(headline(night)) for night in nights if night.get("state") == "failed"]
    # A terminal that is too narrow would cut cells of the wide table.
    tables = [_wide_table(rows), _narrow_table(rows)]
    return Group(FirstThatFits(tables=tables), Text(LEGEND, style="dim"), *failed)


def history_of(nights: Iterable[Record]) -> list[Cells]:
    """Return the table's rows, one per night and experiment, in the order of `nights`."""
    return [row for night in nights for row in _night_rows(night)]


def _night_rows(night: Record) -> list[Cells]:
    when = text_of(night.get("date"))
    rows = [_night_row(when, night, experiment) for experiment in parts_of(night)]
    absent = [ABSENT] * (len(COLUMNS) - 3)
    return rows or [(when, night_word(night), *absent, minutes(night.get("seconds")))]


def _night_row(when: str, night: Record, experiment: Record) -> Cells:
    spent = numbers_in((experiment.get("spent") or {}).values())
    return (
        when,
        verdict_of(night, experiment),
        text_of(experiment.get("name")),
        key_of(experiment.get("champion")),
        mean_and_sd(distribution(numbers_in(experiment.get("gaps")))),
        _brief(experiment.get("shift")),
        _level(experiment.get("cusum")),
        _standing(experiment.get("duel")),
        text_of((experiment.get("trials") or {}).get("ran")),
        minutes(sum(spent) if spent else None),
    )


def _brief(shift: Record | None) -> str:
    return f"{signed(shift.get('mean'))} ({between(shift)})" if shift else ABSENT


def _level(cusum: Record | None) -> str:
    if not cusum:
        return ABSENT
    return f"{three_digits(cusum.get('level'))} / {three_digits(cusum.get('limit'))}"


def _standing(duel: Record | None) -> str:
    return f"{text_of(duel.get('state'))} {signed(duel.get('mean'))}" if duel else ABSENT


def _wide_table(rows: Sequence[Cells]) -> Table:
    table = Table(*COLUMNS, box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _narrow_table(rows: Sequence[Cells]) -> Table:
    """Return the table with pairs of columns merged, one below the other."""
    heads = [f"{upper}\n{lower}" for upper, lower in zip(COLUMNS[::2], COLUMNS[1::2], strict=True)]
    table = Table(*heads, box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        pairs = zip(row[::2], row[1::2], strict=True)
        cells = (Text("\n").join(map(_cell, pair)) for pair in pairs)
        table.add_row(*cells, end_section=True)
    return table


def _cell(text: str) -> Text:
    """Return a cell as plain text: brackets in it are not read as rich's markup."""
    return Text(text, style=TERMINAL.get(text, ""))
