"""What a plan requires of the data, the machine and the disk."""

import errno
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from distributed.config.checks import check_tracking_variable
from distributed.config.experiment import Experiment
from distributed.plan.plan import Plan
from distributed.runtime.addresses import nearest_folder
from distributed.runtime.text import require_whole
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.metrics.table import largest_margin
from mixunlearn.references import PHASES
from search_spaces import Space

log = logging.getLogger(__name__)

MIN_FREE_BYTES = 200 * 2**20
DISK_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT}


def require_starts(
    starts: Sequence[Mapping[str, Any]], space: Space, facts: Mapping[str, Any]
) -> None:
    """Check that configurations to start with are in the space, or the authors' own.

    Args:
        starts: complete or partial configurations.
        space: of the search.
        facts: of the plan.

    Raises:
        InputError: one is not.
    """
    own = space.published(facts)
    for index, start in enumerate(starts):
        if start in own:
            continue
        try:
            space.narrowed(start)
        except InputError as error:
            raise InputError(f"search.start.{index}", start, str(error)) from error
        # `narrowed` also takes lists and other values of fixed parameters: not so a start.
        for name, value in start.items():
            fixed = space[name].fixed and value != space[name].default
            if fixed or isinstance(value, list):
                remedy = "must be one of the values that search.space allows"
                raise InputError(f"search.start.{index}.{name}", value, remedy)


def require_tracking(experiment: Experiment) -> None:
    """Check the address of MLflow: the experiment's as it was saved, else MLFLOW_TRACKING_URI."""
    require_whole("tracking.uri", experiment.tracking.uri)
    require_whole("tracking.storage", experiment.tracking.storage)
    check_tracking_variable(experiment.tracking.uri)


def require_uncorrupted(experiment: Experiment, source: Dataset, dataset: Dataset) -> None:
    """Check that the user's own model was not trained on other images than the task's.

    Args:
        experiment: what the user wrote.
        source: the images as their source provides them.
        dataset: the images on which models are trained.

    Raises:
        InputError: the task changes images or labels before an original is trained.
    """
    if experiment.model.original and dataset is not source:
        remedy = (
            f"was not trained on what a {experiment.task.kind} task makes of the images; "
            "leave it out, or choose a task such as ids that leaves them as they are"
        )
        raise InputError("model.original", experiment.model.original, remedy)


def require_measurable(plan: Plan) -> None:
    """Check that there are images for each metric of `gap/avg`; otherwise every trial fails."""
    for phase in PHASES:
        images = evaluation_set(plan.dataset, plan.splits, phase)
        measurable = images.resolution()
        for name in images.gap_metrics:
            if name not in measurable:
                task = plan.experiment.task.model_dump(exclude_none=True)
                remedy = f"no images are left to measure {name}; use more images or another task"
                raise InputError("task", task, remedy)


def require_objective(plan: Plan) -> None:
    """Check that the objective is a gap that trials report."""
    metrics = ["avg", "worst", *plan.references.val_metrics]
    if plan.references.references == 1:
        metrics.remove("div/js")  # no gap: it compares a reference with the other references
    known = [f"gap/{name}" for name in metrics]
    objective = plan.experiment.search.objective
    if objective not in known:
        remedy = f"not a metric of this task; {known_names(objective, known)}"
        raise InputError("search.objective", objective, remedy)


def require_margins(plan: Plan) -> None:
    """Check that each declared margin belongs to the verdict, and is small enough to say something.

    Raises:
        InputError: one belongs to no metric of the verdict and no group of them, or is too large.
    """
    groups = {name.partition("/")[0] for name in plan.margins}
    for key, margin in plan.experiment.margins.items():
        if key not in {*plan.margins, *groups}:
            known = known_names(key, [*plan.margins, *sorted(groups)])
            raise InputError(f"margins.{key}", margin, f"no metric of the verdict; {known}")
        if margin >= (most := largest_margin(key)):
            remedy = f"must be below {most:g}: models that differ by so much are not equivalent"
            raise InputError(f"margins.{key}", margin, remedy)


def require_resources(experiment: Experiment, *, planning: bool = False) -> None:
    """Check that this machine has the resources for one trial.

    Args:
        experiment: what the user wrote.
        planning: whether nothing will run; then this is only a warning.

    Raises:
        InputError: it has not.
    """
    here = {"cpu": os.cpu_count() or 1, "gpu": torch.cuda.device_count()}
    for name, there in here.items():
        wanted = getattr(experiment.resources, name)
        if wanted > there:
            if planning:
                _warn(f"resources.{name} = {wanted:g}: this machine has {there}; planned only")
                continue
            remedy = f"this machine has {there}; ask for less, or name a cluster with --address"
            raise InputError(f"resources.{name}", wanted, remedy)


@cache
def _warn(text: str) -> None:
    """Log a warning once: the cells of a comparison ask for the same."""
    log.warning("%s", text)


def require_home(home: Path) -> None:
    """Check that the home is, or can be, a folder on a disk with free space.

    Raises:
        InputError: no permission to write there.
        MixUnlearnError: the disk is nearly full.
    """
    folder = require_writable("--home", home)
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        what = f"only {free / 2**20:.0f} MiB free, {MIN_FREE_BYTES / 2**20:.0f} needed"
        remedy = "free space or choose another folder"
        raise MixUnlearnError(f"--home = {str(home)!r}: {what}; {remedy}")


def require_writable(key: str, wanted: Path) -> Path:
    """Check that a folder can be written, or made; return it, or the nearest one there is.

    Args:
        key: the option that names it, for the error.
        wanted: the folder.

    Raises:
        InputError: no permission to write there.
    """
    folder = wanted
    try:
        folder = wanted if wanted.exists() else nearest_folder(wanted)
        _try_to_write(folder)
    except (OSError, MixUnlearnError) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = f"cannot write in {folder} ({reason}); choose another folder"
        raise InputError(key, str(wanted), remedy) from error
    return folder


def _try_to_write(folder: Path) -> None:
    """Create and remove a folder: permission bits say little for root or on a network disk."""
    try:
        TemporaryDirectory(prefix=".mixunlearn-", dir=folder).cleanup()
    except OSError as error:
        if error.errno not in DISK_FULL_ERRORS:  # the check of free space reports a full disk
            raise
