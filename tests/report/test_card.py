from typing import Any

from report.card import model_card
from report.report_data import ReportData

FACTS = {
    "data": "mnist5k, images of 1×28×28, digest 3f2a",
    "forget set": "all 400 training images of class 0",
    "splits": "dc1e924b",
    "model": "cnn",
    "method": "mixunlearn, label-aware",
}


def report_data_of(summary: dict[str, Any], **changes: Any) -> ReportData:
    known: dict[str, Any] = {
        "summary": summary,
        "rows": [{"study": "3f2a91bc", "trial": 11, "state": "complete"}],
        "curves": {},
        "ended": [11],
        "axes": {},
        "objective": "gap/avg",
        "facts": FACTS,
        "warnings": ["Only 2 references: their spread is hardly known."],
        "citations": ["Peng, Tang, Yang, ICLR 2025, arXiv 2502.10288.", ""],
    }
    return ReportData(**{**known, **changes})


def cells(card: str, start: str) -> list[str]:
    """Return the cells of the row that starts with this text."""
    row = next(line for line in card.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in row.strip("|").split(" | ")]


def test_a_card_begins_with_what_was_forgotten_and_how_near_it_is(summary: dict[str, Any]) -> None:
    title, opening = model_card(report_data_of(summary)).split("\n\n")[:2]
    assert title == "# mnist-class, trial 11: an unlearned classifier"
    assert opening == (
        "Made to forget all 400 training images of class 0. Its configuration, run under fresh "
        "seeds: **Trial 11 of 16 is better than doing nothing, not equivalent. 2 of 4 metrics "
        "within the margins. Smaller. It took long.**"
    )


def test_each_metric_stands_beside_the_references(
    summary: dict[str, Any], five_references: dict[str, Any]
) -> None:
    card = model_card(report_data_of(summary))
    heading = ["unit", "this model", "gap", "z", "fresh seeds", "references", "original"]
    assert cells(card, "on test") == ["on test", *heading]
    assert cells(card, "`mia/asr`") == [
        *("`mia/asr`", "%", "38.4", "1.0", "–"),
        *("41.3 ± 2.8 (3)", "39.4 ± 2.0 (3)", "91.3"),
    ]
    assert cells(card, "`div/js`")[4:] == ["–", "–", "0.0133 ± 0.0015 (3)", "0.62"]
    more = model_card(report_data_of(five_references))
    assert cells(more, "`mia/asr`")[4] == "−0.5"
    assert cells(card, "`time/ratio_to_retrain`")[1:3] == ["×", "0.63"]


def test_a_card_has_all_that_is_needed_to_use_doubt_and_repeat_it(summary: dict[str, Any]) -> None:
    card = model_card(report_data_of(summary))
    titles = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert titles == [
        "How near it is to retraining",
        "Limits",
        "What was forgotten, and how",
        "Hyperparameters",
        "Use",
        "Reproduce",
        "Sources",
    ]
    for name, value in FACTS.items():
        assert cells(card, name) == [name, value]
    assert cells(card, "lr") == ["lr", "0.000123456"]
    assert "- Only 2 references: their spread is hardly known." in card
    assert "one membership attack" in card
    assert "not a guarantee" in card
    assert 'load_model("models:/mnist-class@candidate")' in card
    assert "mixunlearn rerun 3f2a91bc/11" in card
    assert card.endswith("- Peng, Tang, Yang, ICLR 2025, arXiv 2502.10288.\n")


def test_a_value_that_does_not_exist_for_the_trial_is_left_out(summary: dict[str, Any]) -> None:
    summary["best"][0]["params"]["omega"] = None
    assert "| omega |" not in model_card(report_data_of(summary))


def test_no_name_breaks_the_table_or_becomes_markup(summary: dict[str, Any]) -> None:
    evil = "all of class a|b\n\n# <script>alert(1)</script> [x](javascript:alert(1))"
    card = model_card(report_data_of(summary, facts={"forget set": evil}, citations=[]))
    assert "<script>" not in card
    assert "[x](" not in card.replace("\\[x](", "")
    assert "\n# &lt;" not in card
    (row,) = [line for line in card.splitlines() if line.startswith("| forget set |")]
    assert row.replace("\\|", "").count("|") == 3
    assert "## Sources" not in card
