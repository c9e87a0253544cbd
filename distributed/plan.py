"""What a sweep is going to do: everything checked and looked up, nothing written yet."""

import errno
import os
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml

from distributed.addresses import nearest_folder
from distributed.experiment import Experiment, check_tracking
from distributed.results import replacing
from mixunlearn.bank import PHASES, Bank
from mixunlearn.data import sources
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.names import known_names
from mixunlearn.data.splits import Splits, make_splits
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.problem import Architecture
from mixunlearn.store import Store
from mixunlearn.training import Recipe
from search_spaces import SPACES, Choice, Space
from search_spaces.space import Value

MIN_FREE_BYTES = 200 * 2**20
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked experiment with its data, splits, search space and bank.

    Args:
        experiment: what the user wrote.
        home: where results are kept.
        dataset: the images.
        splits: who is forgotten, retained, held out.
        space: the method's parameters, narrowed as the user wished.
        stages: the model's feature stages the search may choose from.
        command: that started this, to name in error messages.
        local: whether trials run on this machine.
    """

    experiment: Experiment
    home: Path
    dataset: Dataset
    splits: Splits
    space: Space
    stages: tuple[str, ...]
    command: str
    local: bool

    @property
    def study(self) -> str:
        """Return the study's name: equal settings, equal name."""
        return f"{self.experiment.name}-{self.experiment.signature(self.dataset.digest)}"

    @property
    def folder(self) -> Path:
        """Return where the study keeps its files."""
        return self.home / "studies" / self.study

    @property
    def facts(self) -> dict[str, Value]:
        """Return what conditions of the space may name beside parameters."""
        return {"labels": self.experiment.labels}

    @property
    def default(self) -> dict[str, Value]:
        """Return the published or first-guess configuration within the space."""
        return self.space.defaults(self.facts)

    @cached_property
    def bank(self) -> Bank:
        """Return the originals and references of the task."""
        return Bank(
            # Resolved, because workers have working folders of their own.
            store=Store(self.home.resolve() / "store"),
            dataset=self.dataset,
            splits=self.splits,
            architecture=architecture(self.experiment, self.dataset),
            recipe=Recipe(**self.experiment.references.model_dump(exclude={"seeds"})),
            references=self.experiment.references.seeds,
            stages=self.stages,
            command=self.command,
        )

    @property
    def workers(self) -> str:
        """Return how many trials run at once, in words."""
        resources = self.experiment.resources
        if not self.local:
            return "as many at once as the cluster has room for"
        slots = int((os.cpu_count() or 1) / resources.cpu)
        if resources.gpu:
            slots = min(slots, int(torch.cuda.device_count() / resources.gpu))
        return f"{slots} at once"

    def keep(self) -> "Plan":
        """Write what later steps read: decoded images, splits, the resolved experiment.

        Returns:
            The plan on the memory-mapped images.

        Raises:
            MixUnlearnError: the disk is full.
        """
        data = self.experiment.data
        dataset = sources.keep(self.dataset, data.source, data.options, self.home / "cache")
        ids = {f"{part}_N": getattr(self.splits, f"{part}_N") for part in PARTS}
        self.bank.store.write("splits", {"key": self.splits.key}, tensors=ids)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "experiment.yaml") as temporary:
            temporary.write_text(resolved(self.experiment))
        return replace(self, dataset=dataset)


PARTS = ("forget", "retain", "val", "test")


