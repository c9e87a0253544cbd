"""Trains the originals and references that stores do not have yet, on Ray."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import torch
from ray import tune

from distributed.config.experiment import Resources
from distributed.runtime.count import Count
from distributed.runtime.progress import Progress
from distributed.search.storage_news import StorageNews
from distributed.search.unsaved import Unsaved
from mixunlearn.errors import MixUnlearnError
from mixunlearn.files import Files
from mixunlearn.references import Member, ReferenceStore
from trainables.reference import DIVERGED, ReferenceTrainable, name_of, of_config

MAX_FAILURES = 2  # retries of one training after its worker failed
# Models trained together on a cluster, whose size may change: most of the gain, and more than one
# group, so that an autoscaler rents nodes.
ON_A_CLUSTER = 8


def fill(
    stores: Sequence[ReferenceStore],
    resources: Resources,
    slots: int | None,
    checkpoints: Files,
    progress: Progress,
) -> int:
    """Train the missing models in parallel; return how many were trained.

    Args:
        stores: the stores to fill, of the same images, architecture and recipe.
        resources: resources of one training.
        slots: number of trainings that run at once, each of one model or of several together;
            `None`: as many as the cluster has room for.
        checkpoints: folder of Tune's runs; it is deleted when all trainings have succeeded.
        progress: shows each epoch.

    Raises:
        InputError: a model diverged.
        MixUnlearnError: a training failed, or this machine cannot see its result.
    """
    missing = [store.missing() for store in stores]
    total = sum(map(len, missing))
    if not total:
        return 0
    wanted = _wanted(stores, missing, resources, slots)
    trainable = tune.with_parameters(
        ReferenceTrainable, stores=stores, checkpoints=checkpoints.patiently(), most=len(wanted)
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
        param_space={"wanted": tune.grid_search(wanted)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=slots,
            # A new worker for each would cost seconds of start and imports.
            reuse_actors=True,
            # The next run finds the checkpoints of a killed training under this name.
            trial_dirname_creator=lambda trial: name_of(*of_config(stores, trial.config)),
        ),
        run_config=tune.RunConfig(
            name=run_name(),
            storage_path=checkpoints.path,
            storage_filesystem=checkpoints.filesystem,
            callbacks=[_Announcer(stores, total, checkpoints, progress)],
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
            verbose=0,
        ),
    )
    _require_success(tuner.fit(), stores[0])
    # Nodes may have written to disks of their own, which the driver does not see.
    if any(store.missing() for store in stores):
        remedy = "set storage.files, or put --home on a folder that all nodes share"
        raise MixUnlearnError(f"the store on this machine lacks models that were trained: {remedy}")
    # Last of all: until every model is in the store, a retry needs them.
    checkpoints.delete()
    return total


def _wanted(
    stores: Sequence[ReferenceStore],
    missing: Sequence[Sequence[Member]],
    resources: Resources,
    slots: int | None,
) -> list[dict[str, Any]]:
    """Return what each run of Tune trains: members of one store, in most cases one member."""
    device = torch.device("cuda" if resources.gpu else "cpu")
    several = resources.gpu > 1  # for one model, which is large then
    return [
        {"store": number, "members": [asdict(member) for member in group]}
        for number, (store, members) in enumerate(zip(stores, missing, strict=True))
        for group in groups(members, 1 if several else store.most_together(device), slots)
    ]


def groups(members: Sequence[Member], most: int, slots: int | None) -> list[list[Member]]:
    """Return members in groups of one role, small enough that all slots have work.

    Args:
        members: those of one role next to one another.
        most: members of a group at most.
        slots: number of groups that are trained at once; `None`: unknown.
    """
    size = min(most, math.ceil(len(members) / slots) if slots else ON_A_CLUSTER)
    by_role = [[*group] for _, group in groupby(members, key=lambda member: member.role)]
    return [
        group[start : start + size] for group in by_role for start in range(0, len(group), size)
    ]


def _require_success(results: tune.ResultGrid, references: ReferenceStore) -> None:
    for result in results:
        if found := (result.metrics or {}).get(DIVERGED):
            raise references.diverged(Member(**found["member"]), found["what"])
    if results.errors:
        # The last line of a traceback is the exception.
        reason = str(results.errors[0]).strip().splitlines()[-1]
        raise MixUnlearnError(f"training a reference failed: {reason}; run the same command again")


def run_name() -> str:
    """Return the name of a new run of Tune; later runs sort last."""
    # With microseconds: the newest checkpoint is looked for in the run that sorts last.
    return datetime.now(tz=UTC).strftime("%Y%m%d-%H%M%S-%f")


def _images(references: ReferenceStore, member: Member) -> int:
    """Return how many images a model learns from in an epoch."""
    splits = references.splits
    return len(splits.retain_N) + len(splits.forget_N) * (member.role == "original")


class _Announcer(Unsaved, tune.Callback):
    """Shows the progress of the references while they are trained."""

    def __init__(
        self,
        stores: Sequence[ReferenceStore],
        total: int,
        checkpoints: Files,
        progress: Progress,
    ) -> None:
        self.stores, self.epochs = stores, stores[0].recipe.epochs
        self.count, self.progress = Count(total, unit="images"), progress
        self.epochs_done = 0
        self.news = StorageNews(checkpoints, progress.say)
        self._show(event=False)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.stores[0].dataset.restore()  # its new worker maps the file

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.news.result(trial, result)
        store, members = of_config(self.stores, trial.config)
        self.epochs_done += len(members)
        images = sum(_images(store, member) for member in members)
        self.count.reach(self.epochs_done / self.epochs, images)
        self._show(event=False)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.news.look()

    def on_checkpoint(self, **info: Any) -> None:
        self.news.checkpoint()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.count.finish(len(trial.config["wanted"]["members"]))
        self._show(event=True)

    def _show(self, *, event: bool) -> None:
        total = self.count.total
        done = f"models: {self.count.done} of {total} trained"
        epochs = f"epoch {self.epochs_done} of {total * self.epochs}"
        self.progress.show(f"{done}, {epochs}", event=event, count=self.count)
