"""A night as its readers see it: verdict first, on a page, in Markdown and in a terminal.

Page and Markdown are made of the same parts, so that an e-mail says what the page says; a figure is
the only thing that a page alone has. Whatever a record lacks is written `–`.
"""

import base64
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mixunlearn.metrics.nights import SURE
from report.card import ESCAPES
from report.nightly.figure import points_of, trend_figure
from report.nightly.record import UNDECIDED, Record, numbers_in, parts_of, text_of, verdict_of
from report.notation import ABSENT, MINUS, finite, mean_and_sd, three_digits
from report.plots import DPI
from report.tables import FirstThatFits

Row: TypeAlias = Sequence[str]

PAGE, MARKDOWN = "night.html", "night.md"
TEMPLATE = "page.html.j2"
HERE = Path(__file__).parent
PAGES = ("http://", "https://")
IN_URLS = ":/?#[]@!$&'()*+,;=%~"  # what stays as it is in an address; < and > would end it
COLOURS = 64  # of a picture in the page
RELATIVE = ("gap/", "z/")  # metrics that the record has, and a page would be long with
RECENT = 7  # nights in the table of the Markdown; the page has all
WORST_FIRST = ("failed", "regressed", "inconclusive", "improved", "unchanged")
TERMINAL = {"failed": "bold red", "regressed": "bold red", "improved": "green"}
COLUMNS = (
    *("date", "verdict", "experiment", "champion", "gap/avg (pp)"),
    *("shift (pp)", "CUSUM", "duel (pp)", "trials", "minutes"),
)
INTERVAL = f"{100 * (1 - 2 * SURE):.0f} %"
ABOUT = ("epochs", "since", "version", "trial")  # what a champion's line tells
NOT_PROMOTED = "Nothing was promoted."
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (0.0, "bytes"))
DUELS = {
    "won": "the candidate is better",
    "lost": "the candidate is not better by as much as the margin",
    "open": "not decided yet",
}
LEGEND = (
    "gap/avg: distance to retrained models on test, in percentage points (pp), smaller is nearer; "
    "mean ± sd (n) of fresh seeds. A shift is against earlier nights, positive is worse; a duel's "
    "difference is champion − candidate, positive is better. CUSUM: level / limit."
)


# --- what is said ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Part:
    """One question about an experiment, answered in sentences, a table, or a list.

    Args:
        title: the question, in a word or two.
        lines: sentences, a paragraph each.
        headings: of the table; none where the first column names what the others say.
        rows: of the table, as many cells as headings.
        items: of the list.
    """

    title: str
    lines: Sequence[str] = ()
    headings: Row = ()
    rows: Sequence[Row] = ()
    items: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """What a night found of an experiment.

    Args:
        name: of the experiment.
        word: its verdict.
        why: the reason, "" where none was given.
        parts: the numbers, most important first.
    """

    name: str
    word: str
    why: str
    parts: Sequence[Part]


def headline(night: Record) -> str:
    """Return the night's outcome in one sentence, with the experiments that are not unchanged."""
    return f"{text_of(night.get('plan'))}, {text_of(night.get('date'))}: {_outcome(night)}"


def _outcome(night: Record) -> str:
    found = _verdicts(night)
    if night.get("state") == "failed":
        error = text_of(night.get("error"), "the reason was not written down")
        return f"failed: {error}" + (f" (before that: {found})" if found else "")
    if night.get("state") == "running":
        return "still running" + (f" (so far: {found})" if found else "")
    return found or UNDECIDED


def _verdicts(night: Record) -> str:
    """Return the night's verdict, then others, each with the experiments that it is about."""
    names: dict[str, list[str]] = {}
    for experiment in parts_of(night):
        word = verdict_of(night, experiment)
        if word == experiment.get("verdict") or night.get("state") == "done":
            names.setdefault(word, []).append(text_of(experiment.get("name")))
    own = text_of(night.get("verdict"), "")
    notable = sorted(set(names) - {"unchanged"}, key=lambda word: (word != own, _severity(word)))
    return ", ".join(f"{word} ({', '.join(names[word])})" for word in notable) or own


def _severity(word: str) -> int:
    return WORST_FIRST.index(word) if word in WORST_FIRST else len(WORST_FIRST)


def _night_word(night: Record) -> str:
    state = text_of(night.get("state"), "done")
    return text_of(night.get("verdict"), UNDECIDED) if state == "done" else state


def _sections(night: Record) -> list[Section]:
    margin = night.get("margin")
    return [
        Section(
            name=text_of(experiment.get("name")),
            word=verdict_of(night, experiment),
            why=text_of(experiment.get("why"), ""),
            parts=_parts(experiment, margin),
        )
        for experiment in parts_of(night)
    ]


