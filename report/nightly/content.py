"""The content of a night's report, used by the page and by the Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

from mixunlearn.metrics.nights import SURE
from mixunlearn.metrics.table import RELATIVE
from mixunlearn.plain import finite
from mixunlearn.wording import counted
from report.nightly.record import UNDECIDED, Record, numbers_in, parts_of, text_of, verdict_of
from report.nightly.wording import (
    between,
    distribution,
    lines_of,
    minutes,
    setting,
    signed,
    size,
    with_unit,
)
from report.notation import ABSENT, mean_and_sd, three_digits

Cells: TypeAlias = Sequence[str]  # of a table's row

PAGES = ("http://", "https://")
IN_URLS = ":/?#[]@!$&'()*+,;=%~"  # kept unquoted in an address; < and > would end it
INTERVAL = f"{100 * (1 - 2 * SURE):.0f} %"
ABOUT = ("epochs", "since", "version", "trial")  # shown in a champion's line
ONE_ORIGINAL = "a night unlearns one original, and how originals vary is unknown"
NOT_PROMOTED = "Nothing was promoted."
PROMOTIONS = {  # by state of the promotion and of the duel, while nothing was promoted
    ("due", "won"): "The candidate has won; it is promoted when this night goes on.",
    ("none", "won"): "Nothing was promoted: the candidate has won, but the plan does not promote.",
}
DUELS = {
    "won": "the candidate is better",
    "lost": "the candidate is not better by as much as the margin",
    "open": "not decided yet",
}
LEGEND = (
    "gap/avg: distance to retrained models on test, in percentage points (pp), smaller is better; "
    "mean ± sd (n) of fresh seeds. Shift: change from earlier nights, positive is worse. Duel: "
    "champion − candidate, positive means the candidate is better. CUSUM: level / limit. In both "
    "tests a night counts as one observation, because its seeds may be alike."
)


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One question about an experiment, answered in sentences, a table, or a list.

    Args:
        title: the question, in a word or two.
        lines: sentences, one paragraph each.
        headings: headings of the table; empty if the first column names the others.
        rows: rows of the table, with as many cells as there are headings.
        items: items of the list.
    """

    title: str
    lines: Sequence[str] = ()
    headings: Cells = ()
    rows: Sequence[Cells] = ()
    items: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ExperimentReport:
    """The results of a night for one experiment.

    Args:
        name: name of the experiment.
        word: its verdict.
        why: the reason, "" if none was given.
        topics: the numbers, most important first.
    """

    name: str
    word: str
    why: str
    topics: Sequence[Topic]


def experiment_reports(nights: Sequence[Record]) -> list[ExperimentReport]:
    """Return the results of the last night, one entry per experiment.

    Args:
        nights: in order of date, at least one.
    """
    *earlier, night = nights
    margin = night.get("margin")
    known = {text_of(each.get("name")) for before in earlier for each in parts_of(before)}
    return [
        ExperimentReport(
            name=text_of(experiment.get("name")),
            word=verdict_of(night, experiment),
            why=text_of(experiment.get("why"), ""),
            topics=_topics(experiment, margin, first=text_of(experiment.get("name")) not in known),
        )
        for experiment in parts_of(night)
    ]


def _topics(experiment: Record, margin: object, *, first: bool) -> list[Topic]:
    return [
        Topic(title="Tonight", rows=_numbers(experiment, margin)),
        _duel(experiment, margin),
        _changes(experiment, first=first),
        Topic(title="What was spent", rows=_spent(experiment)),
        Topic(title="Promotion", lines=[_promotion(experiment)]),
        *_remarks(experiment),
    ]


def _promotion(experiment: Record) -> str:
    """Return what was done to the champion's place; on a first night, who was given it."""
    for name in ("promoted", "appointed"):
        if said := text_of(experiment.get(name), ""):
            return said
    state = text_of((experiment.get("duel") or {}).get("state"))
    return PROMOTIONS.get((text_of(experiment.get("promotion"), "none"), state), NOT_PROMOTED)


def _numbers(experiment: Record, margin: object) -> list[Cells]:
    own, values = experiment.get("references") or {}, numbers_in(experiment.get("gaps"))
    own_gap = mean_and_sd({**own, "n": len(numbers_in(own.get("values"))) or ABSENT})
    each = ", ".join(map(three_digits, values))
    rows: list[Cells] = [
        ("champion", _champion(experiment.get("champion"))),
        ("like retraining?", _judged(experiment.get("champion"))),
        ("gap/avg", with_unit(mean_and_sd(distribution(values)))),
        ("each seed", each or ABSENT),
        ("references' own", with_unit(own_gap)),
        ("against earlier nights", _shift(experiment.get("shift"), margin)),
        ("CUSUM", _cusum(experiment.get("cusum"))),
        ("forget set", text_of(experiment.get("draw"))),
    ]
    metrics = experiment.get("metrics") or {}
    # Gaps and z values follow from these and would triple the table.
    plain = {name: each for name, each in metrics.items() if not name.startswith(RELATIVE)}
    return [*rows, *((text_of(name), mean_and_sd(metric)) for name, metric in plain.items())]


def _champion(configuration: Record | None) -> str:
    if not configuration:
        return "none yet"
    known = [f"{name} {text_of(configuration[name])}" for name in ABOUT if configuration.get(name)]
    return ", ".join([key_of(configuration), *known])


