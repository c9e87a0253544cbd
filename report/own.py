"""How near the recipe of the references comes to the user's own model, as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

from report.notation import ABSENT, mean_and_sd, signed, three_digits
from report.verdict import with_unit

HEADING = (
    *("on test", "your own model", "the recipe's originals", "difference"),
    *("one more is expected in", "near"),
)
CAPTION = (
    "Your own model beside originals that the recipe of the references has trained on the same "
    "images, on test: mean ± sd (n), and where one more of them is expected (95 %). Outside of it, "
    "references by another recipe are no yardstick."
)


def rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each metric; nothing if the original is not the user's own model."""
    for metric, found in (summary.get("own") or {}).items():
        interval = found.get("interval")
        near = found.get("near")
        yield (
            with_unit(metric),
            three_digits(found.get("own")),
            mean_and_sd(found.get("recipe")),
            signed(found.get("difference")),
            " … ".join(map(three_digits, interval)) if interval else ABSENT,
            "not compared" if near is None else "yes" if near else "no",
        )
