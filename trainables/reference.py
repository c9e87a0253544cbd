"""Training of an original or a reference as Ray Tune runs it: a step is an epoch."""

import time
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from mixunlearn.bank import Bank, Member
from trainables.checkpoint import load_state, save_state
from trainables.hardware import claim, cpus_of


class ReferenceTrainable(Trainable):
    """Trains one member of the bank and keeps it, judged, in the store."""

    def setup(self, config: dict[str, Any], bank: Bank) -> None:
        """Take the bank over, once for all members this actor will train."""
        self.bank = bank
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another member from nothing."""
        self.member = Member(**new_config["member"])
        self.device = claim(cpus_of(self.trial_resources))
        self.seconds = 0.0
        self.training = self.bank.training(self.member, self.device)
        return True

    def step(self) -> dict[str, Any]:
        """Train for one epoch; after the last one, judge the model and keep it."""
        if self.bank.trained(self.member):  # only evaluations or teacher's outputs are missing
            model = self.bank.load(self.member).to(self.device)
            self.bank.keep(self.member, model, self.bank.seconds(self.member))
            return {"loss": 0.0, "done": True}
        start = time.perf_counter()
        result = self.training.epoch()
        self.seconds += time.perf_counter() - start
        done = self.training.epochs_done >= self.bank.recipe.epochs
        if done:
            self.bank.keep(self.member, self.training.model, self.seconds)
        return {**result, "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all the next epoch depends on."""
        state = {"training": self.training.state_dict(), "seconds": self.seconds}
        save_state(state, Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Go on from a checkpoint of the same member."""
        state = load_state(Path(checkpoint))
        self.training.load_state_dict(state["training"])
        self.seconds = state["seconds"]
