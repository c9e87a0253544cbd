import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from report.interactive import DARK, LIGHT, RECIPES, figures
from report.interactive.hyperparameters import (
    CELLS,
    ENOUGH,
    LINES,
    contour,
    importance,
    parallel_coordinates,
    slices,
)
from report.interactive.pieces import MANY
from report.interactive.references import against_references
from report.interactive.search import best_so_far, learning_curves
from report.interactive.sides import forgetting_against_retaining, pareto_front
from report.interactive.theme import STATES
from report.report_data import Axis, Importance, ReportData, Share

AXES = {
    "lr": Axis(low=1e-6, high=1e-2, log=True, default=1e-4, unit="1/step"),
    "lr_gen": Axis(low=1e-5, high=1e-2, log=True, default=1e-3),
    "depth": Axis(low=0.0, high=1.0, default=0.5),
    "interval": Axis(options=(1, 2, 8), default=2),
    "mixing": Axis(options=("mixblock", "mixup"), default="mixblock"),
}


def trial(
    number: int, value: float | None, state: str = "complete", **others: object
) -> dict[str, Any]:
    """A row; every odd trial has no generator and so no `lr_gen`."""
    generator = number % 2 == 0
    return {
        "study": "3f2a91bc",
        "trial": number,
        "state": state,
        "epochs": 3,
        "params/lr": 10 ** (-6 + number % 4),
        "params/lr_gen": 1e-4 * (1 + number) if generator else None,
        "params/depth": (number * 7 % 10) / 10,
        "params/interval": (1, 2, 8)[number % 3],
        "params/mixing": "mixblock" if generator else "mixup",
        "gap/avg": value,
        **others,
    }


def report_data(rows: Sequence[Mapping[str, Any]], **more: Any) -> ReportData:
    curves = {row["trial"]: {1: 9.0, 2: row["gap/avg"]} for row in rows}
    given: dict[str, Any] = {"summary": {}, "curves": curves, "axes": AXES, "objective": "gap/avg"}
    return ReportData(rows=rows, ended=[row["trial"] for row in rows], **{**given, **more})


def search() -> list[dict[str, Any]]:
    """Rows in the order in which trials ended; the failed ones have the lowest values."""
    return [
        trial(1, 3.0),
        trial(0, 4.0),
        trial(2, 1.5, "pruned"),
        trial(4, 2.0),
        trial(3, 0.1, "failed"),
        trial(5, math.nan, "failed"),
        trial(6, 2.5),
    ]


def many(count: int, **more: Any) -> ReportData:
    draw = np.random.default_rng(0)
    values = draw.uniform(1, 9, count).tolist()
    states = [("complete", "pruned", "failed")[place % 3] for place in range(count)]
    rows = [
        trial(n, value, state) for n, value, state in zip(range(count), values, states, strict=True)
    ]
    for row in rows:
        row["params/lr"] = float(10 ** draw.uniform(-6, -2))
        row["params/depth"] = float(draw.uniform())
    return report_data(rows, **more)


def named(figure: go.Figure, name: str) -> list[Any]:
    return [trace for trace in figure.data if (trace.name or "").startswith(name)]


def xy(trace: Any) -> list[tuple[float, Any]]:
    return [(x, pytest.approx(y, rel=1e-6)) for x, y in zip(trace.x, trace.y, strict=True)]


def strict(figure: go.Figure) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(figure.to_json(), parse_constant=refuse)


# --- best so far ----------------------------------------------------------------------------


def test_the_best_so_far_is_the_running_minimum() -> None:
    shown = many(60)
    (line,) = named(best_so_far(shown), "best so far")
    usable = [row for row in shown.rows if row["state"] != "failed"]
    lowest = itertools.accumulate((row["gap/avg"] for row in usable), min)
    for row, value in zip(usable, lowest, strict=True):
        step = np.searchsorted(line.x, row["trial"], side="right") - 1
        assert line.y[step] == pytest.approx(value, rel=1e-6)
    assert line.line.shape == "hv"
    assert line.x[-1] > shown.rows[-1]["trial"]


