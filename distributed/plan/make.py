"""Makes a plan from an experiment, or from an existing study."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distributed.config.experiment import SAME_NUMBERS, Data, Experiment
from distributed.config.read import read_experiment
from distributed.plan.location import record_address
from distributed.plan.model import (
    Brought,
    Stages,
    architecture,
    make_space,
    readable_stages,
    taught_stages,
)
from distributed.plan.plan import Plan, flat, study_name
from distributed.plan.proxies import require_proxies
from distributed.plan.rehearsal import Sketch, rehearse
from distributed.plan.requirements import (
    require_home,
    require_margins,
    require_measurable,
    require_objective,
    require_resources,
    require_starts,
    require_tracking,
    require_uncorrupted,
)
from distributed.plan.splits import splits_of
from distributed.runtime.text import require_whole
from distributed.study.folder import (
    StudyFolder,
    begun_studies,
    full_name,
    require_study,
    study_folder,
)
from distributed.tracking.weights import is_address
from mixunlearn.data import sources
from mixunlearn.data.arrow import Dataset
from mixunlearn.errors import InputError
from mixunlearn.files import Files
from mixunlearn.splits import Splits
from mixunlearn.tasks import Task

log = logging.getLogger(__name__)


def make_plan(
    experiment: Experiment,
    home: Path,
    *,
    command: str,
    local: bool = True,
    tracks: bool = True,
    reading: bool = False,
    planning: bool = False,
    study: str | None = None,
    source: Dataset | None = None,
    tried: bool = False,
) -> Plan:
    """Check an experiment against its data, the machine and the home.

    Args:
        experiment: what the user wrote.
        home: where results are kept; nothing is written there.
        command: the command to name in error messages.
        local: whether trials run on this machine, so that its resources must suffice.
        tracks: whether anything is sent to MLflow, so that its address must be usable.
        reading: whether results are only read: the home may be read-only.
        planning: whether nothing will run: the machine may lack the resources.
        study: name of the study if it is known; what it has kept then replaces what it only reads.
        source: the data if they are open already; `None`: they are opened.
        tried: whether model and method are known to work, so that they need not be tried.

    Raises:
        InputError: the experiment cannot run as written.
        MixUnlearnError: too little disk space.
    """
    # Quick checks first: reading the data and building the model may take minutes.
    if tracks or (not reading and is_address(experiment.model.original or "")):
        require_tracking(experiment)
    if not reading:
        _require_places(experiment, home)
    if local:
        require_resources(experiment, planning=planning)
    source = source or _opened(experiment.data, home)
    splits = splits_of(experiment, source)
    experiment = _numbered(experiment, splits.task)
    dataset = splits.corrupted(source)
    require_uncorrupted(experiment, source, dataset)
    begun = study_folder(home, study) if reading and study else None
    model = _model(experiment, dataset, splits, home, begun, reading=reading, tried=tried)
    search = experiment.search
    space = make_space(experiment.method, model.stages, search.space, search.epochs)
    plan = Plan(
        experiment=experiment,
        home=home,
        source=source,
        dataset=dataset,
        splits=splits,
        space=space,
        model_stages=model.stages,
        stages=taught_stages(
            readable_stages(space, experiment.model.name), experiment.references.augmentation
        ),
        **vars(model.brought),
        command=command,
        local=local,
    )
    _require_sound(plan)
    return plan


@dataclass(frozen=True, kw_only=True)
class _Model:
    stages: Stages
    brought: Brought


def _model(
    experiment: Experiment,
    dataset: Dataset,
    splits: Splits,
    home: Path,
    kept: StudyFolder | None,
    *,
    reading: bool,
    tried: bool,
) -> _Model:
    """Return the weights and the stages of the model; it is tried with the method first.

    Raises:
        InputError: the model cannot be trained, the method does not work with it, or weights do
            not fit it.
    """
    brought = Brought.read(experiment, home, kept)
    shape = architecture(experiment, dataset, brought.pretrained)
    begun = study_folder(home, study_name(experiment, dataset, splits, brought))
    # What is only read needs no model: its module may not be installed here.
    if reading and (known := Stages.read(begun.stages)):
        return _Model(stages=known, brought=brought)
    if not tried and not begun.path.exists():  # otherwise, it was tried then
        # Before this process builds the model.
        for warning in rehearse(Sketch.of(experiment, dataset, splits)):
            log.warning("%s", warning)
    stages = Stages.of(shape.initial(0, brought.pretrained), experiment.search.space)
    return _Model(stages=stages, brought=brought.fitted(shape))


def _opened(data: Data, home: Path) -> Dataset:
    return sources.open_dataset(data.source, data.options, home / "cache")


def _require_places(experiment: Experiment, home: Path) -> None:
    """Check that results can be written."""
    require_home(home)
    if experiment.storage.files:
        require_whole("storage.files", experiment.storage.files)
        Files.of(experiment.storage.files).require()


def _require_sound(plan: Plan) -> None:
    """Check what only a whole plan shows."""
    require_starts(plan.experiment.search.start, plan.space, plan.facts)
    require_measurable(plan)
    require_objective(plan)
    require_margins(plan)
    require_proxies(plan)
    _require_kept(plan.study_folder)
    record_address(plan.experiment.storage.study, plan.folder)  # raises if SQLite is not safe there


def _require_kept(folder: StudyFolder) -> None:
    """Check that a study was not purged.

    Raises:
        InputError: it was: without its images and its list of them, nothing can go on.
    """
    if folder.purged.is_file():
        what = f"was purged: only its results are left, in {folder.path}"
        remedy = f"move that folder away to search anew; `mixunlearn purge {folder.path.name}` ends"
        raise InputError("STUDY", folder.path.name, f"{what}; {remedy} a purge that was cut off")


def _numbered(experiment: Experiment, task: Task) -> Experiment:
    """Return the experiment with numbers for names of classes and rows: both make one study."""
    numbers = {}
    for name, key in task.schema().items():
        written = getattr(experiment.task, name)
        # Text in place of a list of rows is a file, and remains one.
        items = written if isinstance(written, list) or key.lists_rows else [written]
        named = isinstance(items, list) and any(isinstance(item, str) for item in items)
        if named and (key.names_classes or key.lists_rows):
            # As plain data: an experiment is written to a YAML file.
            found = getattr(task, name)
            numbers[name] = found if isinstance(found, int) else list(found)
    changed = experiment.task.model_copy(update=numbers)
    return experiment.model_copy(update={"task": changed}) if numbers else experiment


def earlier(plan: Plan) -> list[tuple[str, list[str]]]:
    """Return the other studies of this name in the home, with the keys that differ.

    Empty if the study of the plan itself exists.
    """
    found = []
    if plan.folder.exists():
        return []
    for folder in begun_studies(plan.home, f"{plan.experiment.name}-*"):
        # This is only a hint for the user: a study that cannot be read is left out.
        with suppress(OSError, yaml.YAMLError, AttributeError, TypeError):
            other = flat(yaml.safe_load(folder.experiment.read_text()))
            if other.pop("name") == plan.experiment.name:
                found.append((folder.path.name, _differences(plan.experiment, other)))
    return found


def _differences(experiment: Experiment, other: dict[str, Any]) -> list[str]:
    """Return the keys, with both values, that make two experiments different studies."""
    mine, lists = flat(experiment.model_dump()), [f"task.{name}" for name in experiment.row_lists]
    keys = [key for key in mine if mine[key] != other.get(key) and not key.startswith(APART)]
    return [
        # Which images are to be forgotten is never shown.
        f"{key}: others" if key in lists else f"{key}: {other.get(key)} → {mine[key]}"
        for key in keys
        if key in other
    ]


# No part of a study's signature, so a difference in them explains nothing.
APART = ("name", "tracking.", "storage.", "search.trials", "references.proxies", *SAME_NUMBERS)


def find_experiment(
    study: str, settings: Sequence[str], home: Path, *, reading: bool = False
) -> Experiment:
    """Return the experiment of an existing study.

    Args:
        study: name of the study, or its beginning if no other study begins so.
        settings: `key=value` settings on top of its experiment.
        home: where results are kept.
        reading: whether the study is only read: its model's module may be missing.

    Raises:
        InputError: there is no study of this name.
        MixUnlearnError: something else has the name of one of its files.
    """
    folder = study_folder(home, require_study(home, study))
    folder.require()
    return read_experiment(folder.experiment, settings, reading=reading)


def record_of(study: str, settings: Sequence[str], home: Path) -> str:
    """Return the address of the record of an existing study; see `record_address`."""
    study = full_name(home, study)
    experiment = find_experiment(study, settings, home, reading=True)
    return record_address(experiment.storage.study, study_folder(home, study).path)


def find_study(
    study: str,
    settings: Sequence[str],
    home: Path,
    *,
    tracks: bool = False,
    reading: bool = False,
) -> Plan:
    """Return the plan of an existing study.

    Args:
        study: name of the study, or its beginning if no other study begins so.
        settings: `key=value` settings on top of its experiment.
        home: where results are kept.
        tracks: whether anything is sent to MLflow, so that its address must be usable.
        reading: whether the study is only read: the home may be read-only.

    Raises:
        InputError: there is no study of this name, or its data or settings have changed.
    """
    study = full_name(home, study)
    experiment = find_experiment(study, settings, home, reading=reading)
    # First: its list of images is gone, so that its data can no longer be split.
    _require_kept(study_folder(home, study))
    # Not local: a study can be read on a machine that could not run its trials.
    command = f"mixunlearn sync {study}"
    plan = make_plan(
        experiment,
        home,
        command=command,
        local=False,
        tracks=tracks,
        reading=reading,
        study=study,
    )
    if plan.study != study:
        remedy = f"its data or settings have changed and now make another study: {plan.study}"
        raise InputError("STUDY", study, remedy)
    return plan