def _parts(experiment: Record, margin: object) -> list[Part]:
    return [
        Part(title="Tonight", rows=_numbers(experiment, margin)),
        _duel(experiment, margin),
        _changes(experiment),
        Part(title="What was spent", rows=_spent(experiment)),
        Part(
            title="Promotion", lines=[text_of(experiment.get("promoted"), "Nothing was promoted.")]
        ),
        *_remarks(experiment),
    ]


def _numbers(experiment: Record, margin: object) -> list[Row]:
    own, values = experiment.get("references") or {}, numbers_in(experiment.get("gaps"))
    own_gap = mean_and_sd({**own, "n": len(numbers_in(own.get("values"))) or ABSENT})
    each = ", ".join(map(three_digits, values))
    rows: list[Row] = [
        ("champion", _champion(experiment.get("champion"))),
        ("gap/avg", _with_unit(mean_and_sd(_distribution(values)))),
        ("each seed", each or ABSENT),
        ("references' own", _with_unit(own_gap)),
        ("against earlier nights", _shift(experiment.get("shift"), margin)),
        ("CUSUM", _cusum(experiment.get("cusum"))),
        ("forget set", text_of(experiment.get("draw"))),
    ]
    metrics = experiment.get("metrics") or {}
    plain = {name: each for name, each in metrics.items() if not name.startswith(RELATIVE)}
    return [*rows, *((text_of(name), mean_and_sd(metric)) for name, metric in plain.items())]


def _champion(configuration: Record | None) -> str:
    if not configuration:
        return "none yet"
    parts = [f"{name} {text_of(configuration[name])}" for name in ABOUT if configuration.get(name)]
    return ", ".join([_key(configuration), *parts])


def _key(configuration: Record | None) -> str:
    known = configuration or {}
    return " ".join(text_of(known[each]) for each in ("key", "method") if known.get(each)) or ABSENT


def _shift(shift: Record | None, margin: object) -> str:
    if not shift:
        return "nothing to compare with yet"
    where = _against_margin(finite(shift.get("low")), finite(shift.get("high")), finite(margin))
    return f"{_signed(shift.get('mean'))} pp ({INTERVAL}: {_between(shift)}){where}"


def _against_margin(low: float | None, high: float | None, margin: float | None) -> str:
    """Return in words where an interval lies; positive is worse."""
    if low is None or high is None or margin is None:
        return ""
    said = "not told from the margin"
    if -margin < low and high < margin:
        said = "within the margin"
    elif low >= margin:
        said = "worse by more than the margin"
    elif high <= -margin:
        said = "better by more than the margin"
    return f": {said} of {three_digits(margin)} pp"


def _cusum(cusum: Record | None) -> str:
    if not cusum:
        return ABSENT
    limit, nights = finite(cusum.get("limit")), int(finite(cusum.get("nights")) or 0)
    known = "no limit yet" if limit is None else f"limit {three_digits(limit)}"
    alarm = f"alarm for {_counted(nights, 'night')}" if nights else "no alarm"
    return f"{three_digits(cusum.get('level'))}, {known}; {alarm}"


def _duel(experiment: Record, margin: object) -> Part:
    candidate, found = experiment.get("candidate") or {}, experiment.get("duel") or {}
    if not candidate and not found:
        return Part(title="Duel", lines=["No candidate tonight."])
    lines = [_duel_words(found, margin)] if found else ["They have not met yet."]
    champion = experiment.get("champion") or {}
    named = [("configuration", _key(champion), _key(candidate))]
    gaps = [numbers_in(experiment.get(name)) for name in ("gaps", "rival_gaps")]
    scores = [mean_and_sd(_distribution(each)) for each in gaps]
    rows = [*named, *_differing(champion, candidate), ("gap/avg tonight (pp)", *scores)]
    return Part(title="Duel", lines=lines, headings=("", "champion", "candidate"), rows=rows)


def _duel_words(found: Record, margin: object) -> str:
    state = text_of(found.get("state"), UNDECIDED)
    words = f"{state[:1].upper()}{state[1:]}: {DUELS.get(state, 'its state is not known')}"
    if state == "lost" and finite(margin) is not None:
        words += f" of {three_digits(margin)} pp"
    known = [finite(found.get(name)) for name in ("low", "high")] != [None, None]
    bounds = f"bounds {_between(found)}" if known else "no bounds yet"
    pairs, nights = (int(finite(found.get(name)) or 0) for name in ("pairs", "nights"))
    return (
        f"{words}. Mean difference {_signed(found.get('mean'))} pp ({bounds}) over "
        f"{_counted(pairs, 'pair')} in {_counted(nights, 'night')}."
    )


