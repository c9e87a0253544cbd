"""The metrics of a study next to those of its references, a strip each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixunlearn.plain import finite
from report.notation import ABSENT, mean_and_sd, three_digits, unit_name
from report.plots.drawing import BLUE, GREEN, INK, ORANGE, PALE, new_figure, write_picture

BESIDE = ("div/js", "gap/avg")  # drawn after the metrics of the average gap
CAPTION = (
    "green: the references' mean ± sd · numbers: value, or mean ± sd (n) · arrow: off the scale"
)
FAR = 5  # a value that would stretch a strip more than this is marked at its edge

NO_SPAN = 1e-9  # values closer than this differ only by rounding


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The score of a configuration in one metric: one value, or several with mean and sd."""

    label: str
    values: tuple[float, ...]
    mean: float | None
    sd: float | None
    text: str
    colour: str
    marker: str


def metrics_against_references(summary: Mapping[str, Any], path: Path) -> None:
    """Draw one strip per metric: each configuration next to the retrained references.

    Args:
        summary: the result of a sweep, all values on `test`.
        path: the PNG file to write, atomically.
    """
    write_picture(metrics_figure(summary), path)


def metrics_figure(summary: Mapping[str, Any]) -> Figure:
    """Return the figure that `metrics_against_references` writes."""
    strips = {metric: samples_of(summary, metric) for metric in (*summary["gap_metrics"], *BESIDE)}
    strips = {metric: samples for metric, samples in strips.items() if _any_value(samples)}
    # Rounded up.
    lines = max(1, -(-len(strips) // 2))
    figure = new_figure(width=9.5, height=0.5 + 1.75 * lines)
    panels = figure.subplots(lines, 2, squeeze=False).ravel()
    for index, (metric, samples) in enumerate(strips.items()):
        _draw_strip(panels[index], metric, samples, labelled=index % 2 == 0)
    for panel in panels[len(strips) :]:
        # With an odd number of strips.
        panel.remove()
    figure.supxlabel(CAPTION, fontsize=9, color=INK)
    return figure


def _any_value(samples: Sequence[Sample]) -> bool:
    return any(sample.mean is not None for sample in samples)


def samples_of(summary: Mapping[str, Any], metric: str) -> list[Sample]:
    """Return the scores of references, original, default, best, and best under fresh seeds.

    There is no default if it is the best.
    """
    best: Mapping[str, object] = next(iter(summary.get("best") or []), {})
    default = summary.get("default") or {}
    number, first = best.get("trial", ABSENT), default.get("trial", 0)
    same = bool(default) and number == first
    return [
        _many("references", (summary.get("references") or {}).get(metric), GREEN, ""),
        _one("original", summary.get("original"), metric, PALE, "D"),
        *([] if same else [_one(f"default (trial {first})", default, metric, ORANGE, "s")]),
        _one("best = default" if same else f"best (trial {number})", best, metric, BLUE, "o"),
        _many("best, fresh seeds", (summary.get("spread") or {}).get(metric), BLUE, "o"),
    ]


def _one(
    label: str, values: Mapping[str, object] | None, metric: str, colour: str, marker: str
) -> Sample:
    value = finite((values or {}).get(metric))
    known = () if value is None else (value,)
    text = three_digits(value)
    return Sample(
        label=label, values=known, mean=value, sd=None, text=text, colour=colour, marker=marker
    )


def _many(label: str, distribution: Mapping[str, Any] | None, colour: str, marker: str) -> Sample:
    given = distribution or {}
    values = tuple(value for value in map(finite, given.get("values") or ()) if value is not None)
    return Sample(
        label=label,
        values=values,
        mean=finite(given.get("mean")),
        sd=finite(given.get("sd")),
        text=mean_and_sd(given),
        colour=colour,
        marker=marker,
    )


def _draw_strip(axes: Axes, metric: str, samples: Sequence[Sample], *, labelled: bool) -> None:
    references, *_ = samples
    if references.mean is not None:
        sd = references.sd or 0.0
        axes.axvline(references.mean, color=GREEN, linewidth=1.2, zorder=1)
        axes.axvspan(references.mean - sd, references.mean + sd, color=GREEN, alpha=0.2, zorder=0)
    low, high = range_of(samples)
    axes.spines[["top", "right"]].set_visible(False)
    for height, sample in enumerate(samples):
        _draw_sample(axes, height, sample, low, high)
    # Values equal but for rounding need a width: ticks between them would have 15 digits.
    margin = 0.06 * (high - low) if high - low >= NO_SPAN else 0.5
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(samples) - 0.4, -0.6)
    axes.set_yticks(range(len(samples)), [sample.label for sample in samples] if labelled else [])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.set_title(metric, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(unit_name(metric), fontsize=9)


def range_of(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the range to show: all values, unless original or default would hide the others."""
    references, *others, best, again = samples
    near = [bound for sample in (references, best, again) for bound in _extent(sample)]
    # The default first: it may fit where the original, which is usually farther, does not.
    for sample in reversed(others):
        stretched = [*near, *_extent(sample)]
        span = max(near, default=0.0) - min(near, default=0.0)
        if span < NO_SPAN or max(stretched) - min(stretched) <= FAR * span:
            near = stretched
    return min(near, default=0.0), max(near, default=1.0)


def _extent(sample: Sample) -> list[float]:
    if sample.mean is None:
        return []
    sd = sample.sd or 0.0
    return [sample.mean - sd, sample.mean + sd, *sample.values]


def _draw_sample(axes: Axes, height: int, sample: Sample, low: float, high: float) -> None:
    beside = axes.get_yaxis_transform()  # x in widths of the axes, y in rows
    axes.text(1.02, height, sample.text, transform=beside, va="center", fontsize=8.5, color=INK)
    if sample.mean is None:
        return
    if not low <= sample.mean <= high:
        edge, marker = (0.985, ">") if sample.mean > high else (0.015, "<")
        axes.scatter([edge], [height], s=46, marker=marker, color=sample.colour, transform=beside)
        return
    if len(sample.values) > 1 or not sample.marker:
        heights = [height] * len(sample.values)
        axes.scatter(sample.values, heights, s=22, facecolors="none", edgecolors=sample.colour)
    if sample.marker:
        axes.errorbar(sample.mean, height, xerr=sample.sd, color=sample.colour, capsize=3)
        axes.scatter([sample.mean], [height], s=42, marker=sample.marker, color=sample.colour)
