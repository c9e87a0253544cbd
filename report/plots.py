"""A study's result as pictures: the search, the metrics next to the references', the generator.

Figures are built as objects, without pyplot's global state, so that threads can draw.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mixunlearn.atomic import replacing
from mixunlearn.plain import finite
from report.notation import ABSENT, mean_and_sd, three_digits, unit_name
from report.report_data import Masks, Mixtures, Pixels

DPI = 150
INK = "#222222"
PALE = "#8a8a8a"
# Okabe and Ito's colours can be distinguished with any colour vision; markers differ as well.
BLUE, ORANGE, VERMILION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
STATES: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "facecolors": BLUE, "edgecolors": "white", "s": 52},
    "pruned": {"marker": "v", "facecolors": "white", "edgecolors": ORANGE, "s": 40},
    "failed": {"marker": "x", "color": VERMILION, "s": 40},
}
LABELS = {"pruned": "pruned, at its last epoch"}
BESIDE = ("div/js", "gap/avg")  # drawn after the metrics of the average gap
CAPTION = (
    "green: the references' mean ± sd · numbers: value, or mean ± sd (n) · arrow: off the scale"
)
WIDE = 30  # ratio of largest to smallest from which a linear axis hides the good trials
RAIL = 0.96  # height of the marks of trials without a value, as a fraction of the axes' height
FAR = 5  # a value that would stretch a strip more than this is marked at its edge

NO_SPAN = 1e-9  # values closer than this differ only by rounding


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trial of the search; `value` is None where it has no finite objective."""

    trial: int
    state: str
    value: float | None


def gap_by_trial(
    rows: Sequence[Mapping[str, object]],
    *,
    objective: str = "gap/avg",
    path: Path,
    band: tuple[float, float] | None,
    original: float | None,
) -> None:
    """Draw the objective of every trial, the best so far, the references and the original.

    Args:
        rows: trials as in trials.parquet, in any order.
        objective: the column to draw, smaller is better.
        path: the PNG file to write, atomically.
        band: lowest and highest objective of the references against each other.
        original: objective of the untouched original.
    """
    _write(gap_figure(rows, objective=objective, band=band, original=original), path)


def gap_figure(
    rows: Sequence[Mapping[str, object]],
    *,
    objective: str = "gap/avg",
    band: tuple[float, float] | None = None,
    original: float | None = None,
) -> Figure:
    """Return the figure that `gap_by_trial` writes; same arguments."""
    points = sorted(_points(rows, objective), key=lambda point: point.trial)
    figure = new_figure(width=8.0, height=4.6)
    axes = figure.add_subplot()
    _draw_trials(axes, points)
    best = _draw_best_so_far(axes, points)
    _draw_levels(axes, band, original)
    _scale(axes, [*(point.value for point in points), original], band or ())
    _draw_rail(axes, [point for point in points if point.value is None])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=PALE, alpha=0.2)
    axes.set_title(_title(best, objective), loc="left", fontsize=11)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{objective} ({unit_name(objective)})" if unit_name(objective) else objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _title(best: Point | None, objective: str) -> str:
    if best is None:
        return "no trial with a result"
    return f"best: trial {best.trial}, {objective} {three_digits(best.value)}"


def _points(rows: Sequence[Mapping[str, object]], objective: str) -> Iterator[Point]:
    for row in rows:
        trial, state = int(str(row["trial"])), str(row["state"])
        yield Point(trial=trial, state=state, value=finite(row.get(objective)))


def _draw_levels(axes: Axes, band: tuple[float, float] | None, original: float | None) -> None:
    if band is not None:
        label = "references against each other"
        axes.axhspan(*band, color=GREEN, alpha=0.22, linewidth=0, label=label, zorder=0)
    if original is not None:
        axes.axhline(original, color=PALE, linestyle="--", label="original, untouched", zorder=1)


def _draw_trials(axes: Axes, points: Sequence[Point]) -> None:
    for state, style in STATES.items():
        drawn = [point for point in points if point.state == state]
        if drawn:  # trials without a value are not drawn here, but explained in the legend
            trials = [point.trial for point in drawn]
            values = [math.nan if point.value is None else point.value for point in drawn]
            axes.scatter(trials, values, label=LABELS.get(state, state), zorder=3, **style)


