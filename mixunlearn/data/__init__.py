"""Images with labels: the named sources; to add one, write a function and a line here."""

from collections.abc import Callable, Mapping
from typing import Any

from mixunlearn.plugins import registry

LARGEST_SIZE = 1024  # pixels a side

# Each returns a `Dataset`, or `Pictures` that are decoded into the cache. They are imported on
# first use, so that checking a name does not import the packages that read images.
SOURCES: Mapping[str, Callable[..., Any]] = registry(
    {
        "cifar10": "mixunlearn.data.torchvision:load_cifar10",
        "cifar100": "mixunlearn.data.torchvision:load_cifar100",
        "digits": "mixunlearn.data.sources:load_digits",
        "fashion_mnist": "mixunlearn.data.torchvision:load_fashion_mnist",
        "image_folder": "mixunlearn.data.image_folder:load",
        "mnist": "mixunlearn.data.torchvision:load_mnist",
        "mnist5k": "mixunlearn.data.sources:load_mnist5k",
        "parquet": "mixunlearn.data.parquet:load",
        "svhn": "mixunlearn.data.torchvision:load_svhn",
    },
    "mixunlearn.sources",
)
# Sources that read files return here, for the same options, what determines their content. So
# the cache is never used for files that have changed.
CONTENTS: Mapping[str, Callable[..., list[str]]] = registry(
    {
        "cifar10": "mixunlearn.data.torchvision:contents",
        "cifar100": "mixunlearn.data.torchvision:contents",
        "fashion_mnist": "mixunlearn.data.torchvision:contents",
        "image_folder": "mixunlearn.data.image_folder:contents",
        "mnist": "mixunlearn.data.torchvision:contents",
        "parquet": "mixunlearn.data.parquet:contents",
        "svhn": "mixunlearn.data.torchvision:contents",
    },
    "mixunlearn.contents",
)
# Sources whose rows have names return them here, for the data set and the same options: see
# `row_names` of `mixunlearn.data.arrow.Dataset`.
ROW_NAMES: Mapping[str, Callable[..., Mapping[str, Callable[[], Any]]]] = registry(
    {
        "image_folder": "mixunlearn.data.image_folder:row_names",
        "parquet": "mixunlearn.data.parquet:row_names",
    },
    "mixunlearn.row_names",
)
