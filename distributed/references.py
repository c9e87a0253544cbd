"""Training what the bank of originals and references does not hold yet, on Ray."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune

from distributed.experiment import Resources
from distributed.progress import Count, Progress
from distributed.unsaved import Unsaved
from mixunlearn.bank import Bank
from mixunlearn.errors import MixUnlearnError
from trainables.reference import ReferenceTrainable

MAX_FAILURES = 2  # of a worker, before its training is given up


def fill(bank: Bank, resources: Resources, slots: int, folder: Path, progress: Progress) -> int:
    """Train, in parallel, what is missing; return how many models that were.

    Args:
        bank: to be filled.
        resources: of one training.
        slots: how many at once.
        folder: for Ray's files; removed when all went well.
        progress: told of each epoch.

    Raises:
        MixUnlearnError: a training failed.
    """
    missing = bank.missing()
    if not missing:
        return 0
    trainable = tune.with_resources(
        tune.with_parameters(ReferenceTrainable, bank=bank),
        {"cpu": resources.cpu, "gpu": resources.gpu},
    )
    tuner = tune.Tuner(
        trainable,
        param_space={"member": tune.grid_search([asdict(member) for member in missing])},
        tune_config=tune.TuneConfig(max_concurrent_trials=slots, reuse_actors=True),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.resolve()),
            callbacks=[_Announcer(len(missing), bank.recipe.epochs, progress)],
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
            verbose=0,
        ),
    )
    errors = tuner.fit().errors
    if errors:
        reason = str(errors[0]).strip().splitlines()[-1]
        raise MixUnlearnError(f"training a reference failed: {reason}; Ray's files are in {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    return len(missing)


class _Announcer(Unsaved, tune.Callback):
    """Tells of the references while they are trained."""

    def __init__(self, total: int, epochs: int, progress: Progress) -> None:
        self.count, self.epochs, self.progress = Count(total), epochs, progress
        self.epochs_done = 0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.epochs_done += 1
        self._show(event=False)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.count.done += 1
        self._show(event=True)

    def _show(self, *, event: bool) -> None:
        total = self.count.total
        done = f"models: {self.count.done} of {total} trained"
        epochs = f"epoch {self.epochs_done} of {total * self.epochs}"
        self.progress.show(f"{done}, {epochs}{self.count.left()}", event=event)
