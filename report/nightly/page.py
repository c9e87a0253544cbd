"""A night as Markdown and as an HTML page that needs no script and no network."""

import base64
import io
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from mixunlearn.atomic import replacing
from report.nightly.content import LEGEND, closing_topics, experiment_reports, links_of
from report.nightly.figure import points_of, trend_figure
from report.nightly.headline import WORST_FIRST, headline, night_word
from report.nightly.history import COLUMNS, history_of
from report.nightly.markdown import markdown
from report.nightly.record import Record
from report.plots.drawing import DPI

NIGHT_PAGE, NIGHT_MARKDOWN = "night.html", "night.md"
TEMPLATE = "page.html.j2"
HERE = Path(__file__).parent
COLOURS = 64  # of a picture in the page


def write_night(nights: Sequence[Record], folder: Path) -> None:
    """Write the page and the Markdown of the last night, each whole or not at all.

    Args:
        nights: in order of date, at least one; the last is the one to report.
        folder: where they are written; it is created if missing.

    Raises:
        OSError: a file cannot be written.
    """
    contents = {NIGHT_PAGE: _page(nights), NIGHT_MARKDOWN: markdown(nights)}
    with ExitStack() as stack:  # both are written before either replaces its old version
        for name, text in contents.items():
            stack.enter_context(replacing(folder / name)).write_bytes(text.encode())


def _page(nights: Sequence[Record]) -> str:
    night = nights[-1]
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        # A misspelt name in the template is an error, not an empty place.
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    reports = experiment_reports(nights)
    return environment.get_template(TEMPLATE).render(
        headline=headline(night),
        word=night_word(night),
        words=WORST_FIRST,
        reports=reports,
        pictures={report.name: _picture(nights, report.name) for report in reports},
        columns=COLUMNS,
        history=history_of(reversed(nights)),
        closing=closing_topics(night),
        links=links_of(night),
        legend=LEGEND,
        # Our own file: escaping would break it.
        style=Markup((HERE.parent / "page.css").read_text("utf-8")),
    )


def _picture(nights: Sequence[Record], experiment: str) -> str:
    """Return the figure as a `data:` URL; "" if there is nothing to draw."""
    if not any(point.gaps for point in points_of(nights, experiment)):
        return ""
    drawn, packed = io.BytesIO(), io.BytesIO()
    trend_figure(nights, experiment).savefig(drawn, format="png", dpi=DPI)
    # A palette makes the picture four times smaller, and a page may have many of them.
    palette = (
        Image.open(drawn)
        # Pillow's MAXCOVERAGE refuses an alpha channel; dithering would make the file larger.
        .convert("RGB")
        .quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    palette.save(packed, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"
