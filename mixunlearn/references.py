"""The store of originals and references: trained once, stored by content, evaluated on both phases.

Shape suffixes: N samples, K classes.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import torch

from mixunlearn.computing import USUAL, Computing
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import Indices, Samples
from mixunlearn.data.labelled import LabelledImages
from mixunlearn.effort import ALONE, most_at_once
from mixunlearn.errors import DivergedError, InputError, MixUnlearnError
from mixunlearn.evaluation import VERSION, Evaluator, Phase, evaluation_set
from mixunlearn.metrics.gap import Evaluation, ReferenceSet
from mixunlearn.metrics.table import margins
from mixunlearn.models import Pretrained, StagedModel
from mixunlearn.models.finite import require_finite
from mixunlearn.models.own import OwnModel
from mixunlearn.own_recipe import OwnRecipe, OwnTraining
from mixunlearn.population import most_together
from mixunlearn.problem import Architecture, Arrays, Problem
from mixunlearn.recipes import Recipe
from mixunlearn.signature import seed_for
from mixunlearn.splits import Splits
from mixunlearn.store import Entry, Store
from mixunlearn.teaching import taught, teach
from mixunlearn.training import Training

Role = Literal["original", "reference"]
PHASES: tuple[Phase, ...] = ("val", "test")
FORGET_PROBS = "forget_probs_NC"  # in stored evaluations: the name of the first version
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of the reference store.

    Args:
        role: "original" (trained on all data) or "reference" (without the forget set).
        seed: number of the model among the models of its role.
    """

    role: Role
    seed: int


Progress: TypeAlias = Callable[[Member, int, float], None]


