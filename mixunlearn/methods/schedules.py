"""How a learning rate falls over the course of a run."""

import math

import torch


def cosine(rate: float, done: float, whole: float, least: float = 0.0) -> float:
    """Return the learning rate after a part of a course, along half a cosine.

    Args:
        rate: at the beginning, > 0.
        done: steps or epochs that are done, ≥ 0.
        whole: steps or epochs of the course, > 0; after it the rate stays at `least`.
        least: at the end, ≥ 0.
    """
    passed = min(done / whole, 1.0)
    return least + (rate - least) * (1 + math.cos(math.pi * passed)) / 2


def set_rate(stepper: torch.optim.Optimizer, rate: float) -> None:
    """Let all steps from now on have a learning rate."""
    for group in stepper.param_groups:
        group["lr"] = rate
