"""A trial as Ray Tune runs it: one configuration, a step is an epoch."""

from pathlib import Path
from typing import Any

from ray.tune import Trainable

from mixunlearn.problem import Problem
from mixunlearn.trial import DivergedError, Trial
from trainables.checkpoint import load_state, save_state
from trainables.hardware import claim, cpus_of

IDENTITY = ("seed", "trial")  # keys of the configuration that are no hyperparameters


class UnlearnTrainable(Trainable):
    """Runs a `Trial`; the configuration is flat: hyperparameters, `trial` and `seed`."""

    def setup(self, config: dict[str, Any], problem: Problem, method: str, objective: str) -> None:
        """Take the problem over, once for all trials this actor will run.

        Args:
            config: hyperparameters, `trial` and `seed`.
            problem: what is to be unlearned.
            method: a key of `METHODS`.
            objective: the metric that is NaN when a trial diverges.
        """
        self.problem, self.method, self.objective = problem, method, objective
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial from nothing: no state of the last one is left."""
        parameters = {key: new_config[key] for key in new_config if key not in IDENTITY}
        self.trial = Trial(
            self.problem,
            self.method,
            parameters,
            new_config["seed"],
            claim(cpus_of(self.trial_resources)),
        )
        return True

    def step(self) -> dict[str, Any]:
        """Unlearn for one epoch."""
        try:
            return dict(self.trial.epoch())
        except DivergedError as error:
            return {self.objective: float("nan"), "diverged": str(error), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all the next epoch depends on."""
        save_state(self.trial.state_dict(), Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Go on from a checkpoint of the same configuration."""
        self.trial.load_state_dict(load_state(Path(checkpoint)))
