"""The figures of `mixunlearn evidence`: biases in margins, and the attack by example."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.evidence_table import (
    Interval,
    Plain,
    bias_in_margins,
    excess,
    methods,
    sets_of,
    signed_area,
)
from report.notation import score
from report.plots.drawing import BLUE, GREEN, INK, ORANGE, PALE, VERMILION, new_figure
from report.runs import mapping

BESIDE = 4  # panels in one line
WIDTH = 10.0  # inches
NEAR, FAR = 1.6, 4.0  # smallest and largest end of an axis of biases, in margins
SURE, FAINT = 0.05, 0.5  # the same for an axis of areas: at most half of an area can be in excess
LONGEST = 28  # characters of a method's name; the table has all of it

Look: TypeAlias = tuple[str, str]  # colour and marker

LOOKS: Mapping[str, Look] = {"equivalent": (GREEN, "o"), "different": (VERMILION, "D")}
OF_SETS: Sequence[Look] = (
    (BLUE, "o"),
    (ORANGE, "s"),
    (VERMILION, "D"),
    (GREEN, "^"),
    (INK, "v"),
)


def biases_figure(evidence: Plain, forget_set: str) -> Figure | None:
    """Return the biases on one forget set: a panel for each metric, a row for each method.

    Args:
        evidence: the content of leaderboard.json.
        forget_set: its name.

    Returns:
        `None` if no method has a bias there.
    """
    known = {_name(each): sets_of(each)[forget_set] for each in _measured(evidence, forget_set)}
    margins = mapping(evidence.get("margins"))
    found = {
        metric: [bias_in_margins(each, metric, margin) for each in known.values()]
        for metric, margin in margins.items()
    }
    if not any(any(biases) for biases in found.values()):
        return None
    lines = -(-len(found) // BESIDE)  # rounded up
    figure = new_figure(width=WIDTH, height=0.3 + lines * (0.7 + 0.26 * len(known)))
    columns = min(len(found), BESIDE)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axes, (metric, biases) in zip(panels, found.items(), strict=False):
        looks = [_look(each, metric) for each in known.values()]
        _draw_biases(axes, metric, dict(zip(known, biases, strict=True)), looks)
    for axes in panels[len(found) :]:
        axes.remove()
    figure.supxlabel("bias: unlearned − retrained, in margins", fontsize=9, color=INK)
    return figure


def by_example_figure(evidence: Plain) -> Figure | None:
    """Return the excess area of the attack by example, on forget and on retained images.

    Returns:
        `None` if it is known nowhere.
    """
    sets = [str(each["name"]) for each in evidence.get("forget_sets") or ()]
    known = [each for each in methods(evidence) if sets_of(each)]
    found = {kind: list(_areas(known, sets, kind)) for kind in ("forget", "retain")}
    drawn = [each for areas in found.values() for _, _, each in areas]
    if not drawn:
        return None
    figure = new_figure(width=WIDTH, height=1.2 + len(known) * max(0.26, 0.17 * len(sets)))
    for axes, (kind, areas) in zip(figure.subplots(1, 2, sharey=True), found.items(), strict=True):
        _prepare(axes, [_name(each) for each in known], f"{kind} images")
        end = _limit(axes, drawn, SURE, FAINT)
        for row, number, area in areas:
            _draw(axes, row + _shift(number, len(sets)), area, end, _mark(number), signed_area)
    _name_sets(figure, sets)
    figure.supxlabel("excess area under the curve", fontsize=9, color=INK)
    return figure


def _draw_biases(
    axes: Axes, metric: str, biases: Mapping[str, Interval | None], looks: Sequence[Look]
) -> None:
    """Draw one metric: a row for each method; the band is the margin."""
    axes.axvspan(-1, 1, color=GREEN, alpha=0.15, linewidth=0)
    _prepare(axes, list(biases), metric)
    end = _limit(axes, [each for each in biases.values() if each], NEAR, FAR)
    for row, (bias, look) in enumerate(zip(biases.values(), looks, strict=True)):
        if bias:
            _draw(axes, row, bias, end, look, score)


def _measured(evidence: Plain, forget_set: str) -> list[Plain]:
    return [each for each in methods(evidence) if forget_set in sets_of(each)]


def _name(method: Plain) -> str:
    return str(method.get("method"))


def _shift(number: int, sets: int) -> float:
    """Return where in its row a forget set is drawn."""
    return 0.4 * (number / (sets - 1) - 0.5) if sets > 1 else 0.0


def _mark(number: int) -> Look:
    return OF_SETS[number % len(OF_SETS)]


def _areas(
    known: Sequence[Plain], sets: Sequence[str], kind: str
) -> Iterator[tuple[int, int, Interval]]:
    """Yield row, number of the forget set, and the excess area, where it is known."""
    for row, method in enumerate(known):
        for number, name in enumerate(sets):
            area = excess(sets_of(method).get(name, {}), kind)
            if area:
                yield row, number, area


def _look(found: Plain, metric: str) -> Look:
    """Return colour and marker of a bias, by what the verdict says of it."""
    judged = mapping(mapping(mapping(found.get("verdict")).get("metrics")).get(metric))
    return LOOKS.get(str(judged.get("state")), (PALE, "s"))


def _prepare(axes: Axes, names: Sequence[str], title: str) -> None:
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    # Without `parse_math=False`, a dollar sign in a name would begin a formula.
    axes.set_yticks(range(len(names)), short, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_title(title, loc="left", fontsize=9, parse_math=False)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=PALE, alpha=0.2)


def _limit(axes: Axes, drawn: Sequence[Interval], least: float, most: float) -> float:
    """Let an axis end on both sides behind the last interval that is not too far; return it."""
    ends = [end for each in drawn for end in (each.value, each.low, each.high) if end is not None]
    near = [abs(end) for end in ends if abs(end) < most]
    end = max(1.08 * max(near, default=0.0), least)
    axes.set_xlim(-end, end)
    return end


def _draw(
    axes: Axes,
    height: float,
    found: Interval,
    end: float,
    look: Look,
    write: Callable[[object], str],
) -> None:
    """Draw a number with its interval."""
    colour, marker = look
    inside = "white"
    if found.low is not None and found.high is not None:
        inside = colour
        axes.plot([found.low, found.high], [height, height], color=colour, linewidth=1.8)
    if abs(found.value) > end:
        # Its interval is drawn all the same: it may reach into the picture.
        _draw_beyond(axes, height, found.value, end, colour, write)
        return
    axes.plot(found.value, height, marker, color=colour, markersize=5, markerfacecolor=inside)


def _draw_beyond(
    axes: Axes,
    height: float,
    value: float,
    end: float,
    colour: str,
    write: Callable[[object], str],
) -> None:
    """Draw what is off the scale: an arrow at the edge, and the number."""
    side = 1 if value > 0 else -1
    axes.plot(side * 0.97 * end, height, ">" if side > 0 else "<", color=colour, markersize=5)
    inward = "right" if side > 0 else "left"
    place = (side * 0.9 * end, height)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    axes.text(*place, write(value), ha=inward, va="center", fontsize=8, color=INK, bbox=box)


def _name_sets(figure: Figure, sets: Sequence[str]) -> None:
    """Write which mark stands for which forget set."""
    axes = figure.axes[0]
    for number, name in enumerate(sets):
        colour, marker = _mark(number)
        axes.plot([], [], marker, color=colour, markersize=5, label=f"forget set {name}")
    figure.legend(loc="outside upper right", frameon=False, fontsize=8, ncols=len(sets))