def _draw_rail(axes: Axes, points: Sequence[Point]) -> None:
    """Mark trials without a value at the top: at the bottom a failure would look like the best."""
    if not points:
        return
    low, high = axes.get_ylim()
    logarithmic = axes.get_yscale() == "log"
    axes.set_ylim(low, high * (high / low) ** 0.1 if logarithmic else high + 0.1 * (high - low))
    foot, whole = 2 * RAIL - 1, axes.transAxes
    strip = Rectangle((0, foot), 1, 1 - foot, transform=whole, facecolor=PALE, alpha=0.15)
    axes.add_patch(strip)
    axes.text(1.01, RAIL, "no value", transform=whole, va="center", fontsize=9)
    for point in points:
        across = axes.get_xaxis_transform()
        axes.scatter([point.trial], [RAIL], transform=across, zorder=3, **STATES[point.state])


def _draw_best_so_far(axes: Axes, points: Sequence[Point]) -> Point | None:
    """Draw the best value up to each trial; return the best trial of all.

    A trial that was stopped early counts: it is a configuration with fewer epochs.
    """
    valued = [point for point in points if point.state != "failed" and point.value is not None]
    if not valued:
        return None
    best: list[Point] = []
    for point in valued:
        best.append(min([*best[-1:], point], key=_value))
    trials = [*(point.trial for point in valued), max(point.trial for point in points) + 0.5]
    values = [_value(point) for point in (*best, best[-1])]
    axes.step(trials, values, where="post", color=INK, label="best so far")
    return best[-1]


def _value(point: Point) -> float:
    return math.inf if point.value is None else point.value


def _scale(axes: Axes, values: Sequence[float | None], band: Sequence[float]) -> None:
    """Choose a logarithmic axis where a linear one would hide the good trials."""
    drawn = [value for value in values if value is not None]
    known = [*drawn, *band]
    positive = [value for value in known if value > 0]  # a band may reach zero, a point must not
    if min(drawn, default=1) > 0 and positive and max(positive) / min(positive) >= WIDE:
        axes.set_yscale("log")
        axes.set_ylim(min(positive) / 1.4, max(positive) * 1.4)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif known and min(known) >= 0:
        axes.set_ylim(0, max(known) * 1.08 or 1)
    elif not known:
        axes.set_yticks([])


# --- metrics next to the references ---------------------------------------------------------


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
    _write(metrics_figure(summary), path)


