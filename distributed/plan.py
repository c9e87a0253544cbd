"""What a sweep is going to do: everything checked and looked up, nothing written yet."""

import errno
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
import yaml

from distributed.addresses import nearest_folder, resolve, sqlite_path
from distributed.experiment import Experiment, check_tracking, read_experiment
from distributed.forget_set import forget_set
from distributed.results import replacing
from mixunlearn.data import arrow, sources
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.names import known_names
from mixunlearn.data.splits import Splits, make_splits
from mixunlearn.data.spoilt import spoilt
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.files import Files
from mixunlearn.methods import METHODS
from mixunlearn.models import Pretrained
from mixunlearn.problem import Architecture, Problem
from mixunlearn.references import PHASES, ReferenceStore
from mixunlearn.store import Store
from mixunlearn.training import Recipe
from search_spaces import SPACES, Choice, Space
from search_spaces.space import Value

BEST = 5  # trials that are examined on `test` in the end
MIN_FREE_BYTES = 200 * 2**20
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked experiment with its data, splits, search space and reference store.

    Args:
        experiment: what the user wrote.
        home: where results are kept.
        source: the images as their source has them.
        dataset: those that models are trained on: the same, unless the task spoils some.
        splits: who is forgotten, retained, held out.
        space: the method's parameters, narrowed as the user wished.
        stages: the model's feature stages the search may choose from.
        pretrained: what originals and references start from; `None` is from scratch.
        command: that started this, to name in error messages.
        local: whether trials run on this machine.
    """

    experiment: Experiment
    home: Path
    source: Dataset
    dataset: Dataset
    splits: Splits
    space: Space
    stages: tuple[str, ...]
    pretrained: Pretrained | None
    command: str
    local: bool

    @property
    def study(self) -> str:
        """Return the study's name: equal settings, equal name."""
        ids = self.splits.task.ids or ()
        weights = self.references.architecture.weights
        signature = self.experiment.signature(self.dataset.digest, ids, weights)
        return f"{self.experiment.name}-{signature}"

    @property
    def folder(self) -> Path:
        """Return where the study keeps its files."""
        return self.home / "studies" / self.study

    @property
    def files(self) -> Files:
        """Return where store, checkpoints and results are kept."""
        # Resolved, because workers have working folders of their own.
        return Files.of(self.experiment.storage.files or self.home.resolve())

    @property
    def shared(self) -> Files | None:
        """Return the study's folder among those files, where it is not the one of the home."""
        return self.files / "studies" / self.study if self.experiment.storage.files else None

    @property
    def checkpoints(self) -> Files:
        """Return the folder of Tune's runs: the checkpoints of trials and references."""
        return self.files / "studies" / self.study / "checkpoints"

    @property
    def tracking_uri(self) -> str:
        """Return the address of MLflow."""
        tracking = self.experiment.tracking
        return resolve(tracking.uri, tracking.storage, self.home)[0]

    @property
    def record(self) -> str:
        """Return the address of the study's record."""
        return record_address(self.experiment.storage.study, self.folder)

    @property
    def database(self) -> str | None:
        """Return the address of the record if it is a server's."""
        return None if self.record.startswith(FILE_RECORDS) else self.record

    @property
    def epochs(self) -> int:
        """Return the epochs of a trial at most: fewer for a method that is done sooner."""
        ceiling = METHODS[self.experiment.method].ceiling
        return min(self.experiment.search.epochs, ceiling or sys.maxsize)

    @property
    def facts(self) -> dict[str, Value]:
        """Return what conditions of the space may name beside parameters."""
        return {"labels": self.experiment.labels}

    @property
    def default(self) -> dict[str, Value]:
        """Return the published or first-guess configuration within the space."""
        return self.space.defaults(self.facts)

    @cached_property
    def references(self) -> ReferenceStore:
        """Return the originals and references of the task."""
        return ReferenceStore(
            store=Store(
                self.home.resolve() / "store",
                remote=self.files / "store" if self.experiment.storage.files else None,
            ),
            dataset=self.dataset,
            splits=self.splits,
            architecture=architecture(self.experiment, self.dataset, self.pretrained),
            recipe=Recipe(**self.experiment.references.model_dump(exclude={"seeds"})),
            references=self.experiment.references.seeds,
            stages=self.stages,
            command=self.command,
            pretrained=self.pretrained,
        )

    def problem(self) -> Problem:
        """Return what trials unlearn.

        Raises:
            MissingError: the original or a reference is missing.
        """
        return self.references.problem(with_labels=self.experiment.labels == "aware")

    @property
    def forget_set(self) -> str:
        """Return what is to be forgotten, in words."""
        return forget_set(self.splits, self.dataset.classes)

    @property
    def workers(self) -> str:
        """Return how many trials run at once, in words."""
        if not self.local:
            return "as many at once as the cluster has room for"
        return f"{self.slots} at once"

    @property
    def slots(self) -> int:
        """Return how many trials run at once on this machine."""
        resources = self.experiment.resources
        slots = int((os.cpu_count() or 1) / resources.cpu)
        if resources.gpu:
            slots = min(slots, int(torch.cuda.device_count() / resources.gpu))
        return slots

    def keep(self) -> "Plan":
        """Write what later steps read: decoded images, splits, the resolved experiment.

        Returns:
            The plan on the memory-mapped images.

        Raises:
            MixUnlearnError: the disk is full.
        """
        plan = self.mapped()
        ids = {f"{part}_N": getattr(self.splits, f"{part}_N") for part in PARTS}
        self.references.store.write("splits", {"key": self.splits.key}, tensors=ids)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "experiment.yaml") as temporary:
            temporary.write_text(resolved(self.experiment))
        return plan

    def mapped(self) -> "Plan":
        """Return the plan on memory-mapped images, written to the home's cache if need be.

        Raises:
            MixUnlearnError: the disk is full.
        """
        data, cache = self.experiment.data, self.home / "cache"
        source = sources.keep(self.source, data.source, data.options, cache)
        if self.dataset is self.source:
            return replace(self, source=source, dataset=source)
        path = cache / f"{self.experiment.task.kind}-{self.dataset.digest[:16]}.arrow"
        return replace(self, source=source, dataset=arrow.keep(self.dataset, path))