def test_a_pruned_trial_may_be_the_best_and_a_failed_one_never() -> None:
    figure = best_so_far(report_data(search()))
    (line,) = named(figure, "best so far")
    assert xy(line) == [(0, 4.0), (1, 3.0), (2, 1.5), (6.5, 1.5)]
    (failed,) = named(figure, "failed")
    assert set(failed.x) == {3, 5}
    assert failed.yaxis == "y2"  # the strip above
    for draw in (slices, contour, learning_curves):
        stars = named(draw(report_data(search())), "best")
        assert {star.name for star in stars} == {"best (trial 2)"}


def test_a_complete_trial_without_a_number_is_marked_above() -> None:
    figure = best_so_far(report_data([trial(0, 2.0), trial(1, math.nan), trial(2, None)]))
    above, below = sorted(named(figure, "complete"), key=lambda trace: trace.yaxis, reverse=True)
    assert (list(below.x), list(above.x)) == ([0], [1, 2])
    assert [below.showlegend, above.showlegend] == [True, False]
    assert figure.layout.yaxis2.ticktext == ("no value",)


def test_hovering_a_trial_tells_epochs_and_hyperparameters() -> None:
    (complete,) = named(best_so_far(report_data(search())), "complete")
    first, second = complete.customdata[:2]
    assert list(first) == ["3 epochs", 1e-6, 1e-4, 0.0, "1", "mixblock"]
    assert list(second) == ["3 epochs", 1e-5, "not used", 0.7, "2", "mixup"]
    for place, name in enumerate(AXES, start=1):
        assert f"{name} %{{customdata[{place}]}}" in complete.hovertemplate


@pytest.mark.parametrize(("original", "kind"), [(51.6, "log"), (5.0, "linear")])
def test_the_axis_is_logarithmic_where_a_linear_one_would_hide_the_good_trials(
    original: float, kind: str
) -> None:
    figure = best_so_far(report_data(search(), original=original, own=(0.0, 0.4)))
    axis = figure.layout.yaxis
    assert axis.type == kind
    band, line = figure.layout.shapes
    low = 10 ** axis.range[0] if kind == "log" else axis.range[0]
    assert band.y0 == pytest.approx(low)  # from zero, which a logarithmic axis does not have
    assert (band.y1, line.y0) == (0.4, original)
    assert axis.title.text == "gap/avg (percentage points)"


# --- hyperparameters ------------------------------------------------------------------------


def dimension(figure: go.Figure, label: str) -> Any:
    (lines,) = figure.data
    return next(each for each in lines.dimensions if each.label.startswith(label))


def test_ticks_of_a_logarithmic_axis_are_in_the_parameters_own_unit() -> None:
    lr = dimension(parallel_coordinates(report_data(search())), "lr (1/step)")
    assert lr.ticktext == ("1e-6", "1e-5", "0.0001", "0.001", "0.01")
    assert list(lr.tickvals) == pytest.approx([-6, -5, -4, -3, -2])
    assert list(lr["values"]) == pytest.approx([-6, -5, -4, -3, -6, -5, -4])
    across = slices(report_data(search())).layout.xaxis
    assert (across.type, across.title.text) == ("log", "lr (1/step)")
    assert dict(zip(across.ticktext, across.tickvals, strict=True))["1e-5"] == pytest.approx(1e-5)
    assert across.range[0] < -6 < -2 < across.range[1]


def test_a_choice_is_drawn_by_its_options_in_order() -> None:
    figure = parallel_coordinates(report_data(search()))
    interval = dimension(figure, "interval")
    assert interval.ticktext == ("1", "2", "8")
    assert list(interval["values"]) == [0, 1, 2, 0, 1, 2, 0]
    assert dimension(figure, "mixing").ticktext == ("mixblock", "mixup")


def test_a_choice_beyond_the_options_and_numbers_as_text_are_drawn_too() -> None:
    rows = [trial(0, 1.0), trial(1, 2.0, **{"params/mixing": "none", "params/depth": "deep"})]
    figure = parallel_coordinates(report_data(rows))
    assert dimension(figure, "mixing").ticktext == ("mixblock", "mixup", "none")
    assert dimension(figure, "depth").ticktext == ("0", "deep")


