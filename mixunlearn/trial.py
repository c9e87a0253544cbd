"""Unlearning, one epoch at a time; a trial does it with one configuration, and is measured."""

import math
import time
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import torch

from mixunlearn.chance import own_chance
from mixunlearn.effort import ALONE, Effort
from mixunlearn.errors import DivergedError
from mixunlearn.methods import METHODS, Context, Method
from mixunlearn.parallel import agree
from mixunlearn.passes import Passes, counted
from mixunlearn.problem import Problem
from mixunlearn.signature import seed_for

SHARED = 2  # at least so many trials may have shared the device


class Unlearning:
    """A method at work; only its own time counts.

    Args:
        method: not prepared yet.
        context: what it works with.

    Attributes:
        seconds: that it has taken until now.
        passes: images that have passed through models until now; `None`: unknown.
        epochs_done: number of epochs.
    """

    def __init__(self, method: Method, context: Context) -> None:
        self.method, self.context = method, context
        self.epochs_done = 0
        self.passes: Passes | None = Passes()
        start = time.perf_counter()
        with self._chance("prepare"), counted(self.passes):
            self.method.prepare(context)
        _adopt(self.method)
        self.seconds = time.perf_counter() - start  # preparation counts as unlearning time

    def unlearn(self) -> dict[str, float]:
        """Unlearn for one epoch without measuring; return the losses as `train/…`.

        Raises:
            DivergedError: a loss is not finite.
        """
        start = time.perf_counter()
        with self._chance("epoch"), counted(self.passes):
            agree(self.method.parts().values())
            scalars = self.method.epoch()
        # Scalars are numbers, so they were read from the device: its work is in this time.
        self.seconds += time.perf_counter() - start
        self.epochs_done += 1
        for name, value in scalars.items():
            if not math.isfinite(value):
                raise DivergedError(f"{name} = {value}")
        return {f"train/{name}": value for name, value in scalars.items()}

    def _chance(self, what: str) -> AbstractContextManager[None]:
        """Let what the model draws, such as dropout, depend on the seed and the epoch alone."""
        return own_chance(seed_for(f"chance of {what}", self.context.seed, self.epochs_done))

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next epoch depends on."""
        return {
            "method": self.method.state_dict(),
            "seconds": self.seconds,
            **({"passes": asdict(self.passes)} if self.passes else {}),
            "epochs_done": self.epochs_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of a trial with the same arguments."""
        self.method.load_state_dict(state["method"])
        self.seconds, self.epochs_done = state["seconds"], state["epochs_done"]
        # Nothing is counted in a state of an earlier version, so nothing is known from then on.
        self.passes = Passes(**state["passes"]) if "passes" in state else None


def _adopt(method: Method) -> None:
    """Let a method of an earlier version, which sets `optimizer` in `prepare`, keep it."""
    given: object = method.optimizer
    if isinstance(given, torch.optim.Optimizer):
        words = f"{type(method).__name__} sets self.optimizer in prepare; set self.stepper instead"
        warnings.warn(words, DeprecationWarning, stacklevel=3)
        method.stepper = given


class Trial(Unlearning):
    """Unlearning with one configuration, measured after each epoch.

    Args:
        problem: what is to be unlearned.
        method: a key of `METHODS`.
        hyperparameters: the method's hyperparameters, flat.
        seed: determines all random choices.
        device: where to compute.
        at_once: how many trials may share the device, this one included.
    """

    def __init__(
        self,
        problem: Problem,
        method: str,
        hyperparameters: Mapping[str, Any],
        seed: int,
        device: torch.device,
        *,
        at_once: int = ALONE,
    ) -> None:
        super().__init__(METHODS[method](**hyperparameters), problem.context(device, seed))
        self.problem, self.at_once = problem, at_once

    @property
    def effort(self) -> Effort:
        """What unlearning has cost until now."""
        return Effort(seconds=self.seconds, passes=self.passes, at_once=self.at_once)

    def epoch(self) -> dict[str, float]:
        """Unlearn for one epoch; return the losses as `train/…`, metrics, gaps, z and times.

        Raises:
            DivergedError: a loss, a weight or an output is not finite.
        """
        return self.unlearn() | self.evaluate()

    def evaluate(self) -> dict[str, float]:
        """Return metrics, gaps, z and times of the model as it is now.

        Raises:
            DivergedError: a weight or an output is not finite.
        """
        return self.problem.evaluator.evaluate(self.method.model, self.effort)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next epoch depends on, and with how many others it was timed."""
        return {**super().state_dict(), "at_once": self.at_once}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of a trial with the same arguments."""
        super().load_state_dict(state)
        # Its seconds are in the sum now. An earlier version did not note who shared the device.
        self.at_once = max(self.at_once, state.get("at_once", SHARED))