PARTS = ("forget", "retain", "val", "test")
FILE_RECORDS = ("sqlite", "journal")
NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "gluster",
    "fuse.",
)
HIDDEN = ":***@"  # what `redact` leaves of a password


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
    if experiment.storage.files:
        Files.of(experiment.storage.files).require()
    if local:
        require_resources(experiment)
    data = experiment.data
    source = sources.open_dataset(data.source, data.options, home / "cache")
    limit = data.limit.model_dump(exclude_none=True)
    task = experiment.task.model_dump(exclude_none=True)
    splits = make_splits(source, task, seed=data.seed, limit=limit)
    dataset = spoilt(source, splits)
    pretrained = read_pretrained(experiment)
    model = architecture(experiment, dataset, pretrained).initial(0, pretrained)
    stages = model.stages_with(wished_stages(experiment))
    if experiment.method not in SPACES:
        remedy = (
            "has no space: its package must name one in the entry points mixunlearn.search_spaces"
        )
        raise InputError("method", experiment.method, remedy)
    space = SPACES[experiment.method](stages, model.default_stage)
    space = space.narrowed(experiment.search.space)
    require_starts(experiment.search.start, space)
    plan = Plan(
        experiment=experiment,
        home=home,
        source=source,
        dataset=dataset,
        splits=splits,
        space=space,
        stages=readable_stages(space, experiment.model.name),
        pretrained=pretrained,
        command=command,
        local=local,
    )
    require_measurable(plan)
    require_objective(plan)
    record_address(experiment.storage.study, plan.folder)  # raises, if the place does not suit it
    return plan


def require_starts(starts: Sequence[Mapping[str, Any]], space: Space) -> None:
    """Check that configurations to start with are in the space.

    Raises:
        InputError: one is not.
    """
    for index, start in enumerate(starts):
        try:
            space.narrowed(start)
        except InputError as error:
            raise InputError(f"search.start.{index}", start, str(error)) from error
        for name, value in start.items():
            held = space[name].held and value != space[name].default
            if held or isinstance(value, list):
                remedy = "must be one value of those that are searched; search.space says which"
                raise InputError(f"search.start.{index}.{name}", value, remedy)


def record_address(study: str | None, folder: Path) -> str:
    """Return the address of a study's record.

    Args:
        study: `storage.study`; a password that was hidden there is left to libpq, which looks into
            PGPASSWORD and ~/.pgpass.
        folder: of the study; its file system decides between SQLite and a journal.

    Raises:
        InputError: SQLite on a network file system, which would damage it sooner or later.
    """
    path = sqlite_path(study) if study else folder.resolve() / "study.db"
    if study and path is None:
        return study.replace(HIDDEN, "@")
    assert path is not None
    network = is_network(filesystem_of(path))
    if study and network:
        remedy = "SQLite is not safe on a network file system; leave it out, or name PostgreSQL"
        raise InputError("storage.study", study, remedy)
    if network and not path.exists():
        return f"journal:///{folder.resolve() / 'study.journal'}"
    return f"sqlite:///{path.resolve()}"