def test_a_parameter_that_a_trial_does_not_have_is_visible() -> None:
    lr_gen = dimension(parallel_coordinates(report_data(search())), "lr_gen")
    ticks = dict(zip(lr_gen.ticktext, lr_gen.tickvals, strict=True))
    missing = [value for number, value in enumerate(lr_gen["values"]) if number % 2]
    assert missing == pytest.approx([ticks["not used"]] * 3)
    assert lr_gen.range[0] < ticks["not used"] < math.log10(1e-5)
    figure = slices(report_data(search()))
    apart = [trace for trace in figure.data if "lr_gen not used" in (trace.hovertemplate or "")]
    assert [list(trace.customdata) for trace in apart] == [[1]]  # 3 and 5 failed
    axis = figure.layout.xaxis2
    ticks = dict(zip(axis.ticktext, axis.tickvals, strict=True))
    assert list(apart[0].x) == pytest.approx([ticks["not<br>used"]])


def test_no_trial_is_missing_from_the_parallel_coordinates() -> None:
    figure = parallel_coordinates(report_data(search()))
    value = dimension(figure, "gap/avg")
    at = dict(zip(value.ticktext, value.tickvals, strict=True))["no value"]
    assert list(value["values"]) == pytest.approx([4.0, 3.0, 1.5, at, 2.0, at, 2.5])
    assert at > 4.0
    (lines,) = figure.data
    for each in lines.dimensions:
        assert np.isfinite(each["values"]).all()
        assert len(each["values"]) == len(search())
    colours = figure.layout.coloraxis
    assert colours.cmax == pytest.approx(
        -1.5
    )  # the best is the highest of the negated values, which is drawn on top
    assert np.min(lines.line.color) == pytest.approx(colours.cmin) == pytest.approx(-4.0)


def test_of_very_many_trials_the_best_are_drawn_as_lines() -> None:
    shown = many(2 * LINES)
    values = dimension(parallel_coordinates(shown), "gap/avg")["values"]
    assert len(values) == LINES
    assert (
        f"The best {LINES} of {2 * LINES} trials" in figures(shown)["parallel_coordinates"].caption
    )


def test_what_does_not_vary_is_left_out() -> None:
    rows = [{**row, "params/depth": 0.5} for row in search()]
    (lines,) = parallel_coordinates(report_data(rows)).data
    assert [each.label for each in lines.dimensions] == [
        "lr (1/step)",
        "lr_gen",
        "interval",
        "mixing",
        "gap/avg",
    ]


def test_the_most_important_come_first() -> None:
    shares = {"mixing": Share(mean=0.6, low=0.4, high=0.8), "depth": Share(mean=0.1, low=0, high=1)}
    found = Importance(shares=shares, trials=7, method="fANOVA", warning="Only 7 trials.")
    shown = report_data(search(), importance=found)
    assert slices(shown).layout.xaxis.title.text == "mixing"
    bars, intervals = importance(shown).data
    assert list(bars.y) == ["depth", "mixing"]  # from the bottom up
    assert list(intervals.error_x.array) == pytest.approx([0.9, 0.2])
    assert list(intervals.error_x.arrayminus) == pytest.approx([0.1, 0.2])
    caption = figures(shown)["importance"].caption
    assert "fANOVA" in caption
    assert "7 trials" in caption
    assert caption.endswith("Only 7 trials.")


def test_importance_without_shares_says_so() -> None:
    shown = report_data(search())
    (words,) = importance(shown).layout.annotations
    assert words.text == "Too few trials to say what mattered: 5."
    assert figures(shown)["importance"].figure is None


def test_default_and_best_are_marked_in_every_slice() -> None:
    figure = slices(report_data(search()))
    stars, squares = named(figure, "best (trial 2)"), named(figure, "default (trial 0)")
    assert len(stars) == len(squares) == len(AXES)
    assert [star.showlegend for star in stars] == [True, *[False] * (len(AXES) - 1)]
    assert {star.marker.symbol for star in stars} == {"star"}
    legend = [trace.name for trace in figure.data if trace.showlegend]
    assert len(set(legend)) == len(legend)


