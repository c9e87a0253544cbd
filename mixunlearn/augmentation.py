"""Random changes of training images: a whole batch at a time, on its device.

What is drawn comes from a generator of NumPy: the same on every device, and part of checkpoints.
Evaluations are always on plain images.

Shape suffixes: B batch, C channels, H W pixels.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.host_values import from_host
from mixunlearn.layout import channels_last

Numbers: TypeAlias = npt.NDArray[np.int64]

PADDED = 8  # the image's size in units of the padding: 4 pixels for 32, as is usual for CIFAR
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of torchvision's RandomResizedCrop
TRIES = 10


def augmented(images: Tensor, name: str, rng: np.random.Generator) -> Tensor:
    """Return images with random changes, each image with its own.

    Args:
        images: (B, C, H, W), floating point.
        name: a key of `AUGMENTATIONS`.
        rng: from which all is drawn; "none" draws nothing.

    Returns:
        Images of the same shape, channels last in memory; "none" returns the images as they are.
    """
    return AUGMENTATIONS[name](images, rng)


def crop(images: Tensor, rng: np.random.Generator, *, flip: bool = False) -> Tensor:
    """Pad with zeros, then cut out the size of the image at a random place.

    The padding on each side is an eighth of the image, at least one pixel.

    Args:
        images: (B, C, H, W).
        rng: from which places and flips are drawn.
        flip: whether half of the images are mirrored, left to right.
    """
    pad, count = padding(images.shape[2:]), len(images)

    def drawn() -> Tensor:
        places_2B = rng.integers(2 * pad + 1, size=(2, count))
        flips_B = flips(rng, count) if flip else np.zeros(count, np.int64)
        return torch.from_numpy(np.concatenate((places_2B, flips_B[None])))

    return cropped(images, from_host(drawn, images.device))


def crop_flip(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Crop as `crop` does; mirror half of the images: what is usual for CIFAR."""
    return crop(images, rng, flip=True)


def random_resized_crop(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Cut out a random part of random shape, resize it to the image's size; mirror half of them.

    As torchvision's RandomResizedCrop with its defaults, followed by RandomHorizontalFlip.
    """
    (height, width), count = images.shape[2:], len(images)

    def drawn() -> Tensor:
        boxes_4B = boxes(rng, count, height, width)
        return torch.from_numpy(np.concatenate((boxes_4B, flips(rng, count)[None])))

    return resized(images, from_host(drawn, images.device))


def padding(size: torch.Size) -> int:
    """Return how many pixels `crop` pads on each side of an image of this size."""
    return max(min(size) // PADDED, 1)


def flips(rng: np.random.Generator, count: int) -> Numbers:
    """Return 1 for images to mirror, else 0."""
    return rng.integers(2, size=count)


def cropped(images: Tensor, crops_3B: Tensor) -> Tensor:
    """Return images that are padded with zeros and cropped.

    Args:
        images: (B, C, H, W).
        crops_3B: first row and first column of each crop in the padded image; 1 for images to
            mirror, else 0. Whole numbers, on the images' device.
    """
    (height, width), pad = images.shape[2:], padding(images.shape[2:])
    tops, lefts, mirrored = crops_3B.unbind()
    rows_BH = tops[:, None] + torch.arange(height, device=images.device)
    columns_BW = torch.arange(width, device=images.device).expand(len(images), -1)
    columns_BW = torch.where(mirrored[:, None] == 1, columns_BW.flip(1), columns_BW)
    columns_BW = columns_BW + lefts[:, None]
    places_B = torch.arange(len(images), device=images.device)
    padded = F.pad(images, (pad, pad, pad, pad))
    # Indices around a slice put its axis last: the result is channels last in memory.
    found_BHWC = padded[places_B[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]]
    return found_BHWC.permute(0, 3, 1, 2)


def boxes(rng: np.random.Generator, count: int, height: int, width: int) -> Numbers:
    """Return random parts of images: top, left, height and width of each, in pixels, (4, B).

    Their area is a uniform share of the image, the logarithm of their ratio is uniform. A part that
    does not fit is drawn again; after ten times, the middle of the image is taken.
    """
    areas = height * width * rng.uniform(*AREA, size=(TRIES, count))
    ratios = np.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1]), size=(TRIES, count)))
    widths = np.rint(np.sqrt(areas * ratios)).astype(np.int64)
    heights = np.rint(np.sqrt(areas / ratios)).astype(np.int64)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first_B, all_B = fits.argmax(axis=0), np.arange(count)
    lucky_B = fits.any(axis=0)
    heights_B = np.where(lucky_B, heights[first_B, all_B], min(height, round(width / RATIO[0])))
    widths_B = np.where(lucky_B, widths[first_B, all_B], min(width, round(height * RATIO[1])))
    # Drawn for all, so that what follows does not depend on who was lucky.
    tops_B = np.floor(rng.random(count) * (height - heights_B + 1)).astype(np.int64)
    lefts_B = np.floor(rng.random(count) * (width - widths_B + 1)).astype(np.int64)
    tops_B = np.where(lucky_B, tops_B, (height - heights_B) // 2)
    lefts_B = np.where(lucky_B, lefts_B, (width - widths_B) // 2)
    return np.stack((tops_B, lefts_B, heights_B, widths_B))


def resized(images: Tensor, parts_5B: Tensor) -> Tensor:
    """Return parts of images, resized to the images' size, bilinearly.

    Args:
        images: (B, C, H, W).
        parts_5B: top, left, height and width of each part, in pixels; 1 for images to mirror, else
            0. Whole numbers, on the images' device.
    """
    tops, lefts, heights, widths, mirrored = parts_5B.unbind()
    y_BH = _places(tops, heights, images.shape[2])
    x_BW = _places(lefts, widths, images.shape[3])
    x_BW = torch.where(mirrored[:, None] == 1, x_BW.flip(1), x_BW)
    shape = (len(images), *images.shape[2:])
    axes = x_BW[:, None, :].expand(shape), y_BH[:, :, None].expand(shape)
    grid_BHW2 = torch.stack(axes, dim=-1)
    found = F.grid_sample(images, grid_BHW2.to(images.dtype), align_corners=False)
    return channels_last(found)


def _places(starts_B: Tensor, sizes_B: Tensor, pixels: int) -> Tensor:
    """Return where an axis of a resized part is read, in [-1, 1] of the whole image, (B, pixels).

    The centre of a pixel is at its half. Nothing outside the part is read.
    """
    middles = (torch.arange(pixels, device=starts_B.device) + 0.5) / pixels
    places = starts_B[:, None] + middles * sizes_B[:, None]
    first, last = starts_B[:, None] + 0.5, (starts_B + sizes_B)[:, None] - 0.5
    return 2 * places.clamp(first, last) / pixels - 1


AUGMENTATIONS: Mapping[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "none": lambda images, _: images,
    "crop": crop,
    "crop_flip": crop_flip,
    "random_resized_crop": random_resized_crop,
}
