"""How often a night's verdict is wrong: months in which only the verdict's logic is simulated.

A month has 30 nights with 5 seeds each and three forget sets that take turns, each with its own
effect. The margin is 1 pp; drift and duel share 5 % of false alarms a month. From night 12 on, the
gap is larger by 0, 1 or 3 points. The noise is normal; or that of `gap/avg`, a mean of four
absolute distances; or more skewed (a gamma distribution of shape 2).

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


def simulate(noise: Noise, shift: float, months: int) -> Found:
    """Simulate months, and return how often there was an alarm, and when."""
    rng = np.random.default_rng([months, int(shift)])
    first = np.array([first_alarm(month(noise, shift, rng)) for _ in range(months)])
    if not shift:
        won = np.mean([falsely_won(noise, rng) for _ in range(months)])
        return Found(false=float(np.mean(first < MONTH)), seen=np.zeros(0), won=float(won))
    fair = first[first >= FROM]
    seen = np.array([np.mean(fair <= FROM + delay) for delay in range(MONTH - FROM)])
    return Found(false=float(np.mean(first < FROM)), seen=seen, won=0.0)


def month(noise: Noise, shift: float, rng: np.random.Generator) -> list[Night]:
    """Return the nights of a simulated month."""
    effects = rng.normal(3, 1, DRAWS)
    gaps = effects[np.arange(MONTH) % DRAWS, None] + noise(rng, (MONTH, SEEDS))
    gaps[FROM:] += shift
    return [Night(draw=i % DRAWS, gaps=gaps[i].tolist()) for i in range(MONTH)]


def first_alarm(nights: list[Night]) -> int:
    """Return the index of the first night with an alarm; `MONTH` if there is none."""
    found = enumerate(watch(nights, margin=MARGIN, error=ERROR / 2))
    return next((index for index, drift in found if drift.nights), MONTH)


def falsely_won(noise: Noise, rng: np.random.Generator) -> bool:
    """Return whether a candidate that is exactly as good won on any night of a month-long duel."""
    differences = noise(rng, (MONTH, SEEDS)) - noise(rng, (MONTH, SEEDS))
    for night in range(MONTH):
        known = differences[: night + 1].ravel().tolist()
        if duel(known, margin=MARGIN, error=ERROR / 2).state == "won":
            return True
    return False


def main() -> None:
    """Simulate all kinds of months, print the results, and draw them."""
    months = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    found = {
        (name, shift): simulate(noise, shift, months)
        for name, noise in NOISES.items()
        for shift in SHIFTS
    }
    for (name, shift), each in found.items():
        after = {n: round(float(each.seen[n]), 3) for n in (0, 2, 6)} if shift else {}
        say(f"{name}, +{shift:g} pp: false {each.false:.3f}, won {each.won:.3f}, seen {after}")
    if len(sys.argv) > 2:
        draw(found, months, Path(sys.argv[2]))
    quiet = found["normal", 0.0]
    publish(
        "nightly_verdicts",
        [(quiet.false + quiet.won) / ERROR],
        at_most=1.0,
        of="false verdicts in quiet months of normal noise, drift and duel, to the stated 5 %",
        months=months,
        **{f"false_{name.split()[-1]}": round(found[name, 0.0].false, 4) for name in NOISES},
        **{f"won_{name.split()[-1]}": round(found[name, 0.0].won, 4) for name in NOISES},
        **{
            f"seen_{shift:g}pp_{name.split()[-1]}": round(float(found[name, shift].seen[6]), 4)
            for name in NOISES
            for shift in SHIFTS[1:]
        },
    )


def draw(found: Mapping[tuple[str, float], Found], months: int, path: Path) -> None:
    """Draw the rate of false alarms and the power."""
    figure = new_figure(width=8.0, height=3.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    colours = dict(zip(NOISES, (BLUE, GREEN, VERMILION), strict=True))
    for index, (name, colour) in enumerate(colours.items()):
        left.bar(index, 100 * found[name, 0.0].false, color=colour)
        for shift, style in zip(SHIFTS[1:], ("--", "-"), strict=True):
            seen = found[name, shift].seen
            right.plot(
                range(len(seen)), 100 * seen, style, color=colour, label=f"{name}, +{shift:g} pp"
            )
    left.axhline(100 * ERROR / 2, color="#222222", linewidth=1)
    left.set_xticks(range(len(NOISES)), [name.replace(" ", "\n") for name in NOISES])
    left.set_ylabel("% of quiet months with an alarm")
    left.set_title("False alarms (line: as stated)", fontsize="medium")
    right.set_xlabel("nights after the change")
    right.set_ylabel("% of months with an alarm by then")
    right.set_ylim(0, 102)
    right.legend(frameon=False, fontsize="small")
    right.set_title(f"Power, {months:,} months each", fontsize="medium")
    figure.savefig(path, dpi=DPI)


if __name__ == "__main__":
    main()