def _differing(champion: Record, candidate: Record) -> list[Row]:
    """Return the settings in which two configurations differ."""
    settings = [
        {**(each.get("parameters") or {}), "epochs": each.get("epochs")}
        for each in (champion, candidate)
    ]
    names = dict.fromkeys([*settings[0], *settings[1]])
    values = {name: [each.get(name) for each in settings] for name in names}
    return [(text_of(name), _setting(a), _setting(b)) for name, (a, b) in values.items() if a != b]


def _changes(experiment: Record) -> Part:
    causes = _all_said(experiment.get("causes"))
    nothing = [] if causes else ["Nothing that is known, since the night before."]
    return Part(title="What changed", lines=nothing, items=causes)


def _spent(experiment: Record) -> list[Row]:
    seconds = experiment.get("spent") or {}
    trials = experiment.get("trials") or {}
    rows = [(text_of(name), f"{three_digits(value)} s") for name, value in seconds.items()]
    counted = ", ".join(f"{text_of(count)} {name}" for name, count in trials.items())
    return [*rows, ("trials", counted or ABSENT), ("disk", _bytes(experiment.get("disk_bytes")))]


def _remarks(experiment: Record) -> list[Part]:
    """Return what was put off, and what failed; nothing where nothing did."""
    notes, failed = (
        _all_said(experiment.get("notes")),
        (experiment.get("trials") or {}).get("failed"),
    )
    failures = [f"{_counted(failed, 'trial')} failed."] if failed else []
    parts = [Part(title="Notes", items=notes), Part(title="Failures", lines=failures)]
    return [part for part in parts if part.items or part.lines]


def _closing(night: Record) -> list[Part]:
    """Return what is said of the night as a whole."""
    began, ended = (text_of(night.get(name)) for name in ("began", "ended"))
    rows = [
        ("began", began),
        ("ended", ended),
        ("minutes", _minutes(night.get("seconds"))),
        ("attempt", text_of(night.get("attempt"))),
        ("margin", _with_unit(three_digits(night.get("margin")))),
    ]
    return [
        Part(title="The night", rows=rows),
        Part(title="Who was told", items=_all_said(night.get("told"))),
    ]


def _links(night: Record) -> dict[str, str]:
    """Return addresses of pages by name: nothing else may be followed from a page."""
    links = {text_of(name): text_of(url, "") for name, url in (night.get("links") or {}).items()}
    return {name: quote(url, IN_URLS) for name, url in links.items() if url.startswith(PAGES)}


# --- how it is written -----------------------------------------------------------------------


def _all_said(values: Iterable[object] | None) -> list[str]:
    return [said for said in (text_of(value, "") for value in values or ()) if said]


def _setting(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else text_of(value)


def _signed(value: object) -> str:
    number = finite(value)
    return (
        ABSENT if number is None else f"{MINUS if number < 0 else '+'}{three_digits(abs(number))}"
    )


def _between(bounds: Record) -> str:
    return f"{_signed(bounds.get('low'))} to {_signed(bounds.get('high'))}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _with_unit(text: str) -> str:
    return text if text == ABSENT else f"{text} pp"


def _minutes(seconds: object) -> str:
    known = finite(seconds)
    return ABSENT if known is None else three_digits(known / 60)


def _bytes(size: object) -> str:
    known = finite(size)
    if known is None:
        return ABSENT
    limit, unit = next(each for each in UNITS if known >= each[0] or not each[0])
    return f"{three_digits(known / limit)} {unit}" if limit else f"{known:.0f} {unit}"


def _distribution(values: Sequence[float]) -> dict[str, float | int | None]:
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)) if values else None, "sd": sd, "n": len(values)}


# --- the nights before -----------------------------------------------------------------------


def trend(nights: Sequence[Record]) -> Group:
    """Return a table for a terminal: a row a night and experiment, then why nights failed.

    Args:
        nights: in order of date.
    """
    rows = _history(nights)
    failed = [Text(headline(night)) for night in nights if night.get("state") == "failed"]
    tables = [_wide_table(rows), _narrow_table(rows)]
    return Group(FirstThatFits(tables=tables), Text(LEGEND, style="dim"), *failed)


def _history(nights: Iterable[Record]) -> list[Row]:
    return [row for night in nights for row in _night_rows(night)]


def _night_rows(night: Record) -> list[Row]:
    when = text_of(night.get("date"))
    rows = [_night_row(when, night, experiment) for experiment in parts_of(night)]
    minutes = _minutes(night.get("seconds"))
    return rows or [(when, _night_word(night), *[ABSENT] * (len(COLUMNS) - 3), minutes)]


def _night_row(when: str, night: Record, experiment: Record) -> Row:
    spent = numbers_in((experiment.get("spent") or {}).values())
    return (
        when,
        verdict_of(night, experiment),
        text_of(experiment.get("name")),
        _key(experiment.get("champion")),
        mean_and_sd(_distribution(numbers_in(experiment.get("gaps")))),
        _brief(experiment.get("shift")),
        _level(experiment.get("cusum")),
        _standing(experiment.get("duel")),
        text_of((experiment.get("trials") or {}).get("ran")),
        _minutes(sum(spent) if spent else None),
    )


