"""What a reader sees of a night: page, Markdown, table and figure, with invented nights."""

import io
import os
import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from rich.console import Console

from report.nightly import page as page_module
from report.nightly.figure import BESIDE, trend_figure
from report.nightly.headline import headline
from report.nightly.history import trend
from report.nightly.markdown import markdown
from report.nightly.page import NIGHT_MARKDOWN, NIGHT_PAGE, write_night
from report.plots.drawing import GREEN, VERMILION

GAPS = [2.0, 2.2, 2.4, 2.6, 2.8]
START = date(2026, 11, 1)
ATTACK = "<script>alert('x')</script>"


def configuration(key: str = "1a2b3c4d", **parameters: object) -> dict[str, Any]:
    settings = {"lr": 1.3e-4, "omega": 0.8, "schedule": None, **parameters}
    names = {"key": key, "method": "mixunlearn", "trial": "s-1/4", "version": "3"}
    return {**names, "parameters": settings, "epochs": 6, "since": "2026-11-01"}


def experiment(name: str = "digits-class", **more: Any) -> dict[str, Any]:
    found = {
        "name": name,
        "verdict": "unchanged",
        "why": "the shift is within the margin",
        "study": f"{name}-276a1b2c",
        "draw": 1,
        "champion": configuration(),
        "reign": "aaaa0000",
        "gaps": GAPS,
        "metrics": {"acc/test_retain": {"mean": 96.31, "sd": 0.4, "n": 5}},
        "references": {"mean": 1.2, "sd": 0.3, "values": [0.9, 1.2, 1.5]},
        "shift": {"mean": 0.1, "low": -0.4, "high": 0.6},
        "cusum": {"level": 0.4, "limit": 4.9, "nights": 0},
        "candidate": configuration("9f8e7d6c", lr=2.2e-4),
        "rival_gaps": [1.5, 1.7, 1.9],
        "duel": {"mean": 0.3, "low": -0.2, "high": 0.9, "pairs": 10, "state": "open", "nights": 2},
        "promoted": None,
        "causes": ["package torch 2.13 → 2.14"],
        "trials": {"before": 12, "ran": 8, "failed": 0},
        "spent": {"references": 12.0, "champion": 33.0, "search": 210.0, "duel": 45.0},
        "disk_bytes": 123_456_789,
        "notes": ["the export was put off"],
    }
    return {**found, **more}


def night(day: int = 0, *experiments: dict[str, Any], **more: Any) -> dict[str, Any]:
    when = (START + timedelta(day)).isoformat()
    given = experiments or (experiment(),)
    found = {
        "schema": 1,
        "plan": "digits",
        "date": when,
        "attempt": 1,
        "state": "done",
        "began": f"{when}T01:00:03+01:00",
        "ended": f"{when}T01:08:35+01:00",
        "seconds": 512.3,
        "verdict": given[0].get("verdict"),
        "error": None,
        "margin": 1.0,
        "experiments": list(given),
        "told": ["webhook: not sent: 503"],
        "links": {"mlflow": "http://127.0.0.1:5000/"},
    }
    return {**found, **more}


def failed(day: int = 0, error: str | None = "the disk is full; free 2 GB") -> dict[str, Any]:
    return night(day, state="failed", verdict=None, error=error, experiments=[], ended=None)


def nothing() -> dict[str, Any]:
    """A first night: everything that may be null or empty is null or empty."""
    empty: dict[str, Any] = dict.fromkeys(experiment())
    lists: dict[str, Any] = {"gaps": [], "rival_gaps": [], "causes": [], "notes": []}
    own: dict[str, Any] = {"mean": None, "sd": None, "values": []}
    trials = {"before": 0, "ran": 0, "failed": 0}
    first = {**empty, **lists, "name": "digits-class", "references": own, "trials": trials}
    rest: dict[str, Any] = {"ended": None, "seconds": None, "margin": None}
    rest |= {"told": [], "links": {"mlflow": None}}
    return night(0, {**first, "metrics": {}, "spent": {}}, **rest)


def written(nights: Sequence[dict[str, Any]], folder: Path) -> str:
    write_night(nights, folder)
    assert sorted(path.name for path in folder.iterdir()) == [NIGHT_PAGE, NIGHT_MARKDOWN]
    return (folder / NIGHT_PAGE).read_text()


# --- the verdict -----------------------------------------------------------------------------


