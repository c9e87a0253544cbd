"""The page over all requests of a sequence."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixunlearn.wording import counted
from report.notation import ABSENT, markdown_table, markdown_text, three_digits
from report.request_card import headline

SHOWN = ("acc/train_forget", "mia/asr", "acc/test")
HEADING = (
    "request",
    "new images",
    "forgotten so far",
    *(f"{name} before → after" for name in SHOWN),
    "known of the result",
    "record",
    "finished",
)


def sequence_page(records: Sequence[Mapping[str, Any]], new: Sequence[int]) -> str:
    """Return the page as Markdown; it names no image and no id.

    Args:
        records: deletion records of the requests, in order, as plain data.
        new: for each of them: images that no request before it has asked for.
    """
    total = records[-1]["forget"]["images"] if records else 0
    about = (
        f"Handled: {counted(len(records), 'request')}, each from the model that the one before has "
        f"released; {counted(total, 'image')} forgotten. Each request is measured on the images "
        "of all requests so far. The last folder holds the model to use."
    )
    return "\n\n".join(
        ("# Deletion requests", about, markdown_table(HEADING, _rows(records, new)), "")
    )


def _rows(records: Sequence[Mapping[str, Any]], new: Sequence[int]) -> Iterator[tuple[str, ...]]:
    for record, count in zip(records, new, strict=True):
        yield (
            markdown_text(record["request"]),
            str(count),
            str(record["forget"]["images"]),
            *(_change(record["measured"], name) for name in SHOWN),
            markdown_text(headline(record)),
            str(record["number"]),
            record["finished"],
        )


def _change(measured: Mapping[str, Any], name: str) -> str:
    if name not in measured["after"]:
        return ABSENT
    before, after = (three_digits(measured[when].get(name)) for when in ("before", "after"))
    return f"{before} → {after}"
