"""Benchmarks: ratios of times within one run, because ratios vary less between machines."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch


def say(line: str) -> None:
    """Print a line on standard error; standard output is only for the result."""
    print(line, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, minimum, maximum and number of values; at least one is required."""
    return {
        "median": round(median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "n": len(values),
    }


def publish(
    name: str,
    ratios: Sequence[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    **measured: object,
) -> None:
    """Print the result as one JSON line on standard output, and as text on standard error.

    Args:
        name: of the benchmark.
        ratios: one or more measurements of the ratio; the result is their median.
        at_most: the target, if small ratios are good.
        at_least: the target, if large ratios are good.
        measured: additional values of the result.
    """
    ratio = median(ratios)
    met = ratio <= at_most if at_most is not None else ratio >= (at_least or 0.0)
    target = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
    say(f"{name}: {ratio:.3f}, target {target}: {'met' if met else 'missed'}")
    result = {"benchmark": name, "ratio": round(ratio, 4), "target": target, "met": met}
    print(json.dumps({**result, **spread(ratios), **measured, "machine": machine()}), flush=True)


def publish_cases(
    name: str,
    found: Mapping[str, Sequence[tuple[float, float]]],
    *,
    at_most: float,
    words: tuple[str, str],
    **measured: object,
) -> None:
    """Print the result of several cases; that of the worst one counts.

    Args:
        name: of the benchmark.
        found: case -> pairs of the measured and the plain way, in seconds.
        at_most: the target of measured / plain.
        words: names of both ways in the result.
        measured: additional values of the result.
    """
    ratios = {case: [own / plain for own, plain in pairs] for case, pairs in found.items()}
    worst = max(ratios, key=lambda case: median(ratios[case]))
    seconds = {
        case: dict(zip(words, map(spread, zip(*pairs, strict=True)), strict=True))
        for case, pairs in found.items()
    }
    cases = {case: {"ratio": spread(ratios[case]), **seconds[case]} for case in found}
    result = {"of": worst, "cases": cases, **measured}
    publish(name, ratios[worst], at_most=at_most, at_least=None, **result)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, including the work of a GPU."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def machine() -> Mapping[str, object]:
    """Return the properties of the machine that are part of the result."""
    return {"cpus": os.cpu_count(), "arch": platform.machine(), "torch": torch.__version__}
