"""Training of an original or a reference in Ray Tune: a step is an epoch."""

import time
from pathlib import Path
from typing import Any

from mixunlearn.errors import DivergedError
from mixunlearn.files import Files
from mixunlearn.references import Member, ReferenceStore
from trainables.checkpoint import latest, save_state
from trainables.hardware import cpus_of, select_device
from trainables.stored import Stored

DIVERGED = "diverged"  # key in a result: what of the member is not finite


class ReferenceTrainable(Stored):
    """Trains one member of the reference store, evaluates it, and stores both.

    An interrupted training continues from its last complete checkpoint.
    """

    def setup(self, config: dict[str, Any], references: ReferenceStore, checkpoints: Files) -> None:
        """Receive the reference store, once for all members that this actor will train."""
        self.references, self.checkpoints = references, checkpoints
        # Tune calls `reset_config` only when it reuses the actor.
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another member."""
        self.member = Member(**new_config["member"])
        self.device = select_device(cpus_of(self.trial_resources))
        self.seconds = 0.0
        # The weights may be stored already, so that only entries computed from them are missing.
        self.kept = self.references.trained(self.member)
        self.training = self.references.training(self.member, self.device)
        key = self.references.key(self.member)
        state = latest(self.checkpoints, key, key)
        if state is not None:
            self._restore(state)
        return True

    def step(self) -> dict[str, Any]:
        """Train for one epoch; after the last one, evaluate the model and store it.

        A member that diverges ends with what is not finite as `DIVERGED`: a retry would change
        nothing.
        """
        try:
            return self._step()
        except DivergedError as error:
            return {"loss": 0.0, DIVERGED: error.args[0], "done": True}

    def _step(self) -> dict[str, Any]:
        if self.kept:
            model = self.references.load(self.member).to(self.device)
            self.references.keep(self.member, model, self.references.seconds(self.member))
            return {"loss": 0.0, "done": True}
        result = {"loss": 0.0}
        # A run may have been killed between its last checkpoint and the store.
        if self.training.epochs_done < self.references.recipe.epochs:
            start = time.perf_counter()
            result = self.training.epoch()
            # Training alone: unlearning is compared with this time.
            self.seconds += time.perf_counter() - start
        done = self.training.epochs_done >= self.references.recipe.epochs
        if done:
            self.references.keep(self.member, self.training.model, self.seconds)
        return {**result, **self.news(), "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write everything that the next epoch depends on."""
        state = {
            "identity": self.references.key(self.member),
            "training": self.training.state_dict(),
            "seconds": self.seconds,
        }
        save_state(state, Path(checkpoint_dir))

    def _restore(self, state: dict[str, Any]) -> None:
        self.training.load_state_dict(state["training"])
        self.seconds = state["seconds"]
