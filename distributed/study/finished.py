"""Whether a study is finished, so that the same command again has nothing to do.

A sweep that has done and delivered everything notes what was asked for and the files that it has
read and written. As long as these are as they were, the result is known without PyTorch, Ray and
MLflow, whose imports alone take seconds. The note only saves time: without it, or if anything
differs, a sweep looks at everything.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed.config.experiment import Experiment
from distributed.study.folder import StudyFolder, begun_studies
from mixunlearn.atomic import replacing
from mixunlearn.data import sources
from mixunlearn.errors import MixUnlearnError


def note_finished(
    folder: StudyFolder, home: Path, experiment: Experiment, files: Iterable[Path]
) -> None:
    """Note that everything of a study is done and delivered.

    Args:
        folder: the study's.
        home: where results are kept.
        experiment: the study's, with every setting.
        files: files and folders that the result depends on, beside those of the study.
    """
    record = [path for path in (folder.database, folder.journal) if path.exists()]
    own = [*record, *folder.results, folder.model(0).parent, folder.run_ids, folder.experiment]
    note = {**_asked(experiment, home), "files": _stamps([*own, *files], home)}
    # Without the note, the next command takes longer, nothing else.
    with suppress(OSError), replacing(folder.finished) as temporary:
        temporary.write_text(json.dumps(note, indent=1) + "\n")


def finished_study(experiment: Experiment, home: Path) -> tuple[StudyFolder, dict[str, Any]] | None:
    """Return the folder and the summary of an experiment's study if nothing of it is left to do.

    Args:
        experiment: what is asked for, with every setting.
        home: where results are kept.
    """
    try:
        asked = _asked(experiment, home)
        folders = list(begun_studies(home, f"{experiment.name}-*"))
    except (MixUnlearnError, OSError):  # what cannot be read: the command will say so
        return None
    for folder in folders:
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            note = json.loads(folder.finished.read_text())
            known = note.pop("files")
            same = note == asked and not folder.spool.exists() and not folder.purged.exists()
            if same and _stamps([home / path for path in known], home) == known:
                summary = dict(json.loads(folder.summary.read_text()))
                # Results name their home: in one that was moved, they are written anew.
                return (folder, summary) if summary["folder"] == str(folder.path) else None
    return None


def _asked(experiment: Experiment, home: Path) -> dict[str, Any]:
    """Return what the result depends on beside files, as plain data."""
    data = experiment.data
    kept = sources.kept_at(data.source, data.options, home / "cache")
    return {
        "experiment": json.loads(json.dumps(experiment.model_dump(), default=str)),
        # Its name tells whether the data have changed.
        "data": kept.name,
        "mlflow": os.environ.get("MLFLOW_TRACKING_URI", ""),
    }


def _stamps(paths: Iterable[Path], home: Path) -> dict[str, list[int]]:
    """Return size and time of the last change of files, and of all files in folders, by name."""
    found = {}
    for path in paths:
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if each.is_file():
                state = each.stat()
                found[_name(each, home)] = [state.st_size, state.st_mtime_ns]
    return found


def _name(path: Path, home: Path) -> str:
    """Return a path as seen from the home, if it is inside, whichever way the home is written."""
    whole, root = path.resolve(), home.resolve()
    return str(whole.relative_to(root) if whole.is_relative_to(root) else whole)