@dataclass(frozen=True, kw_only=True)
class ReferenceStore:
    """Originals and references of one task, in a store; `fill` trains the missing ones.

    Args:
        store: where they are stored.
        dataset: the data they are trained on; see `Splits.corrupted`.
        splits: which part of the data.
        architecture: of all models.
        recipe: how all models are trained; the user's own model is not.
        references: number of references, at least 1.
        originals: number of originals; 0 if models are only compared with the references.
        stages: the feature stages that a generator may read from the original.
        command: the command that fills the reference store, for error messages.
        pretrained: weights that all models start from; `None` means from scratch.
        own: the user's own model: the first original, which is not trained here; `None`: all
            originals are trained.
        margins: declared margins by metric or group; see `mixunlearn.metrics.table.margins`.
        first: seed of the first original and the first reference.
        first_reference: seed of the first reference, if it is another.
        computing: how models are trained, and unlearned in the problems of this store.
    """

    store: Store
    dataset: Dataset
    splits: Splits
    architecture: Architecture
    recipe: Recipe | OwnRecipe
    references: int
    originals: int = 1
    stages: Sequence[str] = ()
    command: str = "ReferenceStore.fill()"
    pretrained: Pretrained | None = None
    own: OwnModel | None = None
    margins: Mapping[str, float] = field(default_factory=dict)
    first: int = 0
    first_reference: int | None = None
    computing: Computing = USUAL

    @property
    def original(self) -> Member:
        """Return the model that must forget: the first original, with which a search works."""
        return self.all_originals[0]

    @property
    def all_originals(self) -> list[Member]:
        """Return the originals: equal except for their seeds."""
        return [Member(role="original", seed=self.first + n) for n in range(self.originals)]

    @property
    def all_references(self) -> list[Member]:
        """Return the references: equal except for their seeds."""
        first = self.first if self.first_reference is None else self.first_reference
        return [Member(role="reference", seed=first + n) for n in range(self.references)]

    @property
    def members(self) -> list[Member]:
        """Return the originals and the references."""
        return [*self.all_originals, *self.all_references]

    @property
    def val_metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics that a trial reports after each epoch."""
        return (*evaluation_set(self.dataset, self.splits, "val").resolution(), "div/js")

    def missing(self) -> list[Member]:
        """Return the members that have a missing or damaged entry in the store."""
        return [
            member
            for member in self.members
            if not all(self.store.sound(kind, payload) for kind, payload in self._entries(member))
        ]

    def is_own(self, member: Member) -> bool:
        """Return whether a member is the user's own model, which is never trained here."""
        return self.own is not None and (member.role, member.seed) == ("original", self.first)

    def trained(self, member: Member) -> bool:
        """Return whether a member needs no training: its weights are in the store, undamaged."""
        return self.is_own(member) or self.store.sound("models", self.payload(member))

    def key(self, member: Member) -> str:
        """Return the content key of a member's weights."""
        return self.store.path("models", self.payload(member)).name

    def payload(self, member: Member) -> dict[str, object]:
        """Return everything that determines a member's weights; the key is its signature."""
        known = {
            "data": self.dataset.digest,
            # Not the task: tasks that train on the same images share their models.
            "samples": hashlib.sha256(self._ids(member).tobytes()).hexdigest(),
            **asdict(member),
        }
        if self.own is not None and self.is_own(member):
            # Neither the recipe nor initial weights: they say nothing about this model.
            shape = replace(self.architecture, weights=None).content
            return {**known, "architecture": shape, "own": self.own.digest}
        return {**known, "architecture": self.architecture.content, "recipe": self.recipe.content}

    def most_together(self, device: torch.device) -> int:
        """Return how many members of one role are trained together at most; 1: each alone."""
        if isinstance(self.recipe, OwnRecipe) or not self.recipe.plain:
            return 1
        model, shape = self.architecture.build(0), self.architecture.image_shape
        return most_together(model, shape, self.recipe.batch, device)

    def training(self, member: Member, device: torch.device) -> Training:
        """Return the training of a member, before its first epoch."""
        return self.trainings([member], device)[0]

    def trainings(self, members: Sequence[Member], device: torch.device) -> list[Training]:
        """Return the trainings of members, before their first epoch; they share their images."""
        # Members of one role are trained on the same images.
        one_of = {member.role: member for member in members}
        samples = {role: self._samples(member, device) for role, member in one_of.items()}
        return [self._training(member, samples[member.role]) for member in members]

    def fill(self, device: torch.device = CPU, progress: Progress | None = None) -> int:
        """Train the missing models one after another; return how many were trained.

        If a model's weights are stored but other entries are missing, it is not trained again:
        only these entries are computed.

        Args:
            device: where to train.
            progress: called after each epoch with the member, the epochs done, and the mean cross
                entropy in nats.

        Raises:
            InputError: a model diverges.
            MixUnlearnError: the store cannot be written.
        """
        trained = 0
        for member in self.missing():
            if self.trained(member):
                self.keep(member, self.load(member).to(device), *self.timing(member))
            else:
                self._train(member, device, progress)
                trained += 1
        return trained

    def diverged(self, member: Member, what: object) -> InputError:
        """Return the error that names the member and the setting by which it became useless."""
        if isinstance(self.recipe, OwnRecipe):
            remedy = f"{member.role} {member.seed} diverged ({what}); correct the function"
            return InputError("references.recipe", self.recipe.function, remedy)
        remedy = f"{member.role} {member.seed} diverged ({what}); lower it"
        return InputError("references.lr", self.recipe.lr, remedy)

    def load(self, member: Member) -> StagedModel:
        """Return a trained member, on the CPU."""
        return self.architecture.load(self.weights(member))

    def weights(self, member: Member) -> Arrays:
        """Return the weights of a trained member, by name."""
        if self.own is not None and self.is_own(member):
            return self._own_weights(self.own, member)
        return self._read("models", self.payload(member)).tensors

    def keep(
        self, member: Member, model: StagedModel, seconds: float, at_once: int | None = ALONE
    ) -> None:
        """Store a trained member and its evaluations; for the original also its outputs.

        Args:
            member: the member.
            model: the trained model.
            seconds: that its training took.
            at_once: how many trainings may have shared the device; `None`: unknown.

        Raises:
            DivergedError: a weight or an output of the model is not finite; nothing is stored then.
        """
        require_finite(model)
        # The weights first: if this is interrupted, `fill` continues from them without training.
        weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
        self.store.write(
            "models",
            self.payload(member),
            tensors=weights,
            record={"seconds": seconds, "at_once": at_once},
        )
        for phase in PHASES:
            evaluation = evaluation_set(self.dataset, self.splits, phase).evaluate(model)
            self.store.write(
                "evaluations",
                self._evaluation_payload(member, phase),
                tensors={FORGET_PROBS: evaluation.forget_probs_NK},
                record={"metrics": dict(evaluation.metrics)},
            )
        if member.role == "original":
            payload = self._teacher_payload(member)
            self.store.write(
                "teachers", payload, tensors=teach(model, self.dataset, self.splits, self.stages)
            )

    def seconds(self, member: Member) -> float:
        """Return how long a member's training took, in seconds; 0 for the user's own model."""
        return self.timing(member)[0]

    def timing(self, member: Member) -> tuple[float, int | None]:
        """Return the seconds, and how many trainings may have shared the device; see `keep`."""
        if self.is_own(member):
            return 0.0, None
        record = self._read("models", self.payload(member)).record
        return float(record["seconds"]), record.get("at_once")

    def evaluation(self, member: Member, phase: Phase) -> Evaluation:
        """Return the evaluation of a member in a phase.

        Raises:
            InputError: the member is useless; earlier versions stored such models.
        """
        entry = self._read("evaluations", self._evaluation_payload(member, phase))
        probs_NK = entry.tensors[FORGET_PROBS]
        if not np.isfinite(probs_NK).all():
            raise self.diverged(member, "its outputs are not finite")
        return Evaluation(metrics=entry.record["metrics"], forget_probs_NK=probs_NK)

    def evaluator(self, phase: Phase) -> Evaluator:
        """Return the evaluator of a phase, which measures models relative to the references.

        Raises:
            MissingError: a reference is missing; there is no substitute for it.
            InputError: a reference is useless.
        """
        images = evaluation_set(self.dataset, self.splits, phase)
        timings = [self.timing(member) for member in self.all_references]
        return Evaluator(
            images=images,
            references=ReferenceSet(
                evaluations=[self.evaluation(member, phase) for member in self.all_references],
                seconds=[seconds for seconds, _ in timings],
                gap_metrics=images.gap_metrics,
                resolution=images.resolution(),
                margins=margins(images.gap_metrics, self.margins),
                at_once=most_at_once([number for _, number in timings]),
                images=self.images,
            ),
        )

    @property
    def images(self) -> int | None:
        """Return how many images pass through a reference in its training; `None`: unknown."""
        known = isinstance(self.recipe, Recipe)  # what a user's own function does is not
        return self.recipe.epochs * len(self.splits.retain_N) if known else None

    def problem(self, *, with_labels: bool, original: int = 0) -> Problem:
        """Return the unlearning problem of an original, evaluated on `val`.

        Args:
            with_labels: whether methods may see labels.
            original: number of the original.

        Raises:
            MissingError: the original or a reference is missing.
            InputError: one of them is useless.
            MixUnlearnError: the stored features are useless.
        """
        member = self.all_originals[original]
        entry = self._read("teachers", self._teacher_payload(member))
        self.evaluation(member, "val")  # raises if the original is useless
        if not all(np.isfinite(array).all() for array in entry.tensors.values()):
            # Earlier versions cut everything to float16.
            remedy = "remove this folder and run the same command again"
            raise MixUnlearnError(f"store {entry.path}: features beyond float16's range; {remedy}")
        forget, retain = taught(self.dataset, self.splits, self.stages, entry.tensors)
        return Problem(
            architecture=self.architecture,
            original=self.weights(member),
            forget=forget,
            retain=retain,
            with_labels=with_labels,
            evaluator=self.evaluator("val"),
            pretrained=self.pretrained,
            augmentation=self.recipe.augmentation,
            computing=self.computing,
        )

    def _own_weights(self, own: OwnModel, member: Member) -> Arrays:
        payload = self.payload(member)
        # Where results are only read, nothing was fitted: the store has the names of the model.
        # Without the file, the store is the only place, and its error says so.
        stored = self.store.sound("models", payload)
        return own.tensors if own.tensors and not stored else self._read("models", payload).tensors

    def _samples(self, member: Member, device: torch.device) -> Samples:
        images = LabelledImages(dataset=self.dataset, ids_N=self._ids(member))
        return Samples(
            images_NCHW=torch.from_numpy(images.images_NCHW).to(device),
            labels_N=torch.from_numpy(images.labels_N).to(device),
        )

    def _training(self, member: Member, samples: Samples) -> Training:
        # With the role, so that the original and reference 0 start from different weights.
        seed = seed_for(member.role, member.seed)
        device = samples.images_NCHW.device
        model = self.architecture.initial(seed, self.pretrained).to(device)
        if isinstance(self.recipe, OwnRecipe):
            return OwnTraining(model, samples, self.recipe, seed)
        return Training(model, samples, self.recipe, seed, capture=self.computing.capture)

    def _train(self, member: Member, device: torch.device, progress: Progress | None) -> None:
        start = time.perf_counter()
        training = self.training(member, device)
        try:
            while training.epochs_done < self.recipe.epochs:
                loss = training.epoch()["loss"]
                if progress is not None:
                    progress(member, training.epochs_done, loss)
            self.keep(member, training.model, time.perf_counter() - start)
        except DivergedError as error:
            raise self.diverged(member, error.args[0]) from error

    def _ids(self, member: Member) -> Indices:
        if member.role == "reference":
            return self.splits.retain_N
        # Sorted like `retain_N`, so that equal sets of images have the same key.
        return np.sort(np.concatenate((self.splits.forget_N, self.splits.retain_N)))

    def _entries(self, member: Member) -> list[tuple[str, Mapping[str, object]]]:
        entries: list[tuple[str, Mapping[str, object]]] = [("models", self.payload(member))]
        entries += [("evaluations", self._evaluation_payload(member, phase)) for phase in PHASES]
        if member.role == "original":
            entries.append(("teachers", self._teacher_payload(member)))
        return entries

    def _evaluation_payload(self, member: Member, phase: Phase) -> dict[str, object]:
        return {
            "model": self.payload(member),
            "splits": self.splits.key,
            "phase": phase,
            # A changed metric must not be read from an old entry.
            "version": VERSION,
        }

    def _teacher_payload(self, original: Member) -> dict[str, object]:
        return {
            "model": self.payload(original),
            "splits": self.splits.key,
            "stages": list(self.stages),
        }

    def _read(self, kind: str, payload: Mapping[str, object]) -> Entry:
        return self.store.read(kind, payload, command=self.command)