def make_plan(experiment: Experiment, home: Path, *, command: str, local: bool = True) -> Plan:
    """Check an experiment against its data, the machine and the home.

    Args:
        experiment: what the user wrote.
        home: where results are kept; not touched.
        command: to name in error messages.
        local: whether trials run on this machine, so that its resources must suffice.

    Raises:
        InputError: something cannot be carried out.
        MixUnlearnError: too little disk space.
    """
    require_home(home)
    require_tracking(experiment)
    if local:
        require_resources(experiment)
    data = experiment.data
    dataset = sources.open_dataset(data.source, data.options, home / "cache")
    limit = data.limit.model_dump(exclude_none=True)
    task = experiment.task.model_dump(exclude_none=True)
    splits = make_splits(dataset, task, seed=data.seed, limit=limit)
    model = architecture(experiment, dataset).build(0)
    stages = tuple(model.stages)
    space = SPACES[experiment.method](stages, model.default_stage)
    space = space.narrowed(experiment.search.space)
    plan = Plan(
        experiment=experiment,
        home=home,
        dataset=dataset,
        splits=splits,
        space=space,
        stages=readable_stages(space),
        command=command,
        local=local,
    )
    require_measurable(plan)
    require_objective(plan)
    return plan


def architecture(experiment: Experiment, dataset: Dataset) -> Architecture:
    """Return the model of an experiment, sized for its images."""
    channels, height, width = dataset.images_NFHW.shape[1:]
    return Architecture(
        name=experiment.model.name,
        width=experiment.model.width,
        image_shape=(channels, height, width),
        classes=len(dataset.classes),
    )


def readable_stages(space: Space) -> tuple[str, ...]:
    """Return the stages that trials may read features from: those worth caching."""
    stage = space.get("stage")
    if stage is None or not space.reachable("stage"):
        return ()
    assert isinstance(stage, Choice)
    return tuple(str(option) for option in stage.options)


def resolved(experiment: Experiment) -> str:
    """Return an experiment as YAML, with every default filled in."""
    return yaml.safe_dump(experiment.model_dump(), sort_keys=False, allow_unicode=True)


def require_tracking(experiment: Experiment) -> None:
    """Check the tracking address of the environment, where the experiment has none."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and not experiment.tracking.uri:
        check_tracking("MLFLOW_TRACKING_URI", address)


def require_measurable(plan: Plan) -> None:
    """Check that there are images for each metric of `gap/avg`: without it, no trial succeeds."""
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
    metrics = ["avg", *plan.bank.val_metrics]
    if plan.bank.references == 1:
        metrics.remove("div/js")  # it has no gap: there is no other reference to compare with
    known = [f"gap/{name}" for name in metrics]
    objective = plan.experiment.search.objective
    if objective not in known:
        remedy = f"no metric of this task; {known_names(objective, known)}"
        raise InputError("search.objective", objective, remedy)


def require_resources(experiment: Experiment) -> None:
    """Check that this machine has what one trial asks for."""
    here = {"cpu": os.cpu_count() or 1, "gpu": torch.cuda.device_count()}
    for name, there in here.items():
        wanted = getattr(experiment.resources, name)
        if wanted > there:
            remedy = f"this machine has {there}; ask for less, or name a cluster with --address"
            raise InputError(f"resources.{name}", wanted, remedy)


def require_home(home: Path) -> None:
    """Check that the home is, or can be made, a folder on a disk with room.

    Raises:
        InputError: one cannot write there.
        MixUnlearnError: the disk is about to be full.
    """
    folder = home
    try:
        folder = home if home.exists() else nearest_folder(home)
        _try_to_write(folder)
    except (OSError, MixUnlearnError) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = f"cannot write in {folder} ({reason}); choose another folder"
        raise InputError("--home", str(home), remedy) from error
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        what = f"only {free / 2**20:.0f} MiB free, {MIN_FREE_BYTES / 2**20:.0f} needed"
        remedy = "free space or choose another folder"
        raise MixUnlearnError(f"--home = {str(home)!r}: {what}; {remedy}")


def _try_to_write(folder: Path) -> None:
    """Make and remove a folder: rights alone do not tell, to root or on a network disk."""
    try:
        TemporaryDirectory(prefix=".mixunlearn-", dir=folder).cleanup()
    except OSError as error:
        if error.errno not in FULL:  # of space, more is said elsewhere
            raise