def metrics_figure(summary: Mapping[str, Any]) -> Figure:
    """Return the figure that `metrics_against_references` writes."""
    strips = {metric: samples_of(summary, metric) for metric in (*summary["gap_metrics"], *BESIDE)}
    strips = {metric: samples for metric, samples in strips.items() if _any_value(samples)}
    lines = max(1, -(-len(strips) // 2))
    figure = new_figure(width=9.5, height=0.5 + 1.75 * lines)
    panels = figure.subplots(lines, 2, squeeze=False).ravel()
    for index, (metric, samples) in enumerate(strips.items()):
        _draw_strip(panels[index], metric, samples, labelled=index % 2 == 0)
    for panel in panels[len(strips) :]:
        panel.remove()
    figure.supxlabel(CAPTION, fontsize=9, color=INK)
    return figure


def _any_value(samples: Sequence[Sample]) -> bool:
    return any(sample.mean is not None for sample in samples)


def samples_of(summary: Mapping[str, Any], metric: str) -> list[Sample]:
    """Return the scores of references, original, default, best, and best under fresh seeds."""
    best: Mapping[str, object] = next(iter(summary.get("best") or []), {})
    default = summary.get("default") or {}
    return [
        _many("references", (summary.get("references") or {}).get(metric), GREEN, ""),
        _one("original", summary.get("original"), metric, PALE, "D"),
        _one(f"default (trial {default.get('trial', 0)})", default, metric, ORANGE, "s"),
        _one(f"best (trial {best.get('trial', ABSENT)})", best, metric, BLUE, "o"),
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
    references, original, default, best, again = samples
    near = [bound for sample in (references, best, again) for bound in _extent(sample)]
    for sample in (default, original):
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


# --- what the generator does ------------------------------------------------------------------

MASKS: dict[str, Any] = {"cmap": "cividis", "vmin": 0.0, "vmax": 1.0}
LINES = ("forget", "retain", "mask", "mixed", "mean mask")
EDGE, GAP, TITLE = 1.2, 0.1, 0.25  # inches: of an image, between two, for the name above
LONGEST_NAME = 14  # of a class, in characters


def generator_picture(mixtures: Mixtures, path: Path) -> None:
    """Draw what a generator mixes, and its masks.

    Args:
        mixtures: the generator's mixtures.
        path: the PNG file to write, atomically.
    """
    _write(generator_figure(mixtures), path)


def generator_figure(mixtures: Mixtures) -> Figure:
    """Return the figure of `generator_picture`: one column per pair, then the mean masks."""
    pairs, classes = len(mixtures.lams), len(mixtures.mean_classes)
    columns = max(pairs, 3)
    lines = len(LINES) - 1 + -(-classes // columns)
    width, height = 1.4 + (EDGE + GAP) * columns, 0.1 + (EDGE + GAP + TITLE) * lines
    figure = new_figure(width=width, height=height)
    figure.set_layout_engine("none")  # all positions are fixed; a layout takes seconds
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for column in range(pairs):
        _draw_pair(axes, column, mixtures)
    for place, name in enumerate(mixtures.mean_classes):
        line, column = divmod(place, columns)
        _draw_image(axes, line + len(LINES) - 1, column, mixtures.mean_masks[place], name)
    for line, label in enumerate(LINES):
        middle = _top(line) + EDGE / 2
        axes.text(0.2, middle, label, rotation=90, ha="center", va="center", color=INK)
    axes.set(xlim=(0, width), ylim=(height, 0))
    masks = ScalarMappable(Normalize(MASKS["vmin"], MASKS["vmax"]), MASKS["cmap"])
    bar = figure.colorbar(masks, cax=figure.add_axes((1 - 0.85 / width, 0.25, 0.2 / width, 0.5)))
    bar.set_label("share of the forget image in a pixel")
    return figure


def _top(line: int) -> float:
    """Return how far from the figure's top the images of a line begin, in inches."""
    return line * (EDGE + GAP + TITLE) + TITLE + 0.05


def _draw_pair(axes: Axes, column: int, mixtures: Mixtures) -> None:
    _draw_image(axes, 0, column, mixtures.forget[column], mixtures.forget_classes[column])
    _draw_image(axes, 1, column, mixtures.retain[column], mixtures.retain_classes[column])
    _draw_image(axes, 2, column, mixtures.masks[column], f"λ = {mixtures.lams[column]:.2f}")
    _draw_image(axes, 3, column, mixtures.mixed[column], "")


def _draw_image(axes: Axes, line: int, column: int, image: Pixels | Masks, name: str) -> None:
    """Draw a mask of shape (H, W), or an image of shape (H, W, 1) or (H, W, 3)."""
    left, top = 0.4 + column * (EDGE + GAP), _top(line)
    pixels = image[..., 0] if image.shape[2:] == (1,) else image
    look = MASKS if image.ndim == 2 else {"cmap": "gray", "vmin": 0, "vmax": 255}  # noqa: PLR2004
    axes.imshow(pixels, extent=(left, left + EDGE, top + EDGE, top), aspect="auto", **look)
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    place: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 9, "color": INK}
    # A name may contain dollar signs, which would start a formula.
    axes.text(left + EDGE / 2, top - 0.04, short, parse_math=False, **place)


# --- figures --------------------------------------------------------------------------------


def new_figure(*, width: float, height: float) -> Figure:
    """Return an empty figure, with its size in inches; it stays white in a dark page."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Figure, path: Path) -> None:
    """Write the whole PNG or nothing: a reader never sees half a picture."""
    with replacing(path) as temporary:
        # Without Matplotlib's version in it, equal figures give equal files.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
