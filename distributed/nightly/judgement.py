"""The verdict on one experiment: drift, duel, and the reason in a sentence."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

from distributed.config.nightly import Nightly
from distributed.nightly.records import CusumRecord, DuelRecord, PartRecord, ShiftRecord
from mixunlearn.metrics.gap import DECIMALS
from mixunlearn.metrics.nights import (
    Drift,
    Duel,
    Night,
    Shift,
    Word,
    duel,
    next_comparable,
    verdict,
    watch,
)
from mixunlearn.plain import finite
from mixunlearn.wording import counted


def judged(
    found: PartRecord, past: Sequence[PartRecord], nightly: Nightly, night: date
) -> PartRecord:
    """Return a part with drift, duel, verdict and reason.

    Args:
        found: what the night measured; its reign is known.
        past: results of earlier nights for the experiment, oldest first.
        nightly: the plan.
        night: the date of the night.
    """
    same = [each for each in past if each.reign == found.reign]
    # In another reign, gaps have another level: a comparison would report a drift that is none.
    drift = _drift(found, same, nightly)
    against = _differences(found, same)
    fight = duel(against, margin=nightly.margin, error=nightly.share) if against else None
    word = verdict(drift, fight, nightly.margin)
    won = fight is not None and fight.state == "won"
    return replace(
        found,
        shift=_shift_record(drift.shift) if drift and drift.shift else None,
        cusum=_cusum_record(drift) if drift else None,
        duel=_duel_record(fight) if fight else None,
        # Due, not done: it is recorded first, so a night that is killed meanwhile promotes later.
        promotion="due" if won and nightly.promote else "none",
        promoted=None,
        verdict=word,
        why=_why(word, drift, fight) or _incomparable(found, same, nightly, night),
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


def _differences(found: PartRecord, same: Sequence[PartRecord]) -> list[list[float]]:
    """Return champion − candidate by seed, for each night of their duel that has pairs."""
    key = found.candidate.key if found.candidate else None
    nights = [
        # By key: a new study finds the same configuration under another trial number.
        _paired(each)
        for each in (*same, found)
        if each.candidate and each.candidate.key == key
    ]
    return [differences for differences in nights if differences]


def _paired(part: PartRecord) -> list[float]:
    """Return champion − candidate for each seed that both have."""
    # By seed: each side may miss others if the night's time was over.
    champion = _by_seed(part.seeds, part.gaps)
    candidate = _by_seed(part.rival_seeds, part.rival_gaps)
    return [champion[seed] - candidate[seed] for seed in sorted({*champion} & {*candidate})]


def _by_seed(seeds: Sequence[int], gaps: Sequence[float]) -> Mapping[int, float]:
    return dict(zip(seeds, gaps, strict=True))


def _why(word: Word, drift: Drift | None, fight: Duel | None) -> str:
    """Return the reason for a verdict in a sentence; "" if nothing could be compared."""
    moved = _moved(drift.shift) if drift and drift.shift else ""
    match word:
        case "regressed" if drift:
            return f"{moved}, and has drifted for {counted(drift.nights, 'night')}"
        case "improved" if fight:
            return f"the candidate is {fight.mean:.2f} pp nearer (at least {fight.low:.2f})"
        case "unchanged":
            return f"{moved}, within the margin"
    return moved and f"{moved}; that proves neither a change nor its absence"


def _moved(shift: Shift) -> str:
    interval = f"{shift.low:+.2f} to {shift.high:+.2f}"
    return f"its gap is {shift.mean:+.2f} pp from its history ({interval})"


def _incomparable(
    found: PartRecord, same: Sequence[PartRecord], nightly: Nightly, night: date
) -> str:
    """Return why a night could not be compared with earlier ones, and which one will be."""
    if not found.gaps:
        return "the champion was not measured tonight"
    earlier = Counter(each.draw for each in same if each.gaps)
    if earlier[found.draw]:
        said = "there are too few earlier nights of this champion to know how much nights differ"
    else:
        said = "no earlier night of this champion under this forget set"
    past = [draw for draw in (*earlier.elements(), found.draw) if draw is not None]
    ahead = next_comparable(past, _upcoming(nightly, night))
    if ahead is None:
        return f"{said}, nor will there be: set `window` above `draws` ({nightly.draws})"
    return f"{said}; the next comparable one is {night + timedelta(ahead)}"


def _upcoming(nightly: Nightly, night: date) -> Iterator[int]:
    """Yield the forget sets of the nights to come, as long as tonight is in their window."""
    for ahead in range(1, nightly.window + 1):
        yield nightly.draw(night + timedelta(ahead))


def _shift_record(shift: Shift) -> ShiftRecord:
    mean, low, high = (
        round(value, DECIMALS) + 0.0  # turns −0 into 0
        for value in (shift.mean, shift.low, shift.high)
    )
    return ShiftRecord(mean=mean, low=low, high=high)


def _cusum_record(drift: Drift) -> CusumRecord:
    # The limit is infinite until there is a night to compare with, and JSON has no infinity.
    return CusumRecord(level=drift.level, limit=finite(drift.limit), nights=drift.nights)


def _duel_record(fight: Duel) -> DuelRecord:
    return DuelRecord(
        mean=fight.mean,
        # Infinite with one night.
        low=finite(fight.low),
        high=finite(fight.high),
        pairs=fight.pairs,
        state=fight.state,
        nights=fight.nights,
    )
