"""Samples on a device, and the order in which an epoch visits them.

Shape suffixes: N samples, B batch, C channels, H W pixels, K classes.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixunlearn.data.features import ByStage, Features, selected
from mixunlearn.data.streaming import Images, Streamed, gathered, upload
from mixunlearn.layout import channels_last

Indices: TypeAlias = npt.NDArray[np.int64]

PIXEL_MAX = 255
BATCH = 256  # images at once in passes over whole sets; limits memory only
VALUES = 2**23  # pixels times channels at once in such passes: 32 MiB as float32


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Images with their labels and the original model's outputs, all on one device.

    Args:
        images_NCHW: uint8, or floating point: images as a model takes them. A tensor, or
            `Streamed`, which stands for one: use `batch` and `at`, which know both.
        labels_N: int64, or `None` if labels must not be used (label-agnostic unlearning).
        probs_NK: the original model's softmax outputs, float32; `None` before it exists.
        features: stage -> the original model's features, float16 or float32, (N, C, h, w).
    """

    images_NCHW: Images
    labels_N: Tensor | None = None
    probs_NK: Tensor | None = None
    features: Mapping[str, Features] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return N."""
        return len(self.images_NCHW)

    @property
    def device(self) -> torch.device:
        """The device of everything that is known of the samples."""
        return self.images_NCHW.device

    def in_order(self, most: int = BATCH) -> list[Tensor]:
        """Return indices of all samples in order, as many at once as memory allows.

        Args:
            most: indices in a batch at most; of images above 100 pixels, there are fewer.
        """
        count = max(1, min(most, VALUES // max(1, math.prod(self.images_NCHW.shape[1:]))))
        return upload(torch.split(torch.arange(len(self)), count), self.device)

    def at(self, rows: Tensor | slice) -> "Samples":
        """Return some of the samples, with everything that is known of them.

        Args:
            rows: indices, int64, or bool for all; on the samples' device. Or a slice.
        """
        return Samples(
            images_NCHW=self.images_NCHW[rows],
            labels_N=None if self.labels_N is None else self.labels_N[rows],
            probs_NK=None if self.probs_NK is None else self.probs_NK[rows],
            features=ByStage(
                self.features,
                lambda stage: selected(
                    self.features[stage], rows, torch.arange(len(self), device=self.device)
                ),
            ),
        )

    def whole(self) -> Tensor:
        """Return all images as they are stored, on the device; only for sets that fit there."""
        images = self.images_NCHW
        return images.whole() if isinstance(images, Streamed) else images

    def labels(self, indices_B: Tensor) -> Tensor:
        """Return the labels of a batch, int64, shape (B,); `labels_N` must not be `None`."""
        assert self.labels_N is not None
        return self.labels_N[indices_B]

    def probs(self, indices_B: Tensor) -> Tensor:
        """Return the original's outputs for a batch, (B, K); `probs_NK` must not be `None`."""
        assert self.probs_NK is not None
        return self.probs_NK[indices_B]

    def batch(self, indices_B: Tensor) -> Tensor:
        """Return images as float32, shape (B, C, H, W), channels last in memory.

        uint8 is scaled to [0, 1]; floating-point numbers stay as they are.
        """
        # Converted batch by batch: as float32, all images would take four times the memory.
        images = gathered(self.images_NCHW, indices_B).to(torch.float32)
        if self.images_NCHW.dtype == torch.uint8:
            images = images.div_(PIXEL_MAX)
        return channels_last(images)


def shuffled(
    rng: np.random.Generator, count: int, batch: int, device: torch.device
) -> list[Tensor]:
    """Return one epoch over `count` samples: index batches in random order; see `cut`."""
    # Drawn on the CPU, so that the order does not depend on the device.
    return upload(cut(torch.from_numpy(rng.permutation(count)), batch), device)


def cut(indices_N: Tensor, batch: int) -> list[Tensor]:
    """Return batches of indices; the last one may be smaller, or larger by one.

    A single remaining index joins the batch before it: batch norm cannot compute the variance of
    one image. Indices on the host should be cut there, and then sent to a device by `upload`.
    """
    parts = list(torch.split(indices_N, batch))
    if len(parts) > 1 and len(parts[-1]) == 1 < batch:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def cycled(rng: np.random.Generator, count: int, length: int) -> Indices:
    """Return `length` indices below `count`: whole random passes, the last one cut off."""
    passes = -(-length // count)
    order = rng.permuted(np.broadcast_to(np.arange(count), (passes, count)), axis=1)
    return order.ravel()[:length]


def pairs(
    rng: np.random.Generator,
    n_forget: int,
    n_retain: int,
    batch: int,
    device: torch.device,
    classes: tuple[Indices, Indices] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one pass over the retain set in batches, each with as many forget samples.

    The forget set is repeated, in a new order each time.

    Args:
        rng: generator of the order.
        n_forget: size of the forget set, at least 1.
        n_retain: size of the retain set, at least 1.
        batch: pairs in a batch; the last one may be smaller, see `cut`.
        device: device of the indices.
        classes: the classes of all forget and all retain samples. If given, each retain sample is
            paired with a forget sample of another class, if there is one.

    Yields:
        Forget indices and retain indices, int64, each of shape (B,).
    """
    retain = rng.permutation(n_retain)
    forget = cycled(rng, n_forget, n_retain)
    if classes is not None:
        forget = _of_other_class(rng, forget, classes[0], classes[1][retain])
    # Both have `n_retain` indices, so they are cut at the same places.
    forget_batches = upload(cut(torch.from_numpy(forget), batch), device)
    retain_batches = upload(cut(torch.from_numpy(retain), batch), device)
    yield from zip(forget_batches, retain_batches, strict=True)


def _of_other_class(
    rng: np.random.Generator, forget: Indices, forget_classes: Indices, retain_classes: Indices
) -> Indices:
    """Redraw the forget indices whose class equals that of their retain partner."""
    clash = forget_classes[forget] == retain_classes
    redrawn = forget.copy()
    for shared in np.unique(retain_classes[clash]):
        others = np.flatnonzero(forget_classes != shared)
        places = clash & (retain_classes == shared)
        if len(others):
            redrawn[places] = rng.choice(others, size=int(places.sum()))
    return redrawn
