"""What a night decides from records alone: verdict, promotion, causes, the next champion."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from distributed.config.nightly import Nightly
from distributed.nightly.causes import causes
from distributed.nightly.judgement import judged
from distributed.nightly.records import Configuration, NightRecord, PartRecord

PLAN = Nightly(name="plan", experiments=["tiny.yaml"], seeds=5, draws=1, promote=True)
CHAMPION = Configuration(method="finetune", parameters={"lr": 1e-3}, epochs=2, trial="s/0")
CANDIDATE = replace(CHAMPION, parameters={"lr": 2e-3}, trial="s/1")
GAPS = [2.0, 2.2, 2.4, 2.6, 2.8]


def part(gaps: list[float] = GAPS, **changes: Any) -> PartRecord:
    known = PartRecord(name="tiny", draw=0, champion=CHAMPION, reign="one", gaps=gaps)
    return replace(known, **changes)


def shifted(by: float) -> list[float]:
    return [gap + by for gap in GAPS]


def test_a_first_night_proves_nothing() -> None:
    found = judged(part(), [], PLAN)
    assert (found.verdict, found.shift, found.duel) == ("inconclusive", None, None)
    assert found.cusum
    assert (found.cusum.limit, found.cusum.nights) == (None, 0)
    assert found.why == "there is no earlier night of this champion to compare with"
    assert (found.promotion, found.complete) == ("none", True)


def test_a_quiet_night_is_unchanged_and_a_large_shift_is_not() -> None:
    past = [part() for _ in range(6)]
    quiet = judged(part(shifted(0.1)), past, PLAN)
    assert quiet.verdict == "unchanged"
    assert quiet.shift
    assert quiet.shift.mean == pytest.approx(0.1)
    worse = judged(part(shifted(5)), past, PLAN)
    assert worse.verdict == "regressed"
    assert worse.why
    assert worse.why.endswith("has drifted for 1 night")


def test_only_nights_of_one_reign_are_compared() -> None:
    past = [part(shifted(-9), reign="another") for _ in range(6)]
    assert judged(part(), past, PLAN).shift is None


def test_without_time_to_measure_there_is_no_drift() -> None:
    found = judged(part([]), [part()], PLAN)
    assert (found.verdict, found.cusum, found.shift) == ("inconclusive", None, None)


def test_a_duel_counts_the_pairs_of_all_its_nights() -> None:
    better = [gap - 1.5 - index / 50 for index, gap in enumerate(GAPS)]
    past = [part(candidate=CANDIDATE, rival_gaps=better) for _ in range(2)]
    found = judged(part(candidate=CANDIDATE, rival_gaps=better), past, PLAN)
    assert found.duel
    assert (found.duel.pairs, found.duel.nights, found.duel.state) == (15, 3, "won")
    assert (found.verdict, found.promotion, found.complete) == ("improved", "due", False)
    assert found.title_holder == CANDIDATE
    kept = judged(found, past, PLAN.model_copy(update={"promote": False}))
    assert (kept.verdict, kept.promotion, kept.title_holder) == ("improved", "none", CHAMPION)


def test_one_pair_has_no_bounds() -> None:
    found = judged(part([2.0], candidate=CANDIDATE, rival_gaps=[1.5]), [], PLAN)
    assert found.duel
    assert (found.duel.mean, found.duel.low, found.duel.high) == (0.5, None, None)


def test_causes_name_what_differs_from_the_night_before() -> None:
    def night(day: int, found: PartRecord, **software: Any) -> NightRecord:
        environment = {"code": "a", "packages": {"torch": "2.13", "old": "1"}, **software}
        return NightRecord(
            plan="plan", date=date(2026, 11, day), environment=environment, experiments=[found]
        )

    then = part(data="d" * 64, recipe="r", base="tiny-1")
    now = replace(then, data="e" * 64, champion=CANDIDATE)
    last = night(1, then)
    assert causes(night(2, then), last, then) == []
    assert causes(last, None, then) == []
    assert causes(night(2, now, code="b", packages={"torch": "2.14", "new": "1"}), last, now) == [
        "code: a → b",
        "package new: none → 1",
        "package old: 1 → none",
        "package torch: 2.13 → 2.14",
        "data digest: dddddddddddd → eeeeeeeeeeee",
        f"champion: {CHAMPION.key} → {CANDIDATE.key}",
    ]
