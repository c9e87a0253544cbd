"""How often a study was judged on `test`: other models are another look, the same are none."""

from typing import Any

from distributed.search.looks import with_looks
from report.verdict import headline


def judged(
    state: str, *, trial: int = 1, originals: int = 3, references: int = 5
) -> dict[str, Any]:
    counts = {"originals": originals, "references": references}
    return {
        "best": [{"trial": trial}],
        "trials": {"complete": 4},
        "spread": {"trial": trial},
        **{kind: {"mia/asr": {"n": n}, "acc/test": {"n": n}} for kind, n in counts.items()},
        "verdict": {"state": state, "reasons": ["too few"]},
    }


def looked(*summaries: dict[str, Any]) -> dict[str, Any]:
    """The last of several summaries, written one after the other."""
    found: dict[str, Any] = {}
    for summary in summaries:
        found = with_looks(summary, found)
    return found


def test_the_first_verdict_is_one_look() -> None:
    found = looked(judged("undecided"))
    assert (found["verdict"]["looks"], found["verdict"]["earlier"]) == (1, [])
    assert headline(found) == "Trial 1 of 4 is undecided. Too few."


def test_the_same_models_again_are_no_new_look() -> None:
    again = looked(judged("undecided"), judged("undecided"), judged("undecided"))
    assert again == looked(judged("undecided"))


def test_more_originals_and_another_winner_are_further_looks() -> None:
    found = looked(
        judged("undecided"),
        judged("undecided", originals=8),
        judged("undecided", originals=8),
        judged("equivalent to retraining", originals=8, trial=3),
    )
    assert found["verdict"]["looks"] == 3
    assert found["verdict"]["earlier"] == [
        {"state": "undecided", "trial": 1, "originals": 3, "references": 5},
        {"state": "undecided", "trial": 1, "originals": 8, "references": 5},
    ]
    assert headline(found).endswith(
        "Too few. This is look 3 at test; the earlier ones: undecided (trial 1, 3 originals, "
        "5 references); undecided (trial 1, 8 originals, 5 references)."
    )


def test_many_looks_are_counted_but_not_all_named() -> None:
    found = looked(*(judged("undecided", originals=count) for count in range(3, 10)))
    assert found["verdict"]["looks"] == 7
    assert len(found["verdict"]["earlier"]) == 6
    assert "the earlier ones: …; undecided (trial 1, 6 originals" in headline(found)


def test_a_summary_without_a_verdict_counts_no_look() -> None:
    """Of an earlier version, or of a study in which no trial succeeded."""
    assert looked({"best": []}) == {"best": []}
    assert looked({"best": [{"trial": 0}]}, judged("undecided"))["verdict"]["looks"] == 1
    # One that was written before looks were counted.
    earlier = judged("undecided")
    assert with_looks(judged("undecided", originals=5), earlier)["verdict"]["looks"] == 2
