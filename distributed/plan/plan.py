"""What a sweep is going to do: everything checked and looked up, nothing written yet."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from distributed.config.experiment import Experiment
from distributed.plan.location import FILE_RECORDS, record_address
from distributed.plan.model import Brought, Stages, architecture
from distributed.runtime.addresses import resolve
from distributed.study.folder import (
    CHECKPOINTS,
    MODELS,
    STUDIES,
    StudyFolder,
    study_folder,
)
from mixunlearn.atomic import replacing
from mixunlearn.computing import Computing
from mixunlearn.data import arrow, sources
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.memory import DataMemory
from mixunlearn.evaluation import evaluation_set
from mixunlearn.files import Files
from mixunlearn.methods import METHODS
from mixunlearn.metrics.table import changed_margins, margins
from mixunlearn.models import Pretrained
from mixunlearn.models.own import OwnModel
from mixunlearn.own_recipe import OwnRecipe
from mixunlearn.problem import Problem
from mixunlearn.references import ReferenceStore
from mixunlearn.splits import Splits
from mixunlearn.store import Store
from search_spaces import Space
from search_spaces.space import Value

FEW_IMAGES = 10_000  # with more, one original is trained unless more are asked for
TESTED_TRIALS = 5  # number of trials that are evaluated on `test` at the end


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked experiment with its data, splits, search space and reference store.

    Args:
        experiment: what the user wrote.
        home: where results are kept.
        source: the images as their source provides them.
        dataset: the images on which models are trained; the same, unless the task corrupts some.
        splits: which images are forgotten, retained, held out.
        space: the method's hyperparameters, narrowed by `search.space`.
        model_stages: the model's feature stages.
        stages: those from which the search may choose.
        pretrained: initial weights of originals and references; `None`: random ones.
        command: the command to name in error messages.
        local: whether trials run on this machine.
        own: the user's own model, which is the first original; `None`: all are trained.
        own_recipe: the user's own training of the others; `None`: that of this project.
        first: seed of the first original and of the first reference.
    """

    experiment: Experiment
    home: Path
    source: Dataset
    dataset: Dataset
    splits: Splits
    space: Space
    model_stages: Stages
    stages: tuple[str, ...]
    pretrained: Pretrained | None
    command: str
    local: bool
    own: OwnModel | None = None
    own_recipe: OwnRecipe | None = None
    first: int = 0

    @property
    def study(self) -> str:
        """Return the study's name: equal settings, equal name."""
        brought = Brought(pretrained=self.pretrained, own=self.own, own_recipe=self.own_recipe)
        return study_name(self.experiment, self.dataset, self.splits, brought)

    @property
    def folder(self) -> Path:
        """Return the study's folder in the home."""
        return self.study_folder.path

    @property
    def study_folder(self) -> StudyFolder:
        """Return the study's folder with the paths of its files."""
        return study_folder(self.home, self.study)

    @property
    def files(self) -> Files:
        """Return the folder of the store, the checkpoints and the results."""
        # An absolute path, because each worker has its own working folder.
        return Files.of(self.experiment.storage.files or self.home.resolve())

    @property
    def shared(self) -> Files | None:
        """Return the study's folder in `storage.files`; `None` if that is not set."""
        # It has answered when the plan was made.
        return self._common.patiently() if self.experiment.storage.files else None

    @property
    def checkpoints(self) -> Files:
        """Return the folder of Tune's runs: the checkpoints of trials."""
        return self._common / CHECKPOINTS

    @property
    def reference_checkpoints(self) -> Files:
        """Return the folder of Tune's runs that train references."""
        # A separate folder, because the runs of trials are listed often.
        return self._common / MODELS

    @property
    def _common(self) -> Files:
        """Return the study's folder that workers can reach."""
        return self.files / STUDIES / self.study

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
        """Return the address of the record if it is on a database server, else `None`."""
        return None if self.record.startswith(FILE_RECORDS) else self.record

    @property
    def epochs(self) -> int:
        """Return the maximal number of epochs of a trial; some methods need fewer."""
        ceiling = METHODS[self.experiment.method].ceiling
        return min(self.experiment.search.epochs, ceiling or sys.maxsize)

    @cached_property
    def margins(self) -> dict[str, float]:
        """Return the margin of each metric of the verdict, on `test`."""
        names = evaluation_set(self.dataset, self.splits, "test").gap_metrics
        return margins(names, self.experiment.margins)

    @property
    def originals(self) -> int:
        """Return the number of originals: how an unlearned model varies depends on them as well."""
        few = len(self.splits.forget_N) + len(self.splits.retain_N) <= FEW_IMAGES
        chosen = self.experiment.references.originals
        return chosen or (self.experiment.references.seeds if few else 1)

    @property
    def fresh_runs(self) -> int:
        """Return how often the winner unlearns again, under fresh seeds: from each original."""
        return max(self.experiment.search.report_seeds, self.originals)

    def original_of(self, fresh_run: int) -> int:
        """Return the number of the original that a fresh run unlearns: each in turn."""
        return fresh_run % self.originals

    @property
    def trials(self) -> int:
        """Return the total number of trials; a method without hyperparameters needs one."""
        # Hyperparameters that are all fixed are something else: their trials have other seeds.
        return self.experiment.search.trials if self.space else 1

    @property
    def facts(self) -> dict[str, Value]:
        """Return the values that conditions of the space may use in addition to hyperparameters."""
        return {"labels": self.experiment.labels}

    @property
    def default(self) -> dict[str, Value]:
        """Return the default configuration within the space: the published one or a first guess."""
        return self.space.defaults(self.facts)

    @cached_property
    def references(self) -> ReferenceStore:
        """Return the store with the original and the references of the task."""
        return ReferenceStore(
            store=Store(
                # A cache of the remote store, if there is one.
                self.home.resolve() / "store",
                # Not `self.shared`: the study's name depends on these references.
                remote=self.files.patiently() / "store" if self.experiment.storage.files else None,
            ),
            dataset=self.dataset,
            splits=self.splits,
            architecture=architecture(self.experiment, self.dataset, self.pretrained),
            recipe=self.own_recipe or self.experiment.references.chosen,
            references=self.experiment.references.seeds,
            originals=self.originals,
            stages=self.stages,
            command=self.command,
            pretrained=self.pretrained,
            # With other seeds, all models are others than those of the search: see `evidence`.
            own=None if self.first else self.own,
            margins=self.experiment.margins,
            first=self.first,
            computing=Computing(
                precision=self.experiment.resources.steps,
                capture=self.experiment.resources.capture != "off",
                deterministic=self.experiment.resources.deterministic,
            ),
            memory=self.memory,
        )

    @property
    def memory(self) -> DataMemory:
        """Return what images and features of a trial may take."""
        resources = self.experiment.resources
        given = resources.data_memory
        return DataMemory(
            gib=None if given == "auto" else given, cpu=resources.cpu, gpu=resources.gpu
        )

    def problem(self, original: int = 0) -> Problem:
        """Return the problem that trials solve, or that of another original.

        Raises:
            MissingError: the original or a reference is missing.
        """
        known = self.experiment.labels == "aware"
        return self.references.problem(with_labels=known, original=original)

    @property
    def published(self) -> dict[str, Any]:
        """Return the experiment as others may read it, without lists of images to be forgotten."""
        return self.experiment.published(len(self.splits.forget_N))

    @property
    def forget_set(self) -> str:
        """Return what is to be forgotten, in words."""
        return self.splits.words(self.dataset.classes)

    @property
    def workers(self) -> str:
        """Return how many trials run at once, in words."""
        gpus = self.experiment.resources.gpu
        several = f", each on {gpus:g} GPUs, without captured steps" if gpus > 1 else ""
        if not self.local:
            return f"as many at once as the cluster has room for{several}"
        return f"{self.slots} at once{several}" if self.slots else "none on this machine"

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
            The plan with memory-mapped images.

        Raises:
            MixUnlearnError: the disk is full.
        """
        plan = self.mapped()
        ids = {f"{part}_N": getattr(self.splits, f"{part}_N") for part in PARTS}
        self.references.store.write("splits", {"key": self.splits.key}, tensors=ids)
        with replacing(self.study_folder.stages) as temporary:
            temporary.write_text(json.dumps(asdict(self.model_stages)))
        if self.own is not None:
            with replacing(self.study_folder.original) as temporary:
                about = {"source": self.own.source, "digest": self.own.digest}
                temporary.write_text(json.dumps(about))
        # Last: a study counts as begun once it has this file.
        with replacing(self.study_folder.experiment) as temporary:
            temporary.write_text(resolved(self.experiment))
        return plan

    def mapped(self) -> "Plan":
        """Return the plan with memory-mapped images; writes them to the home's cache if needed.

        Raises:
            MixUnlearnError: the disk is full.
        """
        data, cache = self.experiment.data, self.home / "cache"
        source = sources.keep(self.source, data.source, data.options, cache)
        if self.dataset is self.source:
            return replace(self, source=source, dataset=source)
        # Named by the content: tasks that corrupt the same images alike share one file.
        path = cache / f"{self.experiment.task.kind}-{self.dataset.digest[:16]}.arrow"
        return replace(self, source=source, dataset=arrow.keep(self.dataset, path))


PARTS = ("forget", "retain", "val", "test")


def study_name(experiment: Experiment, dataset: Dataset, splits: Splits, brought: Brought) -> str:
    """Return the name of an experiment's study; see `Plan` for the arguments."""
    # As asked for, not the splits: a list of ids and a file of them make one study.
    declared = changed_margins(splits.task.gap_metrics("acc/test"), experiment.margins)
    weights, own, recipe = (
        each.digest if each else None
        for each in (brought.pretrained, brought.own, brought.own_recipe)
    )
    signature = experiment.signature(
        dataset.digest, splits.task.asked, weights, declared, own, recipe
    )
    return f"{experiment.name}-{signature}"


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one flat mapping with dotted keys."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        result |= flat(item, f"{name}.") if isinstance(item, dict) else {name: item}
    return result


def resolved(experiment: Experiment) -> str:
    """Return an experiment as YAML, with every default filled in."""
    return as_yaml(experiment.model_dump())


def as_yaml(content: Mapping[str, Any]) -> str:
    """Return the content of an experiment as YAML, its keys in their order."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
