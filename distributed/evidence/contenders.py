"""The tuned methods that evidence is collected about."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distributed.plan.plan import Plan
from distributed.search.outputs import read_summary
from mixunlearn.errors import MissingError
from mixunlearn.signature import seed_for
from trainables.evaluate import TestTask


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A method with the configuration that its search found on the first forget set.

    Args:
        name: shown in tables; methods of one evidence have different names.
        plan: plan of its study.
        trial: number of the trial with the configuration.
        hyperparameters: the configuration.
        epochs: number of epochs.
    """

    name: str
    plan: Plan
    trial: int
    hyperparameters: Mapping[str, Any]
    epochs: int

    @property
    def content(self) -> dict[str, Any]:
        """Return what determines its models, but for seeds."""
        return {
            "method": self.plan.experiment.method,
            "parameters": dict(self.hyperparameters),
            "epochs": self.epochs,
            "labels": self.plan.experiment.labels,
        }

    def task(self, original: int) -> TestTask:
        """Return the unlearning of one original.

        Args:
            original: its number among those of the evidence, from 0.
        """
        return TestTask(
            method=self.plan.experiment.method,
            hyperparameters=self.hyperparameters,
            seed=seed_for("evidence", self.plan.experiment.search.seed, original),
            epochs=self.epochs,
            # From scratch: checkpoints of the trial have unlearned another set.
            trial=None,
            original=original,
        )


def contender(name: str, plan: Plan) -> Contender:
    """Return the winner of a study.

    Raises:
        MissingError: the study has no result yet.
    """
    best = next(iter(read_summary(plan).get("best") or []), None)
    if best is None:
        words = ["mixunlearn", "sweep", plan.study_folder.experiment, "--home", plan.home]
        remedy = f"finish its search: {shlex.join(map(str, words))}"
        raise MissingError(f"no trial of {plan.study} has a result on test: {remedy}")
    return Contender(
        name=name,
        plan=plan,
        trial=best["trial"],
        hyperparameters=best["params"],
        epochs=best["epochs"],
    )
