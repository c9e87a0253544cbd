"""What the studies of a home are, in a few words each, without their records."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from distributed.study.folder import StudyFolder, begun_studies
from mixunlearn.plain import finite


def overview(home: Path) -> Iterator[dict[str, Any]]:
    """Yield the studies of a home by name, as plain data.

    Each has `study`, `method`, `task`, `trials` (finished ones), `state` and `gap/avg` (of the
    best trial on `test`, percentage points; `None` if unknown). What is damaged is left out.
    """
    for folder in begun_studies(home):
        experiment, summary = _mapping(folder.experiment), _mapping(folder.summary)
        task = experiment.get("task")
        best: Mapping[str, Any] = next(iter(summary.get("best") or ()), {})
        yield {
            "study": folder.path.name,
            "method": experiment.get("method"),
            "task": task.get("kind") if isinstance(task, Mapping) else None,
            "trials": _trials(folder),
            "state": _state(folder, summary),
            "gap/avg": finite(best.get("gap/avg")),
        }


def _state(folder: StudyFolder, summary: Mapping[str, Any]) -> str:
    if folder.purged.exists():
        return "purged"
    if not summary:
        return "not finished"
    verdict = summary.get("verdict") or {}
    return str(verdict.get("state") or "no verdict")


def _trials(folder: StudyFolder) -> int | None:
    """Return how many trials the table has; only its foot is read."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - slow to import

    with suppress(OSError, ValueError):  # pyarrow's errors are ValueErrors
        return int(pq.read_metadata(folder.trials).num_rows)
    return None


def _mapping(path: Path) -> Mapping[str, Any]:
    """Return what a file holds; nothing if it is missing or damaged."""
    try:
        text = path.read_text()
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, Mapping) else {}
