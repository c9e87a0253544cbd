"""An unlearning problem: everything that a trial needs; pixels stay in the data set's file.

What a trial needs often is on its device if it fits there; see `mixunlearn.data.memory`.

Shape suffixes: N samples, C channels, H W pixels, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mixunlearn.computing import USUAL, Computing
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import Indices, Samples
from mixunlearn.data.features import ByStage, Features
from mixunlearn.data.labelled import LabelledImages, shared
from mixunlearn.data.memory import DataMemory
from mixunlearn.evaluation import Evaluator
from mixunlearn.methods import Context
from mixunlearn.models import Pretrained, StagedModel, build_model
from mixunlearn.models.ensemble import Ensemble, split_members
from mixunlearn.precision import Precision
from mixunlearn.recomputed import Recomputed
from mixunlearn.splits import Splits

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The kind of model that is trained and unlearned.

    Args:
        name: name of the model; see `find_factory`.
        width: channels of the first stage; `None` is the model's default.
        image_shape: (channels, height, width).
        classes: number of outputs.
        weights: digest of the weights that originals and references start from; `None` means from
            scratch.
        size: pixels of the shorter side to which the model scales images first; `None`: not at all.
    """

    name: str
    width: int | None
    image_shape: tuple[int, int, int]
    classes: int
    weights: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, dataset: Dataset, name: str, width: int | None = None) -> "Architecture":
        """Return the architecture for the images and classes of a data set."""
        channels, height, width_of_image = dataset.images_NCHW.shape[1:]
        shape = (channels, height, width_of_image)
        return cls(name=name, width=width, image_shape=shape, classes=len(dataset.classes))

    @property
    def content(self) -> dict[str, object]:
        """Return the fields that keys are computed from: those that differ from their defaults.

        So a new field with a default does not change existing keys.
        """
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}

    def build(self, seed: int) -> StagedModel:
        """Return a freshly initialised model."""
        return build_model(
            self.name,
            image_shape=self.image_shape,
            classes=self.classes,
            seed=seed,
            width=self.width,
            size=self.size,
        )

    def initial(self, seed: int, pretrained: Pretrained | None) -> StagedModel:
        """Return a model before its training: fresh, or with the pretrained weights if given.

        Raises:
            InputError: the weights do not fit this model.
        """
        model = self.build(seed)
        if pretrained is not None:
            pretrained.put_into(model)
        return model

    def load(self, weights: Arrays) -> StagedModel:
        """Return a model with the given weights; they may belong to an ensemble of such models."""
        if members := split_members(weights):
            return Ensemble([self.load(member) for member in members])
        # Any seed will do, because all weights are replaced.
        model = self.build(0)
        model.load_state_dict({name: shared(array) for name, array in weights.items()})
        return model


