"""The verdict on one experiment: drift, duel, and the reason in a sentence."""

from collections.abc import Sequence
from dataclasses import replace

from distributed.config.nightly import Nightly
from distributed.nightly.records import CusumRecord, DuelRecord, PartRecord, ShiftRecord
from mixunlearn.metrics.gap import DECIMALS
from mixunlearn.metrics.nights import Drift, Duel, Night, Shift, Word, duel, verdict, watch
from mixunlearn.plain import finite


def judged(found: PartRecord, past: Sequence[PartRecord], nightly: Nightly) -> PartRecord:
    """Return a part with drift, duel, verdict and reason.

    Args:
        found: what the night measured; its reign is known.
        past: results of earlier nights for the experiment, oldest first.
        nightly: the plan.
    """
    same = [each for each in past if each.reign == found.reign]
    # In another reign, gaps have another level: a comparison would report a drift that is none.
    drift = _drift(found, same, nightly)
    against, nights = _differences(found, same)
    fight = duel(against, margin=nightly.margin, error=nightly.share) if against else None
    word = verdict(drift, fight, nightly.margin)
    won = fight is not None and fight.state == "won"
    return replace(
        found,
        shift=_shift_record(drift.shift) if drift and drift.shift else None,
        cusum=_cusum_record(drift) if drift else None,
        duel=_duel_record(fight, nights) if fight else None,
        # Due, not done: it is recorded first, so a night that is killed meanwhile promotes later.
        promotion="due" if won and nightly.promote else "none",
        promoted=None,
        verdict=word,
        why=_why(word, drift, fight),
    )


def _drift(found: PartRecord, same: Sequence[PartRecord], nightly: Nightly) -> Drift | None:
    """Return the champion's drift from its history; `None`: it was not measured."""
    if not found.gaps:
        return None
    nights = [_measured(each) for each in (*same, found) if each.gaps]
    # Replayed from the first night: a record holds the level, not the whole state of the CUSUM.
    *_, drift = watch(nights, margin=nightly.margin, error=nightly.share)
    return drift


def _measured(part: PartRecord) -> Night:
    assert part.draw is not None  # a part with gaps has a forget set
    return Night(draw=part.draw, gaps=part.gaps)


def _differences(found: PartRecord, same: Sequence[PartRecord]) -> tuple[list[float], int]:
    """Return champion − candidate by seed, over all nights of their duel, and how many."""
    key = found.candidate.key if found.candidate else None
    nights = [
        each
        for each in (*same, found)
        # By key: a new study finds the same configuration under another trial number.
        if each.candidate and each.candidate.key == key and each.rival_gaps
    ]
    # Not strict: each side may miss seeds if the night's time was over.
    pairs = [pair for each in nights for pair in zip(each.gaps, each.rival_gaps, strict=False)]
    return [champion - candidate for champion, candidate in pairs], len(nights)


def _why(word: Word, drift: Drift | None, fight: Duel | None) -> str:
    """Return the reason for a verdict in a sentence."""
    shift = drift.shift if drift else None
    moved = _moved(shift)
    match word:
        case "regressed" if drift:
            return f"{moved}, and has drifted for {drift.nights} night{'s' * (drift.nights > 1)}"
        case "improved" if fight:
            return f"the candidate is {fight.mean:.2f} pp nearer (at least {fight.low:.2f})"
        case "unchanged":
            return f"{moved}, within the margin"
    return f"{moved}; that proves neither a change nor its absence" if shift else moved


def _moved(shift: Shift | None) -> str:
    if shift is None:
        return "there is no earlier night of this champion to compare with"
    interval = f"{shift.low:+.2f} to {shift.high:+.2f}"
    return f"its gap is {shift.mean:+.2f} pp from its history ({interval})"


def _shift_record(shift: Shift) -> ShiftRecord:
    mean, low, high = (
        round(value, DECIMALS) + 0.0  # turns −0 into 0
        for value in (shift.mean, shift.low, shift.high)
    )
    return ShiftRecord(mean=mean, low=low, high=high)


def _cusum_record(drift: Drift) -> CusumRecord:
    # The limit is infinite until there is a night to compare with, and JSON has no infinity.
    return CusumRecord(level=drift.level, limit=finite(drift.limit), nights=drift.nights)


def _duel_record(fight: Duel, nights: int) -> DuelRecord:
    return DuelRecord(
        mean=fight.mean,
        # Infinite with one pair.
        low=finite(fight.low),
        high=finite(fight.high),
        pairs=fight.pairs,
        state=fight.state,
        nights=nights,
    )
