import io
from typing import Any

import pytest
from rich.console import Console

from report.tables import summary_table

WIDTHS = (80, 120, 160)


def printed(summary: dict[str, Any], width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(summary_table(summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_with(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_a_wide_terminal_shows_a_configuration_on_a_line(summary: dict[str, Any]) -> None:
    text = printed(summary)
    best = line_with(text, "best 1 (trial 11)").split()
    assert best[4:] == [
        *("0.00", "Δ0.0"),
        *("97.8", "Δ0.2"),
        *("0.00", "Δ0.0"),
        *("38.4", "Δ1.0"),
        *("0.0180", "Δ0.005"),
        *("0.30", "15.2", "0.63"),
    ]


def test_z_is_shown_only_with_enough_references(
    summary: dict[str, Any], five_references: dict[str, Any]
) -> None:
    assert "z+26.2" not in printed(summary)
    best = line_with(printed(five_references), "best 1 (trial 11)").split()
    assert best[6:9] == ["97.8", "Δ0.2", "z−1.5"]


def test_references_are_mean_sd_and_n(summary: dict[str, Any]) -> None:
    references = line_with(printed(summary), "references (n=3)").split()
    assert references[2:] == [
        *("0.00", "±0.0", "98.0", "±0.15", "0.00", "±0.0", "39.4", "±2.0"),
        *("0.0133", "±0.0015", "0.46", "±0.18", "–", "–"),
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_come_in_order_at_every_width(summary: dict[str, Any], width: int) -> None:
    text = printed(summary, width)
    rows = ["references", "original", "default", *(f"best {rank}" for rank in range(1, 6))]
    places = [text.index(f"\n {row}") for row in rows]
    assert places == sorted(places)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_at_any_width(summary: dict[str, Any], width: int) -> None:
    text = printed(summary, width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    for shown in ("97.8", "Δ51.9", "0.0133", "±0.0015", "0.000123", "trial", "62.8"):
        assert shown in text


def test_only_the_five_best_are_listed(summary: dict[str, Any]) -> None:
    summary["best"] = [{**summary["best"][0], "trial": 100 + rank} for rank in range(7)]
    text = printed(summary)
    assert "best 5 (trial 104)" in text
    assert "trial 105" not in text


def test_units_head_the_columns(summary: dict[str, Any]) -> None:
    assert line_with(printed(summary), "on test").split()[2:] == [
        *("%", "%", "%", "%", "nats", "pp", "s", "×")
    ]


def test_columns_without_a_value_are_left_out(summary: dict[str, Any]) -> None:
    for values in (summary["default"], *summary["best"]):
        del values["time/unlearn_s"], values["time/ratio_to_retrain"]
    assert line_with(printed(summary), "on test").split()[-2:] == ["nats", "pp"]


def test_times_that_were_shared_are_marked_and_not_divided(summary: dict[str, Any]) -> None:
    assert "at once" not in printed(summary)
    for values in (summary["default"], *summary["best"]):
        values |= {"time/at_once": 4.0, "cost/ratio_to_retrain": 0.25}
        del values["time/ratio_to_retrain"]
    text = " ".join(printed(summary).split())
    assert "measured with up to 4 trials at once, so they are not compared" in text
    assert line_with(printed(summary), "best 1").split()[-1] == "0.25"
    summary["spread"]["time/ratio_to_retrain"] = {"mean": 0.5, "sd": None, "n": 1}
    assert "4 trials at once; 1 of the fresh seeds had the device to itself" in " ".join(
        printed(summary).split()
    )


def test_what_is_absent_is_a_dash(summary: dict[str, Any]) -> None:
    summary["best"][0]["mia/asr"] = None
    del summary["best"][0]["acc/test_retain"], summary["best"][0]["gap/acc/test_retain"]
    summary["best"][0]["div/js"] = float("nan")
    del summary["best"][0]["gap/avg"]
    best = line_with(printed(summary), "best 1").split()
    assert best.count("–") == 4


def test_parameters_stand_side_by_side_where_they_differ(summary: dict[str, Any]) -> None:
    text = printed(summary)
    trials = line_with(text, "parameter").split("trial ")[1:]
    assert [trial.strip() for trial in trials] == ["0", "11", "7", "14", "3", "9"]
    omega = ["1", "1.1", "0.7", "1.4", "0.3", "0.9"]
    assert line_with(text, "omega").split()[1:] == omega
    assert "same for all: lr 0.000123, gen_interval 4, pairing any, epochs 6" in text


def test_a_narrow_terminal_lists_parameters_by_trial(summary: dict[str, Any]) -> None:
    for trial in summary["best"]:
        names = (f"a_long_parameter_name_{index}" for index in range(8))
        trial["params"] |= dict.fromkeys(names, f"different_{trial['trial']}")
    text = printed(summary, 80)
    assert text.count("a_long_parameter_name_7=different_") == 5
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_default_among_the_best_has_one_column_of_parameters(summary: dict[str, Any]) -> None:
    summary["best"][0] = dict(summary["default"])
    trials = line_with(printed(summary), "parameter").split("trial ")[1:]
    assert [trial.strip() for trial in trials] == ["0", "7", "14", "3", "9"]


def test_fresh_seeds_stand_beside_the_references(summary: dict[str, Any]) -> None:
    expected = "gap/avg: trial 11, fresh seeds 1.07 ± 0.25 (3); references 0.46 ± 0.18 (3) pp"
    for width in WIDTHS:
        assert expected in printed(summary, width)


def test_a_study_without_a_complete_trial(summary: dict[str, Any]) -> None:
    summary |= {"best": [], "default": None, "spread": None, "seconds": None}
    text = printed(summary)
    assert "original (untouched)" in text
    assert "best 1" not in text
    assert set(line_with(text, "default (trial 0)").split()[3:]) == {"–"}
    assert "gap/avg: best, fresh seeds –; references 0.46 ± 0.18 (3) pp" in text


def test_the_headline_counts_trials(summary: dict[str, Any]) -> None:
    verdict, study = printed(summary).splitlines()[:2]
    assert verdict.startswith("Trial 11 of 16 is better than doing nothing, not equivalent. 2 of 4")
    assert study.strip() == (
        "mnist-class · study 3f2a91bc · trials: 9 complete, 6 pruned, 1 failed · 260 s"
    )
