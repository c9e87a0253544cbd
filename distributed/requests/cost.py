"""What unlearning a request costs, beside simply retraining: said before anything runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from mixunlearn.data.batches import Samples
from mixunlearn.methods import METHODS
from mixunlearn.own_recipe import OwnRecipe
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.timing import BATCHES, retraining_seconds, seconds_of, spread
from mixunlearn.wording import counted

BATCH = 32  # images in what counts as a step of a method that has none
MINUTES = 120  # seconds from which a time is told in minutes


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The time that a request is going to take, and that retraining would take.

    Args:
        unlearning_s: seconds to unlearn once.
        retraining_s: seconds to train one model from scratch without the images; NaN if that is
            not known, because the user's own function trains it.
        known_from: where the times come from, in words.
        verifying: number of models that `--verify` trains; 0 without it, or if all are there.
    """

    unlearning_s: float
    retraining_s: float
    known_from: str
    verifying: int = 0

    @property
    def ratio(self) -> float:
        """Return the time of unlearning in times of retraining; above 1, retraining is cheaper."""
        return self.unlearning_s / self.retraining_s

    @property
    def cheaper(self) -> bool:
        """Return whether retraining is cheaper than unlearning."""
        return self.ratio > 1

    @property
    def verifying_s(self) -> float:
        """Return the seconds of the trainings of `--verify`, one after another."""
        return self.verifying * self.retraining_s

    @property
    def sentence(self) -> str:
        """Return it in one sentence, without a full stop."""
        unlearning, retraining = spoken(self.unlearning_s), spoken(self.retraining_s)
        if math.isnan(self.retraining_s):
            models = f"; --verify trains {counted(self.verifying, 'model')}" * bool(self.verifying)
            unknown = "how long your own recipe takes to retrain is not known"
            return f"unlearning takes about {unlearning}; {unknown}{models} ({self.known_from})"
        if self.cheaper:
            said = (
                f"retraining is cheaper, and leaves nothing behind: about {retraining}; unlearning "
                f"takes about {unlearning}, {self.ratio:.1f} times as long"
            )
        else:
            said = (
                f"unlearning takes about {unlearning}, retraining once about {retraining}: "
                f"{self.ratio:.2f} of that"
            )
        if self.verifying:
            models = counted(self.verifying, "model")
            said += f"; --verify trains {models} more: about {spoken(self.verifying_s)}"
        return f"{said} ({self.known_from})"


def time_cost(
    problem: Problem,
    method: str,
    hyperparameters: Mapping[str, Any],
    epochs: int,
    recipe: Recipe | OwnRecipe,
    device: torch.device,
) -> Cost:
    """Time a few real steps of unlearning and of training; return what all of them will take.

    Each runs on a part of the images, and the time grows in proportion to them. So a method whose
    preparation takes as long for few images as for many is said to cost more than it does.

    Args:
        problem: the request's.
        method: key of `METHODS`.
        hyperparameters: of the method.
        epochs: of unlearning.
        recipe: of the retraining.
        device: where both will run.

    Raises:
        DivergedError: the loss of the training is not finite.
    """
    unlearning_s = _unlearning(problem, method, hyperparameters, epochs, device)
    retraining_s = (
        retraining_seconds(problem, recipe, device) if isinstance(recipe, Recipe) else math.nan
    )
    known_from = f"timed: {BATCHES} steps{'' if math.isnan(retraining_s) else ' of each'}"
    return Cost(unlearning_s=unlearning_s, retraining_s=retraining_s, known_from=known_from)


def _unlearning(
    problem: Problem,
    name: str,
    hyperparameters: Mapping[str, Any],
    epochs: int,
    device: torch.device,
) -> float:
    method = METHODS[name](**hyperparameters)
    context = problem.context(device, 0)
    few = BATCHES * (method.batch or BATCH)
    small = replace(context, forget=_part(context.forget, few), retain=_part(context.retain, few))
    preparing = seconds_of(lambda: method.prepare(small))
    method.epoch()
    epoch = seconds_of(method.epoch)
    passed = "forget" if method.passes_over == "forget" else "retain"
    scale = len(getattr(context, passed)) / len(getattr(small, passed))
    return (preparing + epochs * epoch) * scale


def _part(samples: Samples, count: int) -> Samples:
    """Return at most `count` samples, from all over the set: neighbours are often of one class."""
    return samples.at(spread(len(samples), count).to(samples.images_NCHW.device))


def spoken(seconds: float) -> str:
    """Return a time in words: 0.4 s, 12 s, 3 min.

    Args:
        seconds: at least 0.
    """
    if seconds >= MINUTES:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"  # noqa: PLR2004
