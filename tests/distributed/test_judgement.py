"""What a night decides from records alone: verdict, promotion, causes, the next champion."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from distributed.config.nightly import Nightly
from distributed.nightly.causes import causes
from distributed.nightly.champion import _crowned
from distributed.nightly.judgement import judged
from distributed.nightly.records import Configuration, NightRecord, PartRecord
from report.verdict import headline

PLAN = Nightly(name="plan", experiments=["tiny.yaml"], seeds=5, draws=1, promote=True)
CHAMPION = Configuration(method="finetune", parameters={"lr": 1e-3}, epochs=2, trial="s/0")
CANDIDATE = replace(CHAMPION, parameters={"lr": 2e-3}, trial="s/1")
NIGHT = date(2026, 11, 9)
GAPS = [2.0, 2.2, 2.4, 2.6, 2.8]


def part(gaps: list[float] = GAPS, **changes: Any) -> PartRecord:
    known = PartRecord(name="tiny", draw=0, champion=CHAMPION, reign="one", gaps=gaps)
    found = replace(known, **changes)
    seeds = {"seeds": [*range(len(found.gaps))], "rival_seeds": [*range(len(found.rival_gaps))]}
    return replace(found, **{**seeds, **changes})


def shifted(by: float) -> list[float]:
    return [gap + by for gap in GAPS]


def test_a_first_night_proves_nothing() -> None:
    found = judged(part(), [], PLAN, NIGHT)
    assert (found.verdict, found.shift, found.duel) == ("inconclusive", None, None)
    assert found.cusum
    assert (found.cusum.limit, found.cusum.nights) == (None, 0)
    assert found.why == (
        "no earlier night of this champion under this forget set; the next comparable one is "
        "2026-11-11"
    )
    assert (found.promotion, found.complete) == ("none", True)


def test_a_quiet_night_is_unchanged_and_a_large_shift_is_not() -> None:
    past = [part(shifted(by)) for by in (0.1, -0.1, 0.05, -0.05, 0.0, 0.0)]
    quiet = judged(part(shifted(0.1)), past, PLAN, NIGHT)
    assert quiet.verdict == "unchanged"
    assert quiet.shift
    assert quiet.shift.mean == pytest.approx(0.1)
    worse = judged(part(shifted(5)), past, PLAN, NIGHT)
    assert worse.verdict == "regressed"
    assert worse.why
    assert worse.why.endswith("has drifted for 1 night")


def test_an_inconclusive_night_names_the_next_comparable_one() -> None:
    three = PLAN.model_copy(update={"draws": 3})
    first = judged(part(draw=three.draw(NIGHT)), [], three, NIGHT)
    assert first.why
    assert first.why.endswith("the next comparable one is 2026-11-13")
    before = [part(draw=three.draw(NIGHT - timedelta(ahead))) for ahead in (3, 2, 1)]
    known = judged(part(draw=three.draw(NIGHT)), before, three, NIGHT)
    assert known.why == (
        "there are too few earlier nights of this champion to know how much nights differ; the "
        "next comparable one is 2026-11-10"
    )
    rare = judged(part(), [], PLAN.model_copy(update={"draws": 90, "window": 60}), NIGHT)
    assert rare.why
    assert rare.why.endswith("nor will there be: set `window` above `draws` (90)")
    unmeasured = judged(part([]), [part()], PLAN, NIGHT)
    assert unmeasured.why == "the champion was not measured tonight"


def test_a_duel_pairs_by_seed() -> None:
    late = part(
        [2.0, 4.0],
        seeds=[0, 3],  # the night's time was over
        candidate=CANDIDATE,
        rival_gaps=[1.0, 3.5, 9.0],
        rival_seeds=[1, 3, 4],
    )
    found = judged(late, [], PLAN, NIGHT)
    assert found.duel
    assert (found.duel.pairs, found.duel.mean) == (1, 0.5)


def test_only_nights_of_one_reign_are_compared() -> None:
    past = [part(shifted(-9), reign="another") for _ in range(6)]
    assert judged(part(), past, PLAN, NIGHT).shift is None


def test_without_time_to_measure_there_is_no_drift() -> None:
    found = judged(part([]), [part()], PLAN, NIGHT)
    assert (found.verdict, found.cusum, found.shift) == ("inconclusive", None, None)


def test_a_duel_counts_the_nights_of_all_its_pairs() -> None:
    def better(by: float) -> list[float]:
        return [gap - by - index / 5 for index, gap in enumerate(GAPS)]

    rivals = [better(1.5), better(1.51), better(1.49)]
    past = [part(candidate=CANDIDATE, rival_gaps=rival) for rival in rivals[:2]]
    found = judged(part(candidate=CANDIDATE, rival_gaps=rivals[2]), past, PLAN, NIGHT)
    assert found.duel
    assert (found.duel.pairs, found.duel.nights, found.duel.state) == (15, 3, "won")
    assert (found.verdict, found.promotion, found.complete) == ("improved", "due", False)
    assert found.title_holder == CANDIDATE
    kept = judged(found, past, PLAN.model_copy(update={"promote": False}), NIGHT)
    assert (kept.verdict, kept.promotion, kept.title_holder) == ("improved", "none", CHAMPION)


def test_one_night_has_no_bounds() -> None:
    found = judged(part(candidate=CANDIDATE, rival_gaps=shifted(-0.5)), [], PLAN, NIGHT)
    assert found.duel
    assert found.duel.mean == pytest.approx(0.5)
    assert (found.duel.low, found.duel.high) == (None, None)


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


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (3, "is equivalent to retraining. This was its study's verdict at its promotion. Near."),
        (4, "is undecided. A night unlearns one original, and how originals vary is unknown."),
    ],
)
def test_a_crowned_trial_carries_the_verdict_of_its_study_only(judged: int, said: str) -> None:
    summary = {
        "trials": {"complete": 8},
        "spread": {"trial": judged},
        "verdict": {"state": "equivalent to retraining", "reasons": ["near"]},
    }
    found = _crowned(summary, {"trial": 3}, {"trial": 3}, PartRecord(name="tiny"))
    assert headline(found) == f"Trial 3 of 8 {said}"
