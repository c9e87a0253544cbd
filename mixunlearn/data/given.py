"""Images and labels as a user of the library has them: tensors, arrays, a data set, a loader.

Shape suffixes: N samples, C channels, H W pixels, K classes.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TypeAlias, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mixunlearn.border import code_of_others
from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError

IMAGES = 4  # dimensions (N, C, H, W)
PAIR = 2

# Whatever holds images and labels; `read_samples` says which forms are accepted.
Given: TypeAlias = object


def read_samples(key: str, given: Given, *, unlabelled: bool = False) -> Samples:
    """Return images and labels as tensors on the CPU.

    Args:
        key: what they are, for error messages.
        given: a pair (images, labels) of tensors, NumPy arrays or lists; a data set or a list of
            pairs (image, label); a data loader; or anything with `images_NCHW` and `labels_N`. With
            `unlabelled`, also images alone, or `None` instead of labels.
            Images are (N, C, H, W), uint8 or floating point. Labels are whole numbers from 0 on,
            or one-hot.
        unlabelled: whether labels may be missing.

    Raises:
        InputError: this is none of these, there is no image, an image has another shape or is not
            finite, or there are not as many labels as images.
    """

    def refusal(reason: str) -> InputError:
        return InputError(key, type(given).__name__, f"cannot be read ({reason})")

    with code_of_others(refusal):
        images, labels = _parts(key, given)
        images_NCHW = _images(key, images)
        labels_N = None if labels is None else _labels(key, labels)
    if labels_N is None and not unlabelled:
        raise InputError(key, _words(images_NCHW), "has no labels; give a pair (images, labels)")
    if labels_N is not None and len(labels_N) != len(images_NCHW):
        remedy = f"has {len(labels_N)} labels; give one for each image"
        raise InputError(key, _words(images_NCHW), remedy)
    return Samples(images_NCHW=images_NCHW, labels_N=labels_N)


def require_classes(key: str, samples: Samples, classes: int) -> None:
    """Check that labels are those of a model's outputs.

    Raises:
        InputError: a label is below 0, or the model has no such output.
    """
    if samples.labels_N is None:
        return
    outside = (samples.labels_N < 0) | (samples.labels_N >= classes)
    if outside.any():
        place = int(outside.nonzero()[0])
        remedy = f"is the label of image {place}; the model has the outputs 0 to {classes - 1}"
        raise InputError(key, int(samples.labels_N[place]), remedy)


def _parts(key: str, given: Given) -> tuple[object, object]:
    """Return images and labels, each in whatever form they are given."""
    if hasattr(given, "images_NCHW"):
        return given.images_NCHW, getattr(given, "labels_N", None)
    if isinstance(given, Tensor | np.ndarray):
        return given, None
    if isinstance(given, tuple | list) and len(given) == PAIR and not _is_pair(given[0]):
        return given[0], given[1]
    pairs = list(_items(key, given))
    if not pairs:
        raise InputError(key, type(given).__name__, "is empty; give at least one image")
    images, labels = ([_tensor(pair[place]) for pair in pairs] for place in (0, 1))
    # A loader gives batches, everything else single images.
    join = torch.cat if isinstance(given, DataLoader) else torch.stack
    return join(images), join(labels)


def _items(key: str, given: Given) -> Iterator[tuple[object, object]]:
    """Yield the pairs of a data set, a loader or a list."""
    items: Iterable[object]
    # By index if possible: a data set need not know where it ends.
    if isinstance(given, Sized) and hasattr(given, "__getitem__"):
        items = (given[place] for place in range(len(given)))
    elif isinstance(given, Iterable):
        items = given
    else:
        remedy = "give a pair (images, labels), or a data set of pairs (image, label)"
        raise InputError(key, type(given).__name__, remedy)
    for item in items:
        if not _is_pair(item):
            remedy = f"gives {type(item).__name__}; each item must be a pair (image, label)"
            raise InputError(key, type(given).__name__, remedy)
        yield item[0], item[1]


def _is_pair(item: object) -> TypeGuard[Sequence[object]]:
    return isinstance(item, tuple | list) and len(item) == PAIR


def _tensor(value: object) -> Tensor:
    """Return a tensor on the CPU, without gradients; it may share the memory of a tensor."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    # A copy, because an array may be read-only, or stored backwards.
    return torch.from_numpy(np.array(value))


def _images(key: str, given: object) -> Tensor:
    """Return images (N, C, H, W), uint8 or float32."""
    images = _tensor(given)
    words = _words(images)
    if images.ndim != IMAGES:
        hint = "; grey images need a channel: images[:, None]" if images.ndim == IMAGES - 1 else ""
        remedy = f"images must have the shape (N, channels, height, width){hint}"
        raise InputError(key, words, remedy)
    if not len(images):
        raise InputError(key, words, "is empty; give at least one image")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise InputError(key, words, "images must be uint8, or floating point as the model takes")
    images = images.to(torch.float32)
    flawed = ~images.isfinite().flatten(1).all(1)
    if flawed.any():
        remedy = f"image {int(flawed.nonzero()[0])} holds NaN or infinity; remove or repair it"
        raise InputError(key, words, remedy)
    return images


def _labels(key: str, given: object) -> Tensor:
    """Return labels (N,), int64."""
    labels = _tensor(given)
    if labels.is_complex() or (labels != labels.to(torch.int64)).any():
        raise InputError(key, _words(labels), "labels must be whole numbers, or one-hot")
    labels = labels.to(torch.int64)
    if labels.ndim == 2 and labels.shape[1] > 1:  # noqa: PLR2004 (one-hot: (N, K))
        if not ((labels == 1).sum(1).eq(1) & (labels != 0).sum(1).eq(1)).all():
            raise InputError(key, _words(labels), "one-hot labels must hold one 1 in each row")
        labels = labels.argmax(1)
    labels = labels.squeeze(1) if labels.ndim == 2 else labels  # noqa: PLR2004
    if labels.ndim != 1:
        raise InputError(key, _words(labels), "labels must have the shape (N,), or (N, K) one-hot")
    return labels


def _words(tensor: Tensor) -> str:
    """Return type and shape of a tensor: "float32 37×1×8×8"."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {'×'.join(map(str, tensor.shape))}"
