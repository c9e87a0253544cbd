"""Training of originals and references in Ray Tune: a step is an epoch."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mixunlearn.errors import DivergedError
from mixunlearn.files import Files
from mixunlearn.population import train_epoch
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.signature import signature
from mixunlearn.trial import SHARED
from trainables.checkpoint import latest, save_state
from trainables.crew import crew_of_training
from trainables.hardware import at_once, cpus_of, gpus_of, select_device
from trainables.stored import Stored

DIVERGED = "diverged"  # key in a result: the first member that is not finite, and `what` of it


def name_of(references: ReferenceStore, members: Sequence[Member]) -> str:
    """Return the name under which checkpoints of a training of these members are found."""
    return signature([references.key(member) for member in members])


def of_config(
    stores: Sequence[ReferenceStore], config: Mapping[str, Any]
) -> tuple[ReferenceStore, list[Member]]:
    """Return the store and those of its members that a run of Tune trains.

    Args:
        stores: all that are filled together.
        config: the run's; its "wanted" has the number of a store and the members.
    """
    wanted = config["wanted"]
    return stores[wanted["store"]], [Member(**each) for each in wanted["members"]]


class ReferenceTrainable(Stored):
    """Trains members of one role (in most cases one), evaluates them, and stores them.

    Where it is faster, several are trained together, to the same models up to rounding. In each
    epoch one of them, in turn, is trained alone. The sum of these times is stored as the time of
    each: how long one model alone takes. Unlearning is compared with that; the time together,
    divided by the number of models, would be shorter.

    An interrupted training continues from its last complete checkpoint, if it is of the same
    members. If not, because some were stored in the meantime, it starts again: models that are
    trained together take minutes.
    """

    def setup(
        self,
        config: dict[str, Any],
        stores: Sequence[ReferenceStore],
        checkpoints: Files,
        most: int | None = None,
    ) -> None:
        """Receive the reference stores, once for all members that this actor will train.

        Args:
            config: what is trained first; see `of_config`.
            stores: all that are filled together.
            checkpoints: folder of Tune's runs.
            most: number of trainings that are to run; `None`: unknown.
        """
        self.stores, self.checkpoints = stores, checkpoints
        given = self.trial_resources
        cpus, gpus = cpus_of(given), gpus_of(given)
        self.device = select_device(cpus, stores[0].computing, gpus)
        self.crew = crew_of_training(stores, gpus, self.device)
        self.own_at_once = at_once(cpus, gpus, most)
        # Tune calls `reset_config` only when it reuses the actor.
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start other members."""
        self.references, self.members = of_config(self.stores, new_config)
        self.at_once = self.own_at_once
        # A driver counts on a GPU; a worker may find that PyTorch cannot use it.
        self.together = self.crew.size == 1 and self.references.most_together(self.device) > 1
        self.seconds = 0.0
        self.diverged: dict[Member, str] = {}  # what of each is not finite
        # The weights may be stored already, so that only entries computed from them are missing.
        missing = [each for each in self.members if not self.references.trained(each)]
        if len(missing) == 1:
            self.crew.start(new_config["wanted"]["store"], *missing)
        else:  # a training with several GPUs is of one member
            self.crew.end()
        trainings = self.references.trainings(missing, self.device)
        self.trainings = dict(zip(missing, trainings, strict=True))
        self.name = name_of(self.references, self.members)
        state = latest(self.checkpoints, self.name, self.name)
        if state is not None:
            self._restore(state)
        return True

    def step(self) -> dict[str, Any]:
        """Train for one epoch; after the last one, evaluate the models and store them.

        Members that diverge are left out. The result names the first one as `DIVERGED`: a retry
        would change nothing.
        """
        # A run may have been killed between its last checkpoint and the store.
        if unfinished := self._unfinished():
            self._epoch(unfinished)
        done = not self._unfinished()
        if done:
            self._keep()
        return {**self._first_diverged(), **self.news(), "done": done}

    def _unfinished(self) -> list[Member]:
        epochs = self.references.recipe.epochs
        return [
            member
            for member, training in self.trainings.items()
            if training.epochs_done < epochs and member not in self.diverged
        ]

    def _epoch(self, members: Sequence[Member]) -> None:
        turn = self.trainings[members[0]].epochs_done % len(members)
        alone, *others = ordered = [*members[turn:], *members[:turn]]
        start = time.perf_counter()
        with self.crew.epoch():
            losses = self._train([alone])
        # Training alone: unlearning is compared with this time.
        self.seconds += time.perf_counter() - start
        for group in [others] if self.together else [[each] for each in others]:
            losses += self._train(group)
        for member, loss in zip(ordered, losses, strict=True):
            if not math.isfinite(loss):
                self.diverged[member] = f"loss = {loss}"

    def _train(self, members: Sequence[Member]) -> list[float]:
        return train_epoch([self.trainings[member] for member in members])

    def _keep(self) -> None:
        """Store all members that have not diverged."""
        for member in self.members:
            try:
                self._keep_one(member)
            except DivergedError as error:
                self.diverged[member] = error.args[0]

    def _keep_one(self, member: Member) -> None:
        if member in self.diverged:
            return
        if member in self.trainings:
            model = self.trainings[member].model
            self.references.keep(member, model, self.seconds, self.at_once)
        else:
            model = self.references.load(member).to(self.device)
            self.references.keep(member, model, *self.references.timing(member))

    def _first_diverged(self) -> dict[str, Any]:
        for member in self.members:
            if member in self.diverged:
                return {DIVERGED: {"member": asdict(member), "what": self.diverged[member]}}
        return {}

    def cleanup(self) -> None:
        """End the processes of this worker's trainings."""
        self.crew.end()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write everything that the next epoch depends on."""
        key = self.references.key
        state = {
            "identity": self.name,
            "trainings": {key(each): done.state_dict() for each, done in self.trainings.items()},
            "diverged": {key(each): what for each, what in self.diverged.items()},
            "seconds": self.seconds,
            "at_once": self.at_once,
        }
        save_state(state, Path(checkpoint_dir))

    def _restore(self, state: dict[str, Any]) -> None:
        keys = {member: self.references.key(member) for member in self.trainings}
        # One whose stored weights were damaged since must start again, and so must all.
        if not {*keys.values()} <= {*state["trainings"]}:
            return
        for member, key in keys.items():
            self.crew.load(state["trainings"][key])
            self.trainings[member].load_state_dict(state["trainings"][key])
            if key in state["diverged"]:
                self.diverged[member] = state["diverged"][key]
        self.seconds = state["seconds"]
        # Its seconds are in the sum now. An earlier version did not note who shared the device.
        self.at_once = max(self.at_once, state.get("at_once", SHARED))
