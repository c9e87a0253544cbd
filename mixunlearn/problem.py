"""An unlearning problem: everything that a trial needs; pixels stay in the data set's file.

Shape suffixes: N samples, C channels, H W pixels, K classes.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixunlearn.computing import USUAL, Computing
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import Indices, Samples
from mixunlearn.data.labelled import LabelledImages
from mixunlearn.evaluation import Evaluator
from mixunlearn.methods import Context
from mixunlearn.models import Pretrained, StagedModel, build_model
from mixunlearn.models.ensemble import Ensemble, split_members
from mixunlearn.precision import Precision
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
        model.load_state_dict({name: _tensor(array) for name, array in weights.items()})
        return model


@dataclass(frozen=True, kw_only=True)
class TaughtImages:
    """The forget or the retain set, with the original model's outputs.

    Args:
        samples: N images with labels.
        known_N: bool, whether methods may see an image's label; if not, they get the original's
            prediction instead.
        probs_NK: the original's softmax outputs, float32.
        features: stage -> the original's features, (N, C, h, w), float16; see `compact`.
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

    def on(self, device: torch.device, *, with_labels: bool) -> Samples:
        """Return the samples as tensors on a device; on the CPU they share the arrays' memory."""
        # None makes a method fail that asks for labels it must not see.
        labels_N = _tensor(self.labels_N).to(device) if with_labels else None
        return Samples(
            images_NCHW=_tensor(self.samples.images_NCHW).to(device),
            labels_N=labels_N,
            probs_NK=_tensor(self.probs_NK).to(device),
            features={name: _tensor(array).to(device) for name, array in self.features.items()},
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
        """Return everything that a method needs, on a device."""
        held_out = self.evaluator.images.held_out
        # Frozen, and below in evaluation mode: not even batch norm's statistics may change.
        original = self.architecture.load(self.original).to(device).requires_grad_(False)
        return Context(
            original=original.eval(),
            fresh=self.architecture.build,
            initial=partial(self.architecture.initial, pretrained=self.pretrained),
            forget=self.forget.on(device, with_labels=self.with_labels),
            retain=self.retain.on(device, with_labels=self.with_labels),
            held_out=Samples(
                images_NCHW=_tensor(held_out.images_NCHW).to(device),
                labels_N=_tensor(held_out.labels_N).to(device) if self.with_labels else None,
            ),
            classes=self.architecture.classes,
            forgotten=self.evaluator.images.forgotten,
            seed=seed,
            augmentation=self.augmentation,
            precision=Precision(name=self.computing.precision),
            capture=self.computing.capture,
        )


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

    def chosen(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate(arrays)[place_N]

    return TaughtImages(
        samples=LabelledImages(dataset=parts[0].samples.dataset, ids_N=rows_N),
        known_N=np.isin(rows_N, known_N),
        probs_NK=chosen([part.probs_NK for part in parts]),
        features={
            stage: chosen([part.features[stage] for part in parts]) for stage in parts[0].features
        },
    )


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return a tensor that shares the array's memory; it must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