def _judged(configuration: Record | None) -> str:
    """Return the verdict on a champion in words; a night has too few originals for its own."""
    state = text_of((configuration or {}).get("judged"), "")
    return f"at its promotion: {state}" if state else f"undecided: {ONE_ORIGINAL}"


def key_of(configuration: Record | None) -> str:
    """Return a configuration's key and method."""
    known = configuration or {}
    return " ".join(text_of(known[each]) for each in ("key", "method") if known.get(each)) or ABSENT


def _shift(shift: Record | None, margin: object) -> str:
    if not shift:
        return "no night to compare with yet"
    where = _against_margin(finite(shift.get("low")), finite(shift.get("high")), finite(margin))
    return f"{signed(shift.get('mean'))} pp ({INTERVAL}: {between(shift)}){where}"


def _against_margin(low: float | None, high: float | None, margin: float | None) -> str:
    """Return in words where an interval lies relative to the margin; positive is worse."""
    if low is None or high is None or margin is None:
        return ""
    said = "neither clearly within nor beyond the margin"
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
    alarm = f"alarm for {counted(nights, 'night')}" if nights else "no alarm"
    return f"{three_digits(cusum.get('level'))}, {known}; {alarm}"


def _duel(experiment: Record, margin: object) -> Topic:
    candidate, found = experiment.get("candidate") or {}, experiment.get("duel") or {}
    if not candidate and not found:
        return Topic(title="Duel", lines=["No candidate tonight."])
    lines = [_duel_words(found, margin)] if found else ["They have not been compared yet."]
    champion = experiment.get("champion") or {}
    named = [("configuration", key_of(champion), key_of(candidate))]
    gaps = [numbers_in(experiment.get(name)) for name in ("gaps", "rival_gaps")]
    scores = [mean_and_sd(distribution(each)) for each in gaps]
    rows = [*named, *_differing(champion, candidate), ("gap/avg tonight (pp)", *scores)]
    return Topic(title="Duel", lines=lines, headings=("", "champion", "candidate"), rows=rows)


def _duel_words(found: Record, margin: object) -> str:
    state = text_of(found.get("state"), UNDECIDED)
    words = f"{state[:1].upper()}{state[1:]}: {DUELS.get(state, 'its state is not known')}"
    if state == "lost" and finite(margin) is not None:
        words += f" of {three_digits(margin)} pp"
    # One night has a mean, but no bounds.
    known = [finite(found.get(name)) for name in ("low", "high")] != [None, None]
    bounds = f"bounds {between(found)}" if known else "no bounds before the second night"
    pairs, nights = (int(finite(found.get(name)) or 0) for name in ("pairs", "nights"))
    return (
        f"{words}. Mean difference {signed(found.get('mean'))} pp ({bounds}) over "
        f"{counted(pairs, 'pair')} in {counted(nights, 'night')}."
    )


def _differing(champion: Record, candidate: Record) -> list[Cells]:
    """Return the settings in which two configurations differ."""
    settings = [
        # With the epochs: they are a part of the configuration, and of its key.
        {**(each.get("parameters") or {}), "epochs": each.get("epochs")}
        for each in (champion, candidate)
    ]
    names = dict.fromkeys([*settings[0], *settings[1]])
    values = {name: [each.get(name) for each in settings] for name in names}
    return [(text_of(name), setting(a), setting(b)) for name, (a, b) in values.items() if a != b]


def _changes(experiment: Record, *, first: bool) -> Topic:
    causes = lines_of(experiment.get("causes"))
    said = "There is no night before." if first else "No known change since the night before."
    return Topic(title="What changed", lines=[] if causes else [said], items=causes)


def _spent(experiment: Record) -> list[Cells]:
    seconds = experiment.get("spent") or {}
    trials = experiment.get("trials") or {}
    rows = [(text_of(name), f"{three_digits(value)} s") for name, value in seconds.items()]
    counts = ", ".join(f"{text_of(count)} {name}" for name, count in trials.items())
    return [*rows, ("trials", counts or ABSENT), ("disk", size(experiment.get("disk_bytes")))]


def _remarks(experiment: Record) -> list[Topic]:
    """Return the notes and the failed trials, without empty topics."""
    failed = (experiment.get("trials") or {}).get("failed")
    failures = [f"{counted(failed, 'trial')} failed."] if failed else []
    notes = lines_of(experiment.get("notes"))
    topics = [Topic(title="Notes", items=notes), Topic(title="Failures", lines=failures)]
    return [topic for topic in topics if topic.items or topic.lines]


def closing_topics(night: Record) -> list[Topic]:
    """Return the topics about the night as a whole."""
    began, ended = (text_of(night.get(name)) for name in ("began", "ended"))
    rows = [
        ("began", began),
        ("ended", ended),
        ("minutes", minutes(night.get("seconds"))),
        ("attempt", text_of(night.get("attempt"))),
        ("margin", with_unit(three_digits(night.get("margin")))),
    ]
    return [
        Topic(title="The night", rows=rows),
        Topic(title="Notices", items=lines_of(night.get("told"))),
    ]


def links_of(night: Record) -> dict[str, str]:
    """Return addresses of web pages by name; a page must not link to any other kind of address."""
    # `javascript:` and `file:` addresses could come from a record that was edited.
    links = {text_of(name): text_of(url, "") for name, url in (night.get("links") or {}).items()}
    return {name: quote(url, IN_URLS) for name, url in links.items() if url.startswith(PAGES)}
