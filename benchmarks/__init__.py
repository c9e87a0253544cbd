"""Benchmarks: ratios of times within one run, because machines differ and ratios hold."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from statistics import median

import torch


def say(line: str) -> None:
    """Print a line for people; standard output belongs to the result."""
    print(line, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest, largest and number of at least one value."""
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
    """Print the result as one JSON line on standard output, and in words on standard error.

    Args:
        name: of the benchmark.
        ratios: the ratio, once or measured several times; the result is their median.
        at_most: the target, if small ratios are good.
        at_least: the target, if large ones are.
        measured: what else is worth knowing.
    """
    ratio = median(ratios)
    met = ratio <= at_most if at_most is not None else ratio >= (at_least or 0.0)
    target = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
    say(f"{name}: {ratio:.3f}, target {target}: {'met' if met else 'missed'}")
    result = {"benchmark": name, "ratio": round(ratio, 4), "target": target, "met": met}
    print(json.dumps({**result, **spread(ratios), **measured, "machine": machine()}), flush=True)


def machine() -> Mapping[str, object]:
    """Return what the figures were measured on."""
    return {"cpus": os.cpu_count(), "arch": platform.machine(), "torch": torch.__version__}