def _brief(shift: Record | None) -> str:
    return f"{_signed(shift.get('mean'))} ({_between(shift)})" if shift else ABSENT


def _level(cusum: Record | None) -> str:
    if not cusum:
        return ABSENT
    return f"{three_digits(cusum.get('level'))} / {three_digits(cusum.get('limit'))}"


def _standing(duel: Record | None) -> str:
    return f"{text_of(duel.get('state'))} {_signed(duel.get('mean'))}" if duel else ABSENT


def _wide_table(rows: Sequence[Row]) -> Table:
    table = Table(*COLUMNS, box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _narrow_table(rows: Sequence[Row]) -> Table:
    """Return the table with two columns in each, one below the other."""
    heads = [f"{upper}\n{lower}" for upper, lower in zip(COLUMNS[::2], COLUMNS[1::2], strict=True)]
    table = Table(*heads, box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        pairs = zip(row[::2], row[1::2], strict=True)
        cells = (Text("\n").join(map(_cell, pair)) for pair in pairs)
        table.add_row(*cells, end_section=True)
    return table


def _cell(text: str) -> Text:
    """Return a cell as it is: what looks like rich's markup is none."""
    return Text(text, style=TERMINAL.get(text, ""))


# --- as Markdown -----------------------------------------------------------------------------


def markdown(nights: Sequence[Record]) -> str:
    """Return the last night as Markdown: what the page says, and a table for its figures.

    Args:
        nights: in order of date, at least one.
    """
    night = nights[-1]
    sections = [_section_text(section) for section in _sections(night)]
    links = [f"{_escaped(name)}: <{url}>" for name, url in _links(night).items()]
    recent = Part(title="Nights", headings=COLUMNS, rows=_history(nights[-RECENT:]))
    blocks = [
        f"# {_escaped(headline(night))}",
        *(sections or ["No experiment was run."]),
        "## The night and those before",
        *(_part_text(part) for part in (recent, *_closing(night))),
        *links,
        _escaped(LEGEND),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _section_text(section: Section) -> str:
    title = f"## {_escaped(section.name)}: {_escaped(section.word)}"
    blocks = [title, _escaped(section.why), *map(_part_text, section.parts)]
    return "\n\n".join(block for block in blocks if block)


def _part_text(part: Part) -> str:
    blocks = [
        *map(_escaped, part.lines),
        _table_text(part) if part.rows else "",
        "\n".join(f"- {_escaped(item)}" for item in part.items),
    ]
    said = [block for block in blocks if block]
    return "\n\n".join([f"### {_escaped(part.title)}", *said]) if said else ""


def _table_text(part: Part) -> str:
    width = len(part.rows[0])
    lines = [part.headings or [""] * width, ["---"] * width, *part.rows]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(text: str) -> str:
    return text.translate(ESCAPES)


# --- as a page -------------------------------------------------------------------------------


def write_night(nights: Sequence[Record], folder: Path) -> None:
    """Write the page and the Markdown of the last night, each whole or not at all.

    Args:
        nights: in order of date, at least one; the last is the one to report.
        folder: where they go; it is made when missing.

    Raises:
        OSError: they cannot be written.
    """
    contents = {PAGE: _page(nights), MARKDOWN: markdown(nights)}
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = {name: folder / f".{name}.{os.getpid()}.part" for name in contents}
    try:
        for name, text in contents.items():
            with unfinished[name].open("wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        for name, path in unfinished.items():
            path.replace(folder / name)
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)


def _page(nights: Sequence[Record]) -> str:
    night = nights[-1]
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    sections = _sections(night)
    return environment.get_template(TEMPLATE).render(
        headline=headline(night),
        word=_night_word(night),
        words=WORST_FIRST,
        sections=sections,
        pictures={section.name: _picture(nights, section.name) for section in sections},
        columns=COLUMNS,
        history=_history(reversed(nights)),
        closing=_closing(night),
        links=_links(night),
        legend=LEGEND,
        style=Markup((HERE.parent / "page.css").read_text("utf-8")),
    )


def _picture(nights: Sequence[Record], experiment: str) -> str:
    """Return the figure as an address of its own bytes; "" where there is nothing to draw."""
    if not any(point.gaps for point in points_of(nights, experiment)):
        return ""
    drawn, packed = io.BytesIO(), io.BytesIO()
    trend_figure(nights, experiment).savefig(drawn, format="png", dpi=DPI)
    # A palette is a quarter of the bytes, in a page that may have many such pictures.
    palette = (
        Image.open(drawn)
        .convert("RGB")
        .quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    palette.save(packed, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"
