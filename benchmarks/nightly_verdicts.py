"""How often a night's verdict is wrong: months in which only the verdict's logic is simulated.

A month has 30 nights with 5 seeds each and three forget sets that take turns, each with its own
effect. The margin is 1 pp; drift and duel share 5 % of false alarms a month. From night 12 on, the
gap is larger by 0, 1 or 3 points. The noise is normal; or that of `gap/avg`, a mean of four
absolute distances; or more skewed (a gamma distribution of shape 2). The seeds of a night share
0, 10 or 30 % of the variance: the machine, the libraries and the references of a night are one.

    python benchmarks/nightly_verdicts.py [MONTHS] [PICTURE]
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks import publish, say
from mixunlearn.metrics.nights import MONTH, Night, duel, watch
from report.plots.drawing import BLUE, DPI, GREEN, VERMILION, new_figure

SEEDS, DRAWS, SD = 5, 3, 0.7
MARGIN, ERROR, FROM = 1.0, 0.05, 12
SHIFTS = (0.0, 1.0, 3.0)
SHARES = (0.0, 0.1, 0.3)  # of the variance, which the seeds of a night have in common
Noise: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], npt.NDArray[np.float64]]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return normal noise."""
    return np.asarray(rng.normal(0, SD, shape))


def folded(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the centred mean of four absolute normal values, with the same spread."""
    found = np.abs(rng.normal(0, 1, (*shape, 4))).mean(-1)
    return np.asarray((found - np.sqrt(2 / np.pi)) * SD / np.sqrt((1 - 2 / np.pi) / 4))


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return centred gamma noise of shape 2, with the same spread."""
    return np.asarray((rng.gamma(2.0, 1.0, shape) - 2.0) * SD / np.sqrt(2.0))


NOISES: Mapping[str, Noise] = {"normal": normal, "four distances": folded, "skewed": skewed}


@dataclass(frozen=True, kw_only=True)
class Found:
    """The results of simulated months of one kind.

    Args:
        false: share of months with an alarm before the change, or with any if nothing changed.
        seen: share of months with an alarm after the change, by number of nights after it.
        won: share of months in which a candidate that is not better won a duel.
    """

    false: float
    seen: npt.NDArray[np.float64]
    won: float


def simulate(noise: Noise, shift: float, months: int, share: float = 0.0) -> Found:
    """Simulate months, and return how often there was an alarm, and when."""
    rng = np.random.default_rng([months, int(shift), round(100 * share)])
    first = np.array([first_alarm(month(noise, shift, rng, share)) for _ in range(months)])
    if not shift:
        won = np.mean([first_win(noise, 0.0, rng, share) < MONTH for _ in range(months)])
        return Found(false=float(np.mean(first < MONTH)), seen=np.zeros(0), won=float(won))
    fair = first[first >= FROM]
    seen = np.array([np.mean(fair <= FROM + delay) for delay in range(MONTH - FROM)])
    return Found(false=float(np.mean(first < FROM)), seen=seen, won=0.0)


def shared(noise: Noise, rng: np.random.Generator, share: float) -> npt.NDArray[np.float64]:
    """Return a month of noise, (nights, seeds); a share of its variance is one number a night."""
    of_nights = rng.normal(0, SD, (MONTH, 1))
    of_seeds = noise(rng, (MONTH, SEEDS))
    return np.asarray(np.sqrt(1 - share) * of_seeds + np.sqrt(share) * of_nights)


def month(noise: Noise, shift: float, rng: np.random.Generator, share: float) -> list[Night]:
    """Return the nights of a simulated month."""
    effects = rng.normal(3, 1, DRAWS)
    gaps = effects[np.arange(MONTH) % DRAWS, None] + shared(noise, rng, share)
    gaps[FROM:] += shift
    return [Night(draw=i % DRAWS, gaps=gaps[i].tolist()) for i in range(MONTH)]


def first_alarm(nights: list[Night]) -> int:
    """Return the index of the first night with an alarm; `MONTH` if there is none."""
    found = enumerate(watch(nights, margin=MARGIN, error=ERROR / 2))
    return next((index for index, drift in found if drift.nights), MONTH)


def first_win(noise: Noise, better: float, rng: np.random.Generator, share: float) -> int:
    """Return the index of the night on which a candidate wins a month-long duel; else `MONTH`.

    Args:
        noise: of champion and of candidate; a share of it is common to the seeds of a night.
        better: by how much the candidate is better, in percentage points.
        rng: random numbers.
        share: of the variance that the seeds of a night have in common.
    """
    differences = (better + shared(noise, rng, share) - shared(noise, rng, share)).tolist()
    return next(
        (
            index
            for index in range(MONTH)
            if duel(differences[: index + 1], margin=MARGIN, error=ERROR / 2).state == "won"
        ),
        MONTH,
    )


def main() -> None:
    """Simulate all kinds of months, print the results, and draw them."""
    months = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    found = {
        (name, share, shift): simulate(noise, shift, months, share)
        for name, noise in NOISES.items()
        for share in SHARES
        for shift in SHIFTS
        # The power is drawn for one share.
        if not shift or share == SHARES[1]
    }
    for (name, share, shift), each in found.items():
        after = {n: round(float(each.seen[n]), 3) for n in (0, 2, 6)} if shift else {}
        rates = f"false {each.false:.3f}, won {each.won:.3f}, seen {after}"
        say(f"{name}, {share:.0%} shared, +{shift:g} pp: {rates}")
    wins = {
        (share, better): _wins(better, months, share) for share in SHARES for better in SHIFTS[1:]
    }
    for (share, better), each_won in wins.items():
        said = {n: round(float(np.mean(each_won < n)), 3) for n in (3, 5, 7, 10)}
        say(f"duel, normal, {share:.0%} shared, {better:g} pp better: won within {said} nights")
    if len(sys.argv) > 2:
        draw(found, months, Path(sys.argv[2]))
    publish(
        "nightly_verdicts",
        [max(found["normal", share, 0.0].false for share in SHARES) / (ERROR / 2)],
        # The rate is itself a result of chance: three standard errors above the stated one.
        at_most=round(1 + 3 * float(np.sqrt((1 - ERROR / 2) / (ERROR / 2 * months))), 2),
        of="false alarms of drift in quiet months of normal noise, the worst share, to the stated",
        months=months,
        **{
            f"{kind}_{name.split()[-1]}_{share:.0%}": round(
                getattr(found[name, share, 0.0], kind), 4
            )
            for kind in ("false", "won")
            for name in NOISES
            for share in SHARES
        },
    )


def _wins(better: float, months: int, share: float) -> npt.NDArray[np.int64]:
    """Return for each month the index of the night on which a better candidate wins its duel."""
    rng = np.random.default_rng([months, int(better), round(100 * share), 1])
    return np.array([first_win(normal, better, rng, share) for _ in range(months)])


def draw(found: Mapping[tuple[str, float, float], Found], months: int, path: Path) -> None:
    """Draw the rate of false alarms and the power."""
    figure = new_figure(width=8.0, height=3.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    colours = dict(zip(NOISES, (BLUE, GREEN, VERMILION), strict=True))
    for index, (name, colour) in enumerate(colours.items()):
        for beside, share in enumerate(SHARES):
            place = index + 0.28 * (beside - 1)
            left.bar(place, 100 * found[name, share, 0.0].false, 0.26, color=colour)
        for shift, style in zip(SHIFTS[1:], ("--", "-"), strict=True):
            seen = found[name, SHARES[1], shift].seen
            right.plot(
                range(len(seen)), 100 * seen, style, color=colour, label=f"{name}, +{shift:g} pp"
            )
    left.axhline(100 * ERROR / 2, color="#222222", linewidth=1)
    left.set_xticks(range(len(NOISES)), [name.replace(" ", "\n") for name in NOISES])
    left.set_ylabel("% of quiet months with an alarm")
    left.set_title("False alarms; 0, 10, 30 % shared", fontsize="medium")
    right.set_xlabel("nights after the change")
    right.set_ylabel("% of months with an alarm by then")
    right.set_ylim(0, 102)
    right.legend(frameon=False, fontsize="small")
    right.set_title(f"Power, 10 % shared, {months:,} months each", fontsize="medium")
    figure.savefig(path, dpi=DPI)


if __name__ == "__main__":
    main()