def test_a_champion_carries_the_verdict_of_its_study() -> None:
    judged = experiment(champion={**configuration(), "judged": "equivalent to retraining"})
    assert "at its promotion: equivalent to retraining" in markdown([night(0, judged)])
    assert "undecided: a night unlearns one original" in markdown([night()])


def test_the_headline_names_what_is_not_unchanged() -> None:
    assert headline(night()) == "digits, 2026-11-01: unchanged"
    worse, better = experiment("a", verdict="regressed"), experiment("b", verdict="improved")
    mixed = night(0, better, experiment(), worse, experiment("c", verdict="improved"))
    mixed["verdict"] = "regressed"
    assert headline(mixed) == "digits, 2026-11-01: regressed (a), improved (b, c)"
    assert headline(night(0, experiment(verdict=None))).endswith(": no verdict (digits-class)")


def test_the_headline_of_a_night_that_is_not_done() -> None:
    assert headline(failed()) == "digits, 2026-11-01: failed: the disk is full; free 2 GB"
    assert headline(failed(error=None)).endswith("failed: no reason was recorded")
    half = night(0, experiment("a", verdict="regressed"), experiment("b", verdict=None))
    half |= {"state": "failed", "error": "one\nline"}
    assert headline(half).endswith("failed: one line (before that: regressed (a))")
    running = night(0, experiment(verdict=None), state="running", verdict=None)
    assert headline(running) == "digits, 2026-11-01: still running"


def test_the_verdict_comes_first_in_both_forms(tmp_path: Path) -> None:
    worse = night(0, experiment(verdict="regressed", why="worse for 3 nights"))
    page, text = written([worse], tmp_path), (tmp_path / NIGHT_MARKDOWN).read_text()
    assert text.startswith("# digits, 2026-11-01: regressed (digits-class)\n")
    body = page.partition("<body>")[2].lstrip()
    assert body.startswith('<h1 class="verdict regressed">digits, 2026-11-01: regressed')
    assert body.index("worse for 3 nights") < body.index("<svg")
    assert text.index("worse for 3 nights") < text.index("###")


# --- content ---------------------------------------------------------------------------------


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    earlier = [night(0), failed(1)]
    page = written([*earlier, night(2)], tmp_path)
    for form in (page, (tmp_path / NIGHT_MARKDOWN).read_text()):
        for said in (
            "1a2b3c4d mixunlearn, epochs 6, since 2026-11-01, version 3, trial s-1/4",
            "2.40 ± 0.32 (5) pp",
            "2.00, 2.20, 2.40, 2.60, 2.80",
            "1.20 ± 0.30 (3) pp",
            "+0.10 pp (90 %: −0.40 to +0.60): within the margin of 1.00 pp",
            "0.40, limit 4.90; no alarm",
            "96.31 ± 0.40 (5)",
            "Open: not decided yet. Mean difference +0.30 pp (bounds −0.20 to +0.90) over "
            "10 pairs in 2 nights.",
            "1.70 ± 0.20 (3)",
            "package torch 2.13 → 2.14",
            "210 s",
            "12 before, 8 ran, 0 failed",
            "123 MB",
            "Nothing was promoted.",
            "the export was put off",
            "webhook: not sent: 503",
            "http://127.0.0.1:5000/",
        ):
            assert said in form, said
        assert "2026-11-01" in form


def test_a_duel_shows_the_settings_that_differ() -> None:
    text = markdown([night()])
    assert "| lr | 0.00013 | 0.00022 |" in text
    assert "| omega" not in text
    assert "| epochs" not in text
    nearly = configuration("9f8e7d6c", lr=1.30001e-4)
    assert "| lr | 0.00013 | 0.000130001 |" in markdown([night(0, experiment(candidate=nearly))])


@pytest.mark.parametrize(
    ("duel", "said"),
    [
        ({"state": "won", "low": 0.1}, "Won: the candidate is better."),
        ({"state": "lost", "low": 0.1}, "not better by as much as the margin of 1.00 pp"),
        (
            {"state": "open", "pairs": 1, "nights": 1},
            "(no bounds before the second night) over 1 pair in 1 night.",
        ),
    ],
)
def test_a_duel_in_words(duel: dict[str, Any], said: str) -> None:
    found = {"mean": 0.3, "low": None, "high": None, "pairs": 5, "nights": 2, **duel}
    assert said in markdown([night(0, experiment(duel=found))])


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.0, 2.0, "worse by more than the margin"),
        (-2.0, -1.2, "better by more than the margin"),
        (-0.5, 1.5, "neither clearly within nor beyond the margin"),
    ],
)
def test_a_shift_against_the_margin(low: float, high: float, said: str) -> None:
    shift = {"mean": (low + high) / 2, "low": low, "high": high}
    assert said in markdown([night(0, experiment(shift=shift))])