def filesystem_of(path: Path) -> str:
    """Return the type of the file system a path is on, or would be; empty if it is not known."""
    places = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    found = [places[parent] for parent in path.resolve().parents if parent in places]
    return found[0] if found else ""


def is_network(kind: str) -> bool:
    """Return whether a type of file system is one over a network."""
    return kind.lower().startswith(NETWORK)


def earlier(plan: Plan) -> list[tuple[str, list[str]]]:
    """Return other studies of the experiment's name in the home, with the keys that differ."""
    found = []
    if plan.folder.exists():
        return []
    for file in sorted((plan.home / "studies").glob(f"{plan.experiment.name}-*/experiment.yaml")):
        with suppress(OSError, yaml.YAMLError, AttributeError, TypeError):
            other = flat(yaml.safe_load(file.read_text()))
            if other.pop("name") == plan.experiment.name:
                found.append(
                    (file.parent.name, _differences(flat(plan.experiment.model_dump()), other))
                )
    return found


def _differences(mine: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the keys, with both values, that make two experiments different studies."""
    keys = [key for key in mine if mine[key] != other.get(key) and not key.startswith(APART)]
    return [f"{key}: {other.get(key)} → {mine[key]}" for key in keys if key in other]


APART = ("name", "tracking.", "resources.", "storage.", "search.trials")


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        result |= flat(item, f"{name}.") if isinstance(item, dict) else {name: item}
    return result


def find_experiment(study: str, settings: Sequence[str], home: Path) -> Experiment:
    """Return the experiment of a study that a sweep has begun.

    Raises:
        InputError: there is none of this name.
    """
    known = sorted(path.parent.name for path in (home / "studies").glob("*/experiment.yaml"))
    if study not in known:
        remedy = f"no such study in {home / 'studies'}; {known_names(study, known)}"
        raise InputError("STUDY", study, remedy)
    return read_experiment(home / "studies" / study / "experiment.yaml", settings)


def record_of(study: str, settings: Sequence[str], home: Path) -> str:
    """Return the address of the record of a study that a sweep has begun; see `record_address`."""
    experiment = find_experiment(study, settings, home)
    return record_address(experiment.storage.study, home / "studies" / study)


def find_study(study: str, settings: Sequence[str], home: Path) -> Plan:
    """Return the plan of a study that a sweep has begun.

    Raises:
        InputError: there is none of this name, or its data or settings have changed.
    """
    experiment = find_experiment(study, settings, home)
    if HIDDEN in (experiment.tracking.uri or ""):
        remedy = "passwords are not kept; give the whole address with --set tracking.uri=..."
        raise InputError("tracking.uri", experiment.tracking.uri, remedy)
    plan = make_plan(experiment, home, command=f"mixunlearn sync {study}", local=False)
    if plan.study != study:
        remedy = f"its data or settings make another study now: {plan.study}"
        raise InputError("STUDY", study, remedy)
    return plan


def read_pretrained(experiment: Experiment) -> Pretrained | None:
    """Return the weights an experiment starts from, `None` if there are none.

    Raises:
        InputError: they cannot be read.
    """
    model = experiment.model
    return Pretrained.read(model.weights, model.name) if model.weights else None


def architecture(
    experiment: Experiment, dataset: Dataset, pretrained: Pretrained | None
) -> Architecture:
    """Return the model of an experiment, sized for its images."""
    channels, height, width = dataset.images_NFHW.shape[1:]
    return Architecture(
        name=experiment.model.name,
        width=experiment.model.width,
        image_shape=(channels, height, width),
        classes=len(dataset.classes),
        weights=pretrained.digest if pretrained else None,
    )


def wished_stages(experiment: Experiment) -> list[str]:
    """Return the feature stages that the user names."""
    wish = experiment.search.space.get("stage", [])
    return [name for name in (wish if isinstance(wish, list) else [wish]) if isinstance(name, str)]


def readable_stages(space: Space, model: str) -> tuple[str, ...]:
    """Return the stages that trials may read features from: those worth caching.

    Raises:
        InputError: the model has none.
    """
    stage = space.get("stage")
    if stage is None or not space.reachable("stage"):
        return ()
    assert isinstance(stage, Choice)
    if not stage.options:
        remedy = "has no feature map for the generator; take another, or search.space.mixing=mixup"
        raise InputError("model.name", model, remedy)
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
    metrics = ["avg", *plan.references.val_metrics]
    if plan.references.references == 1:
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
