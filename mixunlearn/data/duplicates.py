"""Images that are in several parts of a split with the same pixels.

Shapes: N images, W words of 8 bytes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixunlearn.data.arrow import Dataset

Words = NDArray[np.uint64]
Rows = NDArray[np.integer[Any]]

WORD = 8  # bytes
PART = 16 * 2**20  # bytes of images that are looked at together: limits the memory
# Steele et al., Fast splittable pseudorandom number generators (2014): each bit of the input
# changes half of the bits of the output.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


def shared(dataset: Dataset, parts: Mapping[str, Rows]) -> dict[tuple[str, str], int]:
    """Return how many images of one part are in another one as well, with the same pixels.

    Args:
        dataset: the images.
        parts: rows of each part.

    Returns:
        By the names of two parts, the first before the second in `parts`: the number of images of
        the first. Pairs without such images are left out.
    """
    digests = {name: fingerprints(dataset.images_NCHW, rows) for name, rows in parts.items()}
    names = list(parts)
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    counts = {pair: int(np.isin(digests[pair[0]], digests[pair[1]]).sum()) for pair in pairs}
    return {pair: count for pair, count in counts.items() if count}


def fingerprints(images_NCHW: NDArray[np.uint8], rows: Rows) -> Words:
    """Return 64 bits of each image: the same for the same pixels, else almost surely others."""
    length = int(np.prod(images_NCHW.shape[1:]))
    count = max(1, PART // max(length, 1))
    found = [
        _digest(images_NCHW[rows[first : first + count]].reshape(-1, length))
        for first in range(0, len(rows), count)
    ]
    return np.concatenate([np.empty(0, np.uint64), *found])


def _digest(bytes_NP: NDArray[np.uint8]) -> Words:
    missing = -bytes_NP.shape[1] % WORD
    words_NW = np.pad(bytes_NP, ((0, 0), (0, missing))).view(np.uint64)
    # Each place has a key of its own, so that the order of pixels counts.
    keys_W = _mixed(np.arange(1, words_NW.shape[1] + 1, dtype=np.uint64) * GOLDEN)
    mixed_NW = _mixed(words_NW ^ keys_W)
    return _mixed(mixed_NW.sum(axis=1, dtype=np.uint64))


def _mixed(words: Words) -> Words:
    for shift, factor in MIX:
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words
