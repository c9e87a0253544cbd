"""A night as Markdown and as an HTML page that needs no script and no network."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mixunlearn.atomic import replacing
from report.nightly.content import closing_topics, experiment_reports, links_of
from report.nightly.figure import points_of, trend_figure
from report.nightly.headline import WORST_FIRST, headline, night_word
from report.nightly.history import COLUMNS, history_of
from report.nightly.markdown import markdown
from report.nightly.record import Record
from report.nightly.terms import TERMS, anchors
from report.places import documentation
from report.plots.drawing import drawing
from report.template import render

NIGHT_PAGE, NIGHT_MARKDOWN = "night.html", "night.md"
WORDS = "The champion's gap of {} by night; the table of nights below has the numbers"


def write_night(nights: Sequence[Record], folder: Path) -> None:
    """Write the page and the Markdown of the last night, each whole or not at all.

    Args:
        nights: in order of date, at least one; the last is the one to report.
        folder: where they are written; it is created if missing.

    Raises:
        OSError: a file cannot be written.
    """
    contents = {NIGHT_PAGE: _page(nights, folder), NIGHT_MARKDOWN: markdown(nights)}
    with ExitStack() as stack:  # both are written before either replaces its old version
        for name, text in contents.items():
            stack.enter_context(replacing(folder / name)).write_bytes(text.encode())


def _page(nights: Sequence[Record], folder: Path) -> str:
    night = nights[-1]
    reports = experiment_reports(nights)
    return render(
        "nightly/page.html.j2",
        headline=headline(night),
        word=night_word(night),
        words=WORST_FIRST,
        reports=reports,
        anchored=[(f"experiment-{n}", each.name) for n, each in enumerate(reports, start=1)],
        pictures={report.name: _picture(nights, report.name) for report in reports},
        columns=COLUMNS,
        history=history_of(reversed(nights)),
        closing=closing_topics(night),
        places=[
            *((name, url, "") for name, url in links_of(night).items()),
            ("What a night does", documentation("nightly", folder), "docs/nightly.md"),
        ],
        terms=TERMS,
        anchors=anchors(),
    )


def _picture(nights: Sequence[Record], experiment: str) -> str:
    """Return the figure as an element of the page; "" if there is nothing to draw."""
    if not any(point.gaps for point in points_of(nights, experiment)):
        return ""
    return drawing(trend_figure(nights, experiment), WORDS.format(experiment))