def test_alarm_promotion_and_failed_trials_are_shown() -> None:
    found = experiment(
        cusum={"level": 7.3, "limit": 4.9, "nights": 3},
        promoted="9f8e7d6c takes the place of 1a2b3c4d",
        trials={"before": 4, "ran": 2, "failed": 1},
    )
    text = markdown([night(0, found)])
    assert "7.30, limit 4.90; alarm for 3 nights" in text
    assert "takes the place" in text
    assert "### Failures\n\n1 trial failed." in text


def test_the_page_of_a_first_night_says_who_became_champion() -> None:
    appointed = "s-1/4 is the champion: there was none; version 1 is champion"
    text = markdown([night(0, experiment(appointed=appointed, promotion="none"))])
    assert f"### Promotion\n\n{appointed}" in text
    assert "Nothing was promoted" not in text


@pytest.mark.parametrize(
    ("promotion", "said"),
    [
        ("due", "The candidate has won; it is promoted when this night goes on."),
        ("none", "Nothing was promoted: the candidate has won, but the plan does not promote."),
    ],
)
def test_a_duel_that_is_won_and_its_promotion_agree(promotion: str, said: str) -> None:
    won = {"mean": 2.0, "low": 1.0, "high": 3.0, "pairs": 15, "state": "won", "nights": 3}
    assert said in markdown([night(0, experiment(duel=won, promotion=promotion))])


def test_what_changed_is_said_of_the_night_before() -> None:
    quiet = experiment(causes=[])
    assert "There is no night before." in markdown([night(0, quiet)])
    assert "No known change since the night before." in markdown([night(0), night(1, quiet)])


# --- nights with few data --------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        nothing(),
        failed(3),
        {"plan": "digits", "date": "2026-11-04", "state": "failed"},
        {"plan": "digits", "date": "2026-11-04", "state": "running", "experiments": []},
        night(3, {"name": "digits-class"}),
        night(3, experiment(candidate=None, duel=None, champion=None, shift=None, gaps=[])),
        night(3, experiment(gaps=[2.0], rival_gaps=[float("nan")], duel=None)),
    ],
)
@pytest.mark.parametrize("earlier", [[], [night(-1)]])
def test_what_is_absent_is_no_none(
    last: dict[str, Any], earlier: list[dict[str, Any]], tmp_path: Path
) -> None:
    page = written([*earlier, last], tmp_path)
    visible = re.sub(r"<style>.*?</style>|<meta[^>]*>|<svg.*?</svg>", "", page, flags=re.S)
    for form in (visible, markdown([*earlier, last]), printed([*earlier, last])):
        assert not re.search(r"\b(none|nan|null)\b", form.replace("none yet", ""), re.I)
        assert "2026-11-0" in form


def test_a_first_night(tmp_path: Path) -> None:
    page = written([nothing()], tmp_path)
    assert "There are no gaps to draw yet." in page
    assert "<svg" not in page
    assert "no night to compare with yet" in page
    assert "There is no night before." in page
    assert "No known change" not in page
    assert "No candidate tonight." in page
    assert "none yet" in page


def test_a_failed_night_shows_those_before(tmp_path: Path) -> None:
    page = written([night(0), failed(1)], tmp_path)
    assert "No experiment was run." in page
    assert "<details open>" in page
    assert "2.40 ± 0.32 (5)" in page
    assert "| 2026-11-02 | failed |" in (tmp_path / NIGHT_MARKDOWN).read_text()


# --- what a page may do ----------------------------------------------------------------------