# --- contour --------------------------------------------------------------------------------


def surface(figure: go.Figure) -> Any:
    return next((trace for trace in figure.data if trace.type == "contour"), None)


def numbers(*places: tuple[float, float]) -> ReportData:
    """Trials at points of the unit square; their value is the sum of the coordinates, plus 1."""
    rows = [
        {**trial(n, 1 + x + y), "params/lr": 10 ** (-6 + 4 * x), "params/depth": y}
        for n, (x, y) in enumerate(places)
    ]
    return report_data(rows, axes={name: AXES[name] for name in ("lr", "depth")})


def test_a_contour_interpolates_inside_and_claims_nothing_outside() -> None:
    ring = [(0.5 + 0.4 * math.cos(a), 0.5 + 0.4 * math.sin(a)) for a in np.arange(24) / 24 * 6.2832]
    z = surface(contour(numbers(*ring, (0.5, 0.5))))
    values = -np.array(z.z)
    across, up = np.meshgrid((np.log10(z.x) + 6) / 4, z.y)
    inside = np.isfinite(values)
    far = np.hypot(across - 0.5, up - 0.5) > 0.4 + 1 / CELLS
    assert not (inside & far).any()
    assert values[inside] == pytest.approx((1 + across + up)[inside], abs=1e-4)


def test_few_trials_or_trials_on_a_line_are_drawn_as_points() -> None:
    few = numbers(*[(n / 10, n * n / 100) for n in range(ENOUGH - 1)])
    line = numbers(*[(n / 20, n / 20) for n in range(ENOUGH + 1)])
    for shown in (few, line):
        figure = contour(shown)
        assert surface(figure) is None
        (points,) = named(figure, "complete")
        assert len(points.x) == len(shown.rows)
    assert f"{ENOUGH - 1} trials, too few" in figures(few)["contour"].caption


# --- learning curves ------------------------------------------------------------------------


def test_curves_of_a_state_are_one_trace_with_gaps_between_trials() -> None:
    curves = {0: {1: 5.0, 2: 4.0}, 1: {1: 6.0}, 2: {2: 2.0, 1: 3.0, 3: math.nan}, 9: {1: 8.0}}
    rows = [trial(0, 4.0), trial(1, 6.0, "pruned"), trial(2, 2.0)]
    figure = learning_curves(report_data(rows, curves=curves))
    complete = next(t for t in figure.data if t.legendgroup == "complete" and t.mode == "lines")
    assert list(complete.x[:2]) == [1, 2]
    gaps = np.isnan(complete.y)
    assert gaps.tolist() == [False, False, True, False, False, True, True]
    assert complete.y[~gaps].tolist() == [5.0, 4.0, 3.0, 2.0]
    (ends,) = named(figure, "complete")
    assert xy(ends) == [(2, 4.0), (2, 2.0)]
    assert list(ends.customdata) == [0, 2]
    (pruned,) = named(figure, "pruned")
    assert xy(pruned) == [(1, 6.0)]
    (running,) = named(figure, "unfinished")
    assert list(running.customdata) == [9]


def test_thousands_of_trials_are_a_few_traces_none_of_which_hides_another() -> None:
    panels = figures(many(MANY + 1, own=(0.3, 0.6)))
    for name in ("best_so_far", "slices", "learning_curves"):
        figure = panels[name].figure
        assert figure is not None
        assert {trace.type for trace in figure.data} == {"scattergl"}, name
    assert len(learning_curves(many(MANY + 1)).data) == 2 * 3 + 1
    sizes = {name: len(p.figure.to_json()) for name, p in panels.items() if p.figure}
    assert sum(sizes.values()) < 600 * MANY, sizes


# --- forgetting against retaining -----------------------------------------------------------