@dataclass(frozen=True, kw_only=True)
class TaughtImages:
    """The forget or the retain set, with the original model's outputs.

    Args:
        samples: N images with labels.
        known_N: bool, whether methods may see an image's label; if not, they get the original's
            prediction instead.
        probs_NK: the original's softmax outputs, float32.
        features: stage -> the original's features, (N, C, h, w), float16; see `compact`. Without
            those that would take too much memory.
    """

    samples: LabelledImages
    known_N: npt.NDArray[np.bool_]
    probs_NK: npt.NDArray[Any]
    features: Arrays

    @property
    def labels_N(self) -> Indices:
        """Return the labels that methods see, int64."""
        if self.known_N.all():
            return self.samples.labels_N
        return np.where(self.known_N, self.samples.labels_N, self.probs_NK.argmax(axis=1))

    def on(self, device: torch.device, *, with_labels: bool, resident: bool = True) -> Samples:
        """Return the samples on a device, without features.

        On the CPU, tensors share the arrays' memory.

        Args:
            device: where they are needed.
            with_labels: whether methods may see labels.
            resident: whether the images are there, or read batch by batch.
        """
        # None makes a method fail that asks for labels it must not see.
        labels_N = shared(self.labels_N).to(device) if with_labels else None
        return Samples(
            images_NCHW=self.samples.on(device, resident=resident),
            labels_N=labels_N,
            probs_NK=shared(self.probs_NK).to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The model and the data to unlearn, and how the result is measured.

    Args:
        architecture: of the models.
        original: the original model's weights.
        forget: D_f.
        retain: D_r.
        with_labels: whether methods may see labels (label-aware).
        pretrained: weights that originals and references start from; `None` means from scratch.
        evaluator: measures a trial after each epoch, on `val`, never on `test`.
        augmentation: how the original's training changed its images at random.
        stages: whose features methods may read.
        memory: what images and features of a trial may take.
        computing: how steps are computed.
    """

    architecture: Architecture
    original: Arrays
    forget: TaughtImages
    retain: TaughtImages
    with_labels: bool
    evaluator: Evaluator
    pretrained: Pretrained | None = None
    augmentation: str = "none"
    stages: Sequence[str] = ()
    memory: DataMemory = field(default_factory=DataMemory)
    computing: Computing = USUAL

    def about(self, splits: Splits, evaluator: Evaluator) -> "Problem":
        """Return the problem of another forget set, among the same training images.

        The original is the same, so nothing is computed again: its outputs are only divided anew.

        Args:
            splits: with the other forget set.
            evaluator: of the phase `val`, with references of that forget set.
        """
        parts = (self.forget, self.retain)
        return replace(
            self,
            forget=_taught(parts, splits.forget_N, splits.forget_N),
            retain=_taught(parts, splits.retain_N, splits.known_N),
            evaluator=evaluator,
        )

    def context(self, device: torch.device, seed: int) -> Context:
        """Return everything that a method needs, on a device or streamed to it."""
        held_out = self.evaluator.images.held_out
        images = (self.forget.samples, self.retain.samples, held_out)
        left, size = self.memory.of_trial(device), sum(each.nbytes for each in images)
        # All of them or none: their sets are read in the same steps.
        resident = size <= left
        left -= size if resident else 0
        # Frozen, and below in evaluation mode: not even batch norm's statistics may change.
        original = self.architecture.load(self.original).to(device).requires_grad_(False).eval()

        def samples(part: TaughtImages) -> Samples:
            found = part.on(device, with_labels=self.with_labels, resident=resident)
            load = partial(self._features, part, found, original, left)
            stages = tuple(dict.fromkeys((*self.stages, *part.features)))
            return replace(found, features=ByStage(stages, load))

        return Context(
            original=original,
            fresh=self.architecture.build,
            initial=partial(self.architecture.initial, pretrained=self.pretrained),
            forget=samples(self.forget),
            retain=samples(self.retain),
            held_out=Samples(
                images_NCHW=held_out.on(device, resident=resident),
                labels_N=shared(held_out.labels_N).to(device) if self.with_labels else None,
            ),
            classes=self.architecture.classes,
            forgotten=self.evaluator.images.forgotten,
            seed=seed,
            augmentation=self.augmentation,
            precision=Precision(name=self.computing.precision),
            capture=self.computing.capture,
        )

    def _features(
        self, part: TaughtImages, samples: Samples, original: StagedModel, left: int, stage: str
    ) -> Features:
        """Return the features of a stage: stored ones if they fit, else those of each batch."""
        sizes = [
            each.features[stage].nbytes
            for each in (self.forget, self.retain)
            if stage in each.features
        ]
        # On the CPU they are shared by all trials of a machine.
        fits = samples.device.type == "cpu" or sum(sizes) <= left
        if stage in part.features and fits:
            return shared(part.features[stage]).to(samples.device)
        return Recomputed(original=original, samples=samples, stage=stage)


def _taught(parts: Sequence[TaughtImages], rows_N: Indices, known_N: Indices) -> TaughtImages:
    """Return some images of several parts.

    Args:
        parts: which have all of the images, each of them once.
        rows_N: rows of the wanted images.
        known_N: rows of the images whose labels methods may see.
    """
    ids_N = np.concatenate([part.samples.ids_N for part in parts])
    order_N = np.argsort(ids_N)
    place_N = order_N[np.searchsorted(ids_N[order_N], rows_N)]

    return TaughtImages(
        samples=LabelledImages(dataset=parts[0].samples.dataset, ids_N=rows_N),
        known_N=np.isin(rows_N, known_N),
        probs_NK=np.concatenate([part.probs_NK for part in parts])[place_N],
        features=ByStage(tuple(parts[0].features), partial(_chosen, parts, place_N)),
    )


def _chosen(parts: Sequence[TaughtImages], place_N: Indices, stage: str) -> npt.NDArray[Any]:
    """Return the features of some of the images of all parts."""
    return np.concatenate([part.features[stage] for part in parts])[place_N]