def test_what_others_wrote_is_text(tmp_path: Path) -> None:
    hostile = experiment(
        ATTACK,
        why=ATTACK,
        causes=[ATTACK],
        notes=[ATTACK],
        promoted=ATTACK,
        candidate=configuration(ATTACK, **{ATTACK: ATTACK}),
    )
    links = {"mlflow": "javascript:alert(1)", ATTACK: 'https://x/"><script>'}
    nights = [failed(0, ATTACK), night(1, hostile, told=[ATTACK], plan=ATTACK, links=links)]
    page = written(nights, tmp_path)
    assert "<script" not in page
    assert "javascript:" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in (tmp_path / NIGHT_MARKDOWN).read_text()
    assert "<script" not in written(nights[:1], tmp_path)


def test_a_cell_of_markdown_stays_one() -> None:
    text = markdown([night(0, experiment("a|b\nc"))])
    assert "## a\\|b c: unchanged" in text
    assert all(line.endswith("|") for line in text.splitlines() if line.startswith("|"))


def test_the_page_is_small_and_loads_nothing(tmp_path: Path) -> None:
    page = written([night(day) for day in range(60)], tmp_path)
    assert len(page) < 200_000
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    elsewhere = [address for address in loaded if not address.startswith("#")]
    assert [address.partition(":")[0] for address in elsewhere[:2]] == ["data", "http"]
    assert all(address.endswith(("/nightly.md", "/nightly.html")) for address in elsewhere[2:])
    assert "prefers-color-scheme: dark" in page


def test_the_same_nights_make_the_same_files(tmp_path: Path) -> None:
    nights = [night(0), night(1)]
    assert written(nights, tmp_path / "a") == written(nights, tmp_path / "b")


# --- writing ---------------------------------------------------------------------------------