def test_the_front_has_exactly_the_points_that_nothing_dominates() -> None:
    points = [
        (1, 9),  # front
        (1, 9),  # equal to it
        (1, 10),  # worse in one
        (3, 4),  # front
        (4, 4),  # worse in one
        (5, 5),  # worse in both
        (8, 1),  # front
        (9, 1),  # worse in one
        (math.nan, 0),
        (0, math.nan),
    ]
    x, y = np.array(points, dtype=float).T
    assert pareto_front(x, y).tolist() == [0, 1, 3, 6]
    assert pareto_front(x[:0], y[:0]).tolist() == []


def dominated(point: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    return any(a <= point[0] and b <= point[1] and (a, b) != point for a, b in others)


def test_the_front_agrees_with_the_definition() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.integers(0, 12, (2, 80)).astype(float)
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    wanted = [place for place, point in enumerate(points) if not dominated(point, points)]
    assert sorted(pareto_front(x, y).tolist()) == wanted


def sides(number: int, state: str = "complete", **gaps: float) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        f"gap/{name.replace('__', '/')}": value for name, value in gaps.items()
    }
    return trial(number, 1.0 + number, state, **metrics)


def test_sides_of_a_class_task() -> None:
    common = {"acc__train_retain": 9.0, "acc__val": 9.0}
    rows = [
        sides(0, acc__val_retain=1.0, acc__train_forget=2.0, acc__val_forget=4.0, mia__asr=6.0),
        sides(1, acc__val_retain=3.0, acc__train_forget=1.0, acc__val_forget=1.0, mia__asr=4.0),
        sides(2, "failed", acc__val_retain=0, acc__train_forget=0, acc__val_forget=0, mia__asr=0),
        sides(3, acc__val_retain=0.0, acc__train_forget=1.0),  # its attack did not work
    ]
    figure = forgetting_against_retaining(report_data([{**row, **common} for row in rows]))
    (complete,) = named(figure, "complete")
    assert xy(complete) == [(1.0, 4.0), (3.0, 2.0)]
    assert not named(figure, "failed")
    (front,) = named(figure, "Pareto front")
    assert xy(front) == [(1.0, 4.0), (3.0, 2.0)]
    titles = figure.layout.xaxis.title.text, figure.layout.yaxis.title.text
    assert titles == (
        "gap of acc/val_retain<br>(percentage points)",
        "mean gap of acc/train_forget, acc/val_forget, mia/asr<br>(percentage points)",
    )


def test_sides_of_a_task_that_retains_all_classes() -> None:
    rows = [sides(0, acc__train_retain=1.0, acc__val=3.0, acc__train_forget=2.0, mia__asr=6.0)]
    figure = forgetting_against_retaining(report_data(rows))
    (complete,) = named(figure, "complete")
    assert xy(complete) == [(2.0, 4.0)]
    assert figure.layout.xaxis.title.text.startswith("mean gap of acc/train_retain, acc/val<")


def test_a_gap_of_zero_has_its_place_on_a_logarithmic_axis() -> None:
    gaps = (0.0, 0.1, 50.0, 2.0)
    rows = [sides(n, acc__val_retain=gap, mia__asr=1.0) for n, gap in enumerate(gaps)]
    figure = forgetting_against_retaining(report_data(rows))
    axis = figure.layout.xaxis
    assert axis.type == "log"
    ticks = dict(zip(axis.ticktext, axis.tickvals, strict=True))
    (complete,) = named(figure, "complete")
    assert complete.x[0] == pytest.approx(ticks["0"])
    assert complete.customdata[0].tolist() == [0, 0.0, 1.0]  # its true value, on hover
    (front,) = named(figure, "Pareto front")
    assert front.x.tolist() == [complete.x[0]]


# --- against the references -----------------------------------------------------------------


