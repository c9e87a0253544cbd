"""The last night as Markdown: the content of its page, with a table in place of figures."""

from collections.abc import Sequence

from report.nightly.content import (
    LEGEND,
    ExperimentReport,
    Topic,
    closing_topics,
    experiment_reports,
    links_of,
)
from report.nightly.headline import headline
from report.nightly.history import COLUMNS, history_of
from report.nightly.record import Record
from report.notation import markdown_text

RECENT = 7  # nights in the table; the page has all


def markdown(nights: Sequence[Record]) -> str:
    """Return the last night as Markdown: the content of its page, with a table for its figures.

    Args:
        nights: in order of date, at least one.
    """
    night = nights[-1]
    reports = [_experiment_text(report) for report in experiment_reports(nights)]
    addresses = [f"{markdown_text(name)}: <{url}>" for name, url in links_of(night).items()]
    recent = Topic(title="Nights", headings=COLUMNS, rows=history_of(nights[-RECENT:]))
    blocks = [
        f"# {markdown_text(headline(night))}",
        *(reports or ["No experiment was run."]),
        "## The night and those before",
        *(_topic_text(topic) for topic in (recent, *closing_topics(night))),
        *addresses,
        markdown_text(LEGEND),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _experiment_text(report: ExperimentReport) -> str:
    title = f"## {markdown_text(report.name)}: {markdown_text(report.word)}"
    blocks = [title, markdown_text(report.why), *map(_topic_text, report.topics)]
    return "\n\n".join(block for block in blocks if block)


def _topic_text(topic: Topic) -> str:
    blocks = [
        *map(markdown_text, topic.lines),
        _table_text(topic) if topic.rows else "",
        "\n".join(f"- {markdown_text(item)}" for item in topic.items),
    ]
    said = [block for block in blocks if block]
    return "\n\n".join([f"### {markdown_text(topic.title)}", *said]) if said else ""


def _table_text(topic: Topic) -> str:
    width = len(topic.rows[0])
    # Markdown has no table without headings.
    lines = [topic.headings or [""] * width, ["---"] * width, *topic.rows]
    return "\n".join(f"| {' | '.join(map(markdown_text, line))} |" for line in lines)
