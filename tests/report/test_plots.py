import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from PIL import Image

from report.plots.by_trial import RAIL, STATES, gap_by_trial, gap_figure
from report.plots.drawing import DPI
from report.plots.generator import generator_figure, generator_picture
from report.plots.strips import metrics_against_references, metrics_figure
from report.report_data import Mixtures

Row = dict[str, object]


def trial(number: int, value: float | None, state: str = "complete") -> Row:
    return {"trial": number, "state": state, "gap/avg": value}


def search() -> list[Row]:
    """A search in the order in which its trials ended, not in which they began."""
    return [
        trial(1, 3.0),
        trial(0, 4.0),
        trial(2, 1.5, "pruned"),
        trial(4, 2.0),
        trial(3, None, "failed"),
        trial(5, float("nan"), "failed"),
        trial(6, 2.5),
    ]


def scattered(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points in the coordinates of the data, by label."""
    found = (artist for artist in axes.collections if isinstance(artist, PathCollection))
    labelled = [each for each in found if not str(each.get_label()).startswith("_")]
    return {
        str(each.get_label()): [(x, y) for x, y in np.ma.asarray(each.get_offsets()).tolist()]
        for each in labelled
    }


def finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None and np.isfinite(y)]


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    found = next(each for each in axes.lines if each.get_label() == label)
    return np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()


def test_points_are_drawn_by_state() -> None:
    (axes,) = gap_figure(search()).axes
    drawn = scattered(axes)
    assert finite(drawn["complete"]) == [(0, 4.0), (1, 3.0), (4, 2.0), (6, 2.5)]
    assert finite(drawn["pruned, at its last epoch"]) == [(2, 1.5)]
    assert finite(drawn["failed"]) == []


def test_states_differ_by_marker_and_colour() -> None:
    assert len({style["marker"] for style in STATES.values()}) == len(STATES)
    colours = {style.get("color", style.get("edgecolors")) for style in STATES.values()}
    assert len(colours) == len(STATES)


def test_the_best_so_far_is_of_all_trials_with_a_result() -> None:
    (axes,) = gap_figure(search()).axes
    trials, values = line(axes, "best so far")
    assert trials == [0, 1, 2, 4, 6, 6.5]
    assert values == [4.0, 3.0, 1.5, 1.5, 1.5, 1.5]
    assert axes.get_title(loc="left") == "best: trial 2, gap/avg 1.50"


def test_trials_without_a_value_are_marked_above_the_data() -> None:
    (axes,) = gap_figure(search()).axes
    rail = [each for each in axes.collections if str(each.get_label()).startswith("_")]
    marks = [tuple(np.asarray(each.get_offsets())[0]) for each in rail]
    assert marks == [(3, RAIL), (5, RAIL)]
    (low, high), foot = axes.get_ylim(), 2 * RAIL - 1
    assert low + foot * (high - low) > 4.0  # no point lies in the strip


def test_levels_are_drawn_where_they_are() -> None:
    (axes,) = gap_figure(search(), band=(0.3, 0.7), original=5.0).axes
    band = next(each for each in axes.patches if "references" in str(each.get_label()))
    extent = band.get_path().get_extents(band.get_patch_transform())
    assert (extent.y0, extent.y1) == pytest.approx((0.3, 0.7))
    assert line(axes, "original, untouched")[1] == [5.0, 5.0]


@pytest.mark.parametrize(
    ("original", "scale"), [(5.0, "linear"), (52.0, "log"), (None, "linear"), (-1.0, "linear")]
)
def test_the_axis_is_logarithmic_when_the_range_is_wide(original: float | None, scale: str) -> None:
    (axes,) = gap_figure(search(), original=original).axes
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    shown = [4.0, 1.5, *([original] if original is not None else [])]
    assert all(low <= value <= high for value in shown)


def test_a_value_of_zero_is_never_lost_on_a_logarithmic_axis() -> None:
    (axes,) = gap_figure([trial(0, 0.0), trial(1, 50.0), trial(2, 0.1)]).axes
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize("count", [1, 2, 40])
def test_trials_are_whole_numbers_on_the_axis(count: int) -> None:
    (axes,) = gap_figure([trial(number, 1.0 + number % 7) for number in range(count)]).axes
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_axes_say_their_units() -> None:
    (axes,) = gap_figure(search()).axes
    assert axes.get_xlabel() == "trial"
    assert axes.get_ylabel() == "gap/avg (percentage points)"
    rows = [{"trial": 0, "state": "complete", "div/js": 0.02}]
    (other,) = gap_figure(rows, objective="div/js").axes
    assert other.get_ylabel() == "div/js (nats)"


def test_the_legend_covers_no_data() -> None:
    figure = gap_figure(search(), band=(0.3, 0.7), original=52.0)
    figure.canvas.draw()
    (axes,), (legend,) = figure.axes, figure.legends
    assert not axes.get_window_extent().overlaps(legend.get_window_extent())


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        ([], "no trial with a result"),
        ([trial(0, None, "failed")], "no trial with a result"),
        ([trial(0, 2.0, "pruned"), trial(1, None, "failed")], "best: trial 0, gap/avg 2.00"),
        ([trial(0, None)], "no trial with a result"),
        ([trial(0, 2.0)], "best: trial 0, gap/avg 2.00"),
        ([trial(0, 0.0)], "best: trial 0, gap/avg 0.00"),
    ],
)
def test_a_search_that_has_little_to_show(rows: list[Row], title: str, tmp_path: Path) -> None:
    for band, original in itertools.product([None, (0.3, 0.7)], [None, 52.0]):
        (axes,) = gap_figure(rows, band=band, original=original).axes
        assert axes.get_title(loc="left") == title
        gap_by_trial(rows, path=tmp_path / "gap.png", band=band, original=original)


def check_png(path: Path) -> None:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
        assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_files_are_whole_png_on_white(summary: dict[str, Any], tmp_path: Path) -> None:
    gap_by_trial(search(), path=tmp_path / "plots" / "gap.png", band=(0.3, 0.7), original=52.0)
    metrics_against_references(summary, tmp_path / "plots" / "metrics.png")
    written = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert written == ["gap.png", "metrics.png"]  # and no unfinished file
    for name in written:
        check_png(tmp_path / "plots" / name)


def test_a_failed_drawing_leaves_the_old_file(
    summary: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.png"
    path.write_bytes(b"old")

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", no_space)
    with pytest.raises(OSError, match="No space"):
        metrics_against_references(summary, path)
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.png"]
    assert path.read_bytes() == b"old"


def test_the_same_numbers_draw_the_same_file(summary: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        metrics_against_references(summary, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_drawing_opens_no_window_and_keeps_no_figure(summary: dict[str, Any]) -> None:
    before = pyplot.get_fignums()
    metrics_figure(summary)
    gap_figure(search())
    assert pyplot.get_fignums() == before


def strip(summary: dict[str, Any], metric: str) -> Axes:
    return next(axes for axes in metrics_figure(summary).axes if axes.get_title("left") == metric)


def marks(axes: Axes) -> list[tuple[float, float]]:
    """Every mark that is drawn at its value: (value, row)."""
    collections = (each for each in axes.collections if isinstance(each, PathCollection))
    data = [each for each in collections if each.get_offset_transform() == axes.transData]
    return [(x, y) for each in data for x, y in np.asarray(each.get_offsets()).tolist()]


def test_there_is_a_strip_for_each_metric(summary: dict[str, Any]) -> None:
    titles = [axes.get_title("left") for axes in metrics_figure(summary).axes]
    assert titles == [*summary["gap_metrics"], "div/js", "gap/avg"]
    labels = {axes.get_title("left"): axes.get_xlabel() for axes in metrics_figure(summary).axes}
    assert labels["acc/test_retain"] == "percent"
    assert labels["div/js"] == "nats"
    assert labels["gap/avg"] == "percentage points"


def test_a_strip_holds_the_numbers(summary: dict[str, Any]) -> None:
    axes = strip(summary, "acc/test_retain")
    again = summary["spread"]["acc/test_retain"]
    assert sorted(marks(axes)) == sorted(
        [
            *((value, 0) for value in (98.2, 97.9, 98.0)),
            *((97.9, 1), (97.8, 2), (97.8, 3)),
            *((value, 4) for value in (*again["values"], again["mean"])),
        ]
    )
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["98.03 ± 0.15 (3)", "97.9", "97.8", "97.8", "97.67 ± 0.15 (3)"]


def test_the_references_band_is_their_mean_and_sd(summary: dict[str, Any]) -> None:
    axes = strip(summary, "mia/asr")
    references = summary["references"]["mia/asr"]
    (band,) = axes.patches
    extent = band.get_path().get_extents(band.get_patch_transform())
    mean, sd = references["mean"], references["sd"]
    assert (extent.x0, extent.x1) == pytest.approx((mean - sd, mean + sd))
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [mean, mean]


def test_what_is_far_becomes_an_arrow_with_its_number(summary: dict[str, Any]) -> None:
    axes = strip(summary, "mia/asr")
    assert 91.3 not in [value for value, _ in marks(axes)]
    assert axes.get_xlim()[1] < 60
    assert axes.texts[1].get_text() == "91.3"
    assert len(axes.collections) > len({row for _, row in marks(axes)})


def test_a_metric_nobody_has_gets_no_strip(summary: dict[str, Any]) -> None:
    everyone = ("references", "original", "default")
    for values in (*(summary[name] for name in everyone), *summary["best"]):
        del values["div/js"]
    titles = [axes.get_title("left") for axes in metrics_figure(summary).axes]
    assert titles == [*summary["gap_metrics"], "gap/avg"]


def test_a_study_with_little_to_show(summary: dict[str, Any], tmp_path: Path) -> None:
    single = {"mean": 98.0, "sd": None, "n": 1, "values": [98.0]}
    summary |= {"best": [], "default": None, "spread": None, "original": None}
    summary["references"] = {"acc/test_retain": single}
    (axes,) = metrics_figure(summary).axes
    assert [text.get_text() for text in axes.texts] == ["98.0 ± – (1)", "–", "–", "–", "–"]
    metrics_against_references(summary, tmp_path / "metrics.png")
    summary["references"] = {}
    metrics_against_references(summary, tmp_path / "empty.png")
    check_png(tmp_path / "empty.png")


def test_values_that_differ_by_rounding_share_a_readable_axis(summary: dict[str, Any]) -> None:
    same = {"mean": 97.8, "sd": 1e-14, "n": 3, "values": [97.8, 97.8 + 1e-14, 97.8]}
    summary["references"]["acc/test_retain"] = same
    summary |= {"best": [], "spread": None}
    axes = strip(summary, "acc/test_retain")
    low, high = axes.get_xlim()
    assert high - low > 0.1
    assert (97.9, 1) in marks(axes)


# --- what the generator does ------------------------------------------------------------------


def mixtures(channels: int, pairs: int, classes: int) -> Mixtures:
    images = np.full((pairs, 4, 4, channels), 200, np.uint8)
    masks = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    return Mixtures(
        forget=images,
        retain=images // 2,
        mixed=images // 3,
        masks=np.repeat(masks[None], pairs, axis=0),
        lams=np.linspace(0.1, 0.9, pairs, dtype=np.float32),
        forget_classes=["$0$"] * pairs,
        retain_classes=["a rather long name"] * pairs,
        mean_masks=np.repeat(masks[None], classes, axis=0),
        mean_classes=[f"class {index}" for index in range(classes)],
    )


@pytest.mark.parametrize(("channels", "pairs", "classes"), [(1, 6, 9), (3, 1, 1), (3, 2, 100)])
def test_mixtures_are_drawn_with_their_names(channels: int, pairs: int, classes: int) -> None:
    axes, bar = generator_figure(mixtures(channels, pairs, classes)).axes
    assert len(axes.images) == 4 * pairs + classes
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("$0$") == pairs
    assert texts.count("a rather long…") == pairs
    assert {"forget", "retain", "mask", "mixed", "mean mask", "λ = 0.10"} <= set(texts)
    assert bar.get_ylim() == (0, 1)


def test_images_of_a_grid_do_not_overlap() -> None:
    axes, _ = generator_figure(mixtures(1, 3, 5)).axes
    boxes = [image.get_window_extent() for image in axes.images]
    pairs = itertools.combinations(boxes, 2)
    assert not any(first.overlaps(second) for first, second in pairs)
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.corners())


def test_the_generators_picture_is_a_file(tmp_path: Path) -> None:
    generator_picture(mixtures(1, 2, 3), tmp_path / "plots" / "generator.png")
    with Image.open(tmp_path / "plots" / "generator.png") as picture:
        assert picture.format == "PNG"
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["generator.png"]