def test_strips_show_every_reference_and_every_fresh_seed(summary: dict[str, Any]) -> None:
    figure = against_references(report_data(search(), summary=summary))
    asr = [trace for trace in figure.data if trace.xaxis == "x4"]  # the fourth metric
    values = {trace.hovertemplate.partition(":")[0]: list(trace.x) for trace in asr}
    assert values["references"] == [37.2, 39.8, 41.1]
    assert values["default (trial 0)"] == [44.1]
    assert values["best (trial 11)"] == [38.4]
    fresh = [list(t.x) for t in asr if t.hovertemplate.startswith("best, fresh seeds")]
    assert fresh == [[38.4, 41.7, 43.9], [pytest.approx(41.333, rel=1e-4)]]
    band = next(shape for shape in figure.layout.shapes if shape.xref == "x4")
    assert (band.x0 + band.x1) / 2 == pytest.approx(39.3667, rel=1e-4)
    words = {(word.xref, word.text) for word in figure.layout.annotations}
    assert ("x4 domain", "91.3 →") in words  # the original, off the scale
    assert ("x4 domain", "<b>mia/asr</b> (percent)") in words


# --- all figures ----------------------------------------------------------------------------


def in_part(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary of a sweep whose trials all failed."""
    return {**summary, "best": [], "spread": None, "default": None}


STUDIES: dict[str, Callable[[], ReportData]] = {
    "no trial": lambda: report_data([], summary={"study": "3f2a91bc"}),
    "one trial": lambda: report_data([trial(0, 1.0)]),
    "one failed trial": lambda: report_data([trial(0, None, "failed")]),
    "all failed": lambda: report_data([trial(n, None, "failed") for n in range(4)], own=(0.2, 0.4)),
    "no numbers": lambda: report_data([trial(n, math.nan) for n in range(4)], original=5.0),
    "equal values": lambda: report_data([trial(n, 0.0) for n in range(20)], original=0.0),
    "no axes": lambda: replace(many(20), axes={}),
    "no curves": lambda: replace(many(20), curves={}),
    "empty curves": lambda: replace(many(20), curves={0: {}, 1: {1: 2.0}}),
    "a usual one": lambda: many(20, own=(0.3, 0.6), original=51.0),
}


@pytest.mark.parametrize("name", STUDIES)
def test_any_study_can_be_shown(name: str) -> None:
    panels = figures(STUDIES[name]())
    assert list(panels) == list(RECIPES)
    for panel in panels.values():
        assert panel.title
        assert panel.caption.endswith(".")
        if panel.figure is not None:
            assert strict(panel.figure)["data"], panel.title


def test_what_cannot_be_shown_says_why() -> None:
    panels = figures(STUDIES["no trial"]())
    assert all(panel.figure is None for panel in panels.values())
    assert panels["best_so_far"].caption == "No trial has ended yet."
    assert panels["against_references"].caption.startswith("There is no verdict yet")
    one = figures(STUDIES["one trial"]())
    assert one["best_so_far"].figure is not None
    assert one["slices"].caption == "No hyperparameter has taken more than one value yet."
    assert one["contour"].caption == "Fewer than two numeric hyperparameters vary."


def test_a_verdict_without_a_best_trial_is_shown(summary: dict[str, Any]) -> None:
    panel = figures(report_data([], summary=in_part(summary)))["against_references"]
    assert strict(panel.figure)["data"]


def test_captions_count_the_trials() -> None:
    captions = {name: panel.caption for name, panel in figures(report_data(search())).items()}
    assert "7 trials (4 complete, 1 pruned, 2 failed)" in captions["best_so_far"]
    assert "2 trials without a value cannot be shown" in captions["slices"]
    assert "5 trials" in captions["slices"]


# --- light and dark -------------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_figures_can_be_read_on_light_and_dark_pages(theme: dict[str, Any]) -> None:
    layout = theme["layout"]
    page = layout["hoverlabel"]["bgcolor"]
    assert contrast(layout["font"]["color"], page) > 7
    assert contrast(layout["colorway"][0], page) > 7
    assert all(contrast(state["color"], page) > 2 for state in STATES.values())
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
    go.Figure(layout={"template": theme})  # it is valid


def test_states_differ_by_symbol_and_colour() -> None:
    assert len({state["symbol"] for state in STATES.values()}) == len(STATES)
    assert len({state["color"] for state in STATES.values()}) == len(STATES)
    assert LIGHT["layout"].keys() == DARK["layout"].keys()