def test_old_files_stay_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written([night(0)], tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_night([night(1)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [NIGHT_PAGE, NIGHT_MARKDOWN]
    assert (tmp_path / NIGHT_PAGE).read_text() == before


def test_nothing_is_written_when_the_figure_cannot_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Figure:
        raise ValueError("no figure")

    monkeypatch.setattr(page_module, "trend_figure", broken)
    with pytest.raises(ValueError, match="no figure"):
        write_night([night(0)], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "night").write_text("")
    with pytest.raises(FileExistsError):
        write_night([night(0)], tmp_path / "night")


# --- the table -------------------------------------------------------------------------------


def printed(nights: Sequence[dict[str, Any]], width: int = 180) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(trend(nights))
    return capture.get()


def test_trend_has_a_row_a_night_and_experiment() -> None:
    other = experiment("[red]x", shift=None, duel=None, cusum=None, verdict="inconclusive")
    lines = printed([night(0, experiment(), other), failed(1)]).splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines if "2026-11-" in line]
    champion = "1a2b3c4d mixunlearn"
    assert rows[0] == [
        *("2026-11-01", "unchanged", "digits-class", champion, "2.40 ± 0.32 (5)"),
        *("+0.10 (−0.40 to +0.60)", "0.40 / 4.90", "open +0.30", "8", "5.00"),
    ]
    absent = ["–"] * 3
    assert rows[1] == [
        *("2026-11-01", "inconclusive", "[red]x", champion, "2.40 ± 0.32 (5)"),
        *(*absent, "8", "5.00"),
    ]
    assert rows[2] == ["2026-11-02", "failed", *["–"] * 7, "8.54"]
    assert rows[3] == ["digits, 2026-11-02: failed: the disk is full; free 2 GB"]


def test_trend_is_whole_on_a_narrow_terminal() -> None:
    text = printed([night(0)], width=80)
    for part in ("2026-11-01", "unchanged", "digits-class", "2.40 ± 0.32 (5)", "open +0.30"):
        assert part in text
    assert "…" not in text


# --- the figure ------------------------------------------------------------------------------


def drawn(nights: Sequence[dict[str, Any]]) -> Axes:
    figure = trend_figure(nights, "digits-class")
    figure.canvas.draw()  # an element that cannot be drawn would warn or raise here
    (axes,) = figure.axes
    return axes


def marks(axes: Axes, label: str) -> PathCollection:
    (found,) = (each for each in axes.collections if each.get_label() == label)
    assert isinstance(found, PathCollection)
    return found


def colour(axes: Axes, label: str) -> str:
    red, green, blue, _ = np.asarray(marks(axes, label).get_facecolor())[0]
    return to_hex((float(red), float(green), float(blue)))


def shape(axes: Axes, label: str) -> tuple[float, ...]:
    return tuple(np.asarray(marks(axes, label).get_paths()[0].vertices).ravel().tolist())


def band_of(axes: Axes) -> StepPatch:
    (found,) = (each for each in axes.patches if isinstance(each, StepPatch))
    return found


def lines_of(axes: Axes, count: int) -> list[list[float]]:
    """Return the heights of lines over a number of days."""
    joined = (
        each for each in axes.lines if each.get_linestyle() != "None"
    )  # without the caps of error bars
    heights = [np.asarray(each.get_ydata(), dtype=float).tolist() for each in joined]
    return [each for each in heights if len(each) == count]


def places(axes: Axes, label: str) -> list[list[float]]:
    """Return (days after START, gap) of the marks of a label."""
    offsets = np.asarray(marks(axes, label).get_offsets()) - [START.toordinal(), 0]
    return [[float(x), float(y)] for x, y in offsets]


def test_figure_has_means_seeds_and_intervals() -> None:
    axes = drawn([night(0), night(1, experiment(gaps=[3.0, 5.0]))])
    assert places(axes, "unchanged") == [[0, pytest.approx(2.4)], [1, 4.0]]
    assert places(axes, "one seed")[-2:] == [[1 - BESIDE, 3.0], [1 - BESIDE, 5.0]]
    (bars,) = (each for each in axes.containers if isinstance(each, ErrorbarContainer))
    low, high = bars.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((2.4 - 0.3926, 2.4 + 0.3926), abs=1e-3)  # t(4) = 2.776
    assert axes.get_ylim()[1] < 10  # of two seeds, the interval reaches to 16.7
    assert axes.get_ylabel() == "gap/avg, percentage points"


def test_a_missing_night_leaves_a_gap() -> None:
    axes = drawn([night(0), night(1), failed(2), night(4)])
    (means,) = lines_of(axes, 5)
    assert np.isnan(means).tolist() == [False, False, True, True, False]
    assert [x for x, _ in places(axes, "failed night")] == [2]
    assert [x for x, _ in places(axes, "unchanged")] == [0, 1, 4]
    highs, _, _ = band_of(axes).get_data()
    assert np.isnan(highs).tolist() == [False, False, True, True, False]
    assert axes.get_xticklabels()[0].get_text() == "05 Nov"


def test_the_band_is_the_references_of_each_night() -> None:
    wide = experiment(references={"mean": 2.0, "sd": 1.0, "values": [1.0, 3.5]})
    band = band_of(drawn([night(0), night(1, wide)]))
    highs, _, lows = band.get_data()
    assert highs.tolist() == [1.5, 3.5]
    assert np.asarray(lows).tolist() == [0.9, 1.0]
    assert to_hex(band.get_facecolor()) == GREEN.lower()


def test_regressed_and_improved_differ_in_colour_and_marker() -> None:
    words = ["unchanged", "regressed", "improved", "inconclusive"]
    axes = drawn([night(day, experiment(verdict=word)) for day, word in enumerate(words)])
    assert [x for x, _ in places(axes, "regressed")] == [1]
    assert [x for x, _ in places(axes, "improved")] == [2]
    assert colour(axes, "regressed") == VERMILION.lower()
    assert len({shape(axes, word) for word in words[:3]}) == 3
    assert len({colour(axes, word) for word in words}) == 4


def test_another_reign_is_a_line_with_its_champion() -> None:
    later = experiment(champion=configuration("9f8e7d6c"), reign="bbbb0000")
    axes = drawn([night(0), night(1), night(2, later), night(3, later)])
    (line,) = (each for each in axes.lines if "another champion" in str(each.get_label()))
    assert float(np.asarray(line.get_xdata())[0]) - START.toordinal() == 1.5
    assert [text.get_text() for text in axes.texts] == ["9f8e7d6c"]
    assert len(lines_of(axes, 4)) == 2  # one line per reign: nothing joins them


def test_figures_of_little_and_of_odd_names() -> None:
    for nights in ([nothing()], [failed()], [night(0, experiment(gaps=[0.0]))]):
        low, high = drawn(nights).get_ylim()
        assert low == 0 < high
    odd = trend_figure([night(0, experiment("$x_{"))], "$x_{")
    odd.canvas.draw()
    assert odd.axes[0].get_title("left") == "$x_{"


def test_the_last_attempt_of_a_date_counts() -> None:
    axes = drawn([night(0, experiment(gaps=[9.0, 9.2])), night(0)])
    assert places(axes, "unchanged") == [[0, pytest.approx(2.4)]]
