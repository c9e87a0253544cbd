"""Imports a data source and describes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distributed.config.experiment import Data
from distributed.config.read import read_data, read_experiment
from distributed.plan.requirements import require_home
from mixunlearn.data import sources
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.splits import describe, make_splits


def inspect_data(name: str, settings: Sequence[str], home: Path) -> dict[str, Any]:
    """Import a source into the cache; return its shape, classes, counts, digest, skipped files.

    Args:
        name: path of an experiment file, or name of a source.
        settings: `key=value` settings, applied on top.
        home: the home; it contains the cache.

    Raises:
        InputError: neither a file nor a source, or the source cannot be read.
        MixUnlearnError: too little disk space.
    """
    task: dict[str, object]
    if name.endswith((".yaml", ".yml")):
        experiment = read_experiment(Path(name), settings)
        data, task = experiment.data, experiment.task.model_dump(exclude_none=True)
    elif name in sources.SOURCES:
        data, task = read_data(name, settings), {"kind": "class", "classes": [0]}
    else:
        remedy = f"neither a YAML file nor a source; {known_names(name, sources.SOURCES)}"
        raise InputError("EXPERIMENT|SOURCE", name, remedy)
    return _inspected(data, task, home)


def _inspected(data: Data, task: dict[str, object], home: Path) -> dict[str, Any]:
    cache = home / "cache"
    if not sources.is_kept(data.source, data.options, cache):
        require_home(home)
    dataset = sources.open_dataset(data.source, data.options, cache)
    limit = data.limit.model_dump(exclude_none=True)
    # Before the cache is written: a source that cannot be split is an error first.
    splits = make_splits(dataset, task, seed=data.seed, limit=limit)
    sources.keep(dataset, data.source, data.options, cache)
    return {
        "source": data.source,
        "images": len(dataset.labels_N),
        "shape": list(dataset.images_NCHW.shape[1:]),
        "classes": list(dataset.classes),
        "digest": dataset.digest,
        "parts": describe(dataset, splits),
        "skipped": list(dataset.skipped),
        "cache": str(cache),
    }
