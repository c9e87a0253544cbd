"""Imports a data source and describes it."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distributed.config.experiment import Data
from distributed.config.presets import names_file
from distributed.config.read import read_data, read_experiment
from distributed.plan.requirements import require_home
from mixunlearn.atomic import replacing
from mixunlearn.data import sources
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.splits import describe, make_splits


def inspect_data(
    name: str, settings: Sequence[str], home: Path, rows: Path | None = None
) -> dict[str, Any]:
    """Import a source into the cache; return its shape, classes, counts, digest, skipped files.

    Args:
        name: path of an experiment file, or name of a preset or a source.
        settings: `key=value` settings, applied on top.
        home: the home; it contains the cache.
        rows: a CSV file to write: which row of the training part is which file.

    Raises:
        InputError: neither a file nor a source, or the source cannot be read.
        MixUnlearnError: too little disk space.
    """
    task: dict[str, object]
    trained = False
    if names_file(name):
        experiment = read_experiment(Path(name), settings)
        data, task = experiment.data, experiment.task.model_dump(exclude_none=True)
        trained = experiment.model.original is not None
    elif name in sources.SOURCES:
        data, task = read_data(name, settings), {"kind": "class", "classes": [0]}
    else:
        remedy = f"neither a YAML file nor a source; {known_names(name, sources.SOURCES)}"
        raise InputError("EXPERIMENT|SOURCE", name, remedy)
    return _inspected(data, task, home, rows, trained=trained)


def _inspected(
    data: Data, task: dict[str, object], home: Path, rows: Path | None, *, trained: bool
) -> dict[str, Any]:
    cache = home / "cache"
    if not sources.is_kept(data.source, data.options, cache):
        require_home(home)
    dataset = sources.open_dataset(data.source, data.options, cache)
    limit = data.limit.model_dump(exclude_none=True)
    # Before the cache is written: a source that cannot be split is an error first.
    splits = make_splits(dataset, task, seed=data.seed, limit=limit, trained=trained)
    names = sources.row_names(dataset, data.source, data.options) if rows else []
    sources.keep(dataset, data.source, data.options, cache)
    if rows:
        _write_rows(names, rows)
    return {
        "source": data.source,
        "images": len(dataset.labels_N),
        "shape": list(dataset.images_NCHW.shape[1:]),
        "classes": list(dataset.classes),
        "digest": dataset.digest,
        "parts": describe(dataset, splits),
        "skipped": list(dataset.skipped),
        "rows": rows and str(rows),
        "cache": str(cache),
    }


def _write_rows(names: Sequence[str], path: Path) -> None:
    try:
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file).writerows([("row", "file"), *enumerate(names)])
    except OSError as error:
        remedy = f"cannot be written ({error.strerror}); choose another file"
        raise InputError("--rows", str(path), remedy) from error
