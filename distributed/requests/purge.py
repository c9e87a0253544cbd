"""Removes from a home what holds images, ids or memory of a study's forget set.

Weights of references and of unlearned models, reports and records stay. What a purge has begun, the
same command finishes: a note in the study's folder says what has to go.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distributed.config.experiment import Experiment
from distributed.plan.location import FILE_RECORDS, record_address
from distributed.plan.make import find_experiment, find_study
from distributed.plan.plan import as_yaml
from distributed.runtime.text import one_line
from distributed.study.folder import (
    CHECKPOINTS,
    LOCK,
    MODELS,
    REPORT_WITH_IMAGES,
    STUDIES,
    StudyFolder,
    begun_studies,
    full_name,
    study_folder,
)
from distributed.study.lock import DatabaseLock, FileLock
from mixunlearn.atomic import replacing
from mixunlearn.errors import CorruptError, MixUnlearnError
from mixunlearn.files import Files
from mixunlearn.store import RECORD

MARGINS = "margins.safetensors"  # of an evidence: values of single images
PICTURE = re.compile(r'<img src="data:image/png;base64,[^"]*"[^>]*>')  # in pages of version 0.1
# Kinds of the store; the payload of each says what it was made from.
OUTPUTS = ("teachers", "evaluations", "examined")  # values of single images


@dataclass(frozen=True, kw_only=True)
class Purge:
    """What a purge of a study has to remove; kept in the study's folder until it is done.

    Args:
        study: name of the study.
        data: digests of the data set, as it is and as models were trained on it.
        splits: key of the splits.
        images: number of images to be forgotten.
        purged: when it was done, UTC; `None`: it is not.
    """

    study: str
    data: Sequence[str]
    splits: str
    images: int
    purged: str | None = None

    @classmethod
    def of(cls, study: str, settings: Sequence[str], home: Path) -> "Purge":
        """Return what has to be removed for a study, or what is left of a purge that was cut off.

        Raises:
            InputError: there is no such study, or its data cannot be read.
            CorruptError: the note of an earlier purge is damaged.
        """
        note = study_folder(home, study).purged
        if note.is_file():
            try:
                return cls(**json.loads(note.read_text()))
            except (OSError, ValueError, TypeError) as error:
                remedy = "remove it and run the same command again"
                raise CorruptError(f"{note} is damaged ({one_line(error)}); {remedy}") from error
        plan = find_study(study, settings, home, reading=True)
        return cls(
            study=study,
            data=sorted({plan.source.digest, plan.dataset.digest}),
            splits=plan.splits.key,
            images=len(plan.splits.forget_N),
        )

    def write(self, home: Path) -> None:
        """Write the note."""
        with replacing(study_folder(home, self.study).purged) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def unwanted(self, kind: str, payload: Mapping[str, Any]) -> bool:
        """Return whether an entry of the store has to go; also one that nobody can read."""
        if not payload:
            return True
        if kind == "splits":
            return bool(payload.get("key") == self.splits)
        if kind == "models":
            # Every original of these data has seen the images.
            return payload.get("role") == "original" and payload.get("data") in self.data
        model = payload.get("model")
        return kind in OUTPUTS and isinstance(model, dict) and model.get("data") in self.data


@dataclass(frozen=True, kw_only=True)
class Removal:
    """A thing that goes.

    Args:
        what: in words.
        place: its path or address.
    """

    what: str
    place: Path | Files

    def do(self) -> None:
        """Remove it, if it is still there.

        Raises:
            MixUnlearnError: it cannot be removed.
        """
        try:
            if isinstance(self.place, Files):
                self.place.delete()
            elif self.place.is_dir() and not self.place.is_symlink():
                shutil.rmtree(self.place)
            else:
                self.place.unlink(missing_ok=True)
        except OSError as error:
            remedy = "make it removable, then run the same command again"
            raise MixUnlearnError(f"{self.place}: {one_line(error)}; {remedy}") from error


def purge(
    studies: Sequence[str], settings: Sequence[str], home: Path, *, dry_run: bool = False
) -> list[Removal]:
    """Remove what holds images, ids or memory of the forget sets of studies; return what went.

    Args:
        studies: names; empty: all studies of the home.
        settings: `key=value` settings on top of the experiments.
        home: where results are kept.
        dry_run: whether to remove nothing.

    Raises:
        InputError: there is no such study, or its data cannot be read.
        MixUnlearnError: a study or an evidence of the home is in use, or something cannot be
            removed; the same command goes on.
    """
    named = dict.fromkeys(full_name(home, each) for each in studies)
    names = list(named) or [each.path.name for each in begun_studies(home)]
    # All are read before anything is removed: a mistake in the last name changes nothing.
    found = {
        name: (find_experiment(name, settings, home, reading=True), Purge.of(name, settings, home))
        for name in names
    }
    removed: list[Removal] = []
    with ExitStack() as stack:
        if not dry_run:
            _lock(home, stack)
            for name, (experiment, _) in found.items():
                _lock_record(name, experiment, home, stack)
        for experiment, each in found.values():
            removals = list(_removals(each, experiment, home))
            removed += removals
            if not dry_run:
                _carry_out(each, experiment, removals, home)
        if not studies:
            left = list(_of_requests(home))
            removed += left
            for removal in left * (not dry_run):
                removal.do()
    return removed


def _of_requests(home: Path) -> Iterator[Removal]:
    """Yield what belongs to no study: what `unlearn --verify` has trained, and left if killed."""
    for path in sorted((home / STUDIES).glob(f"*/{MODELS}")):
        # Where that of a study would be; Ray notes the lists of images there.
        if not StudyFolder(path=path.parent).experiment.exists():
            yield Removal(what="checkpoints", place=path)
    for kind in ("splits", "models", *OUTPUTS):
        for path in sorted((home / "store" / kind).glob("*")):
            if kind != "models" or _payload(path / RECORD).get("role") != "reference":
                yield Removal(what=_word(kind), place=path)
    if (home / "cache").exists():
        yield Removal(what="decoded images", place=home / "cache")


def _lock(home: Path, stack: ExitStack) -> None:
    """Lock all studies and all evidence of a home: they share its cache and its store.

    Raises:
        MixUnlearnError: one of them is in use.
    """
    folders = [each.path for each in begun_studies(home)]
    folders += [path.parent for path in sorted((home / "evidence").glob(f"*/*/{LOCK}"))]
    for folder in folders:
        lock = FileLock(folder / LOCK, folder.name)
        lock.acquire()
        stack.callback(lock.release)


def _lock_record(study: str, experiment: Experiment, home: Path, stack: ExitStack) -> None:
    """Lock a study whose record is on a database server: other machines may work on it.

    Raises:
        MixUnlearnError: it is in use, or the database does not answer.
    """
    address = record_address(experiment.storage.study, study_folder(home, study).path)
    if not address.startswith(FILE_RECORDS):
        lock = DatabaseLock(address, study)
        lock.acquire()
        stack.callback(lock.release)


def _carry_out(
    each: Purge, experiment: Experiment, removals: Sequence[Removal], home: Path
) -> None:
    folder = study_folder(home, each.study)
    # First: from now on, no command uses the study, and this one knows what is left.
    each.write(home)
    for removal in removals:
        removal.do()
    text = as_yaml(experiment.published(each.images))
    _rewrite(folder.experiment, text)
    if experiment.storage.files:
        shared = Files.of(experiment.storage.files) / STUDIES / each.study
        if shared.has(folder.experiment.name):
            shared.write(folder.experiment.name, text.encode())
    if folder.report.is_file():
        _rewrite(folder.report, PICTURE.sub("", folder.report.read_text("utf-8")))
    done = each.purged or datetime.now(UTC).isoformat(timespec="seconds")
    Purge(**{**asdict(each), "purged": done}).write(home)


def _rewrite(path: Path, text: str) -> None:
    """Replace the text of a file, unless it is the same."""
    if path.read_text("utf-8") != text:
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8")


def _removals(each: Purge, experiment: Experiment, home: Path) -> Iterator[Removal]:
    """Yield what has to go: remote copies first, from which the local ones would come back."""
    if experiment.storage.files:
        shared = Files.of(experiment.storage.files)
        yield from _remote_entries(each, shared / "store")
        yield from _of_study(shared / STUDIES / each.study)
    yield from _entries(each, home / "store")
    folder = study_folder(home, each.study)
    # Another study may have trained the originals that this one has used.
    trained = [other.path / MODELS for other in begun_studies(home)]
    for path in (folder.path / CHECKPOINTS, *trained):
        if path.exists():
            yield Removal(what="checkpoints", place=path)
    for path in (folder.spool, folder.path / REPORT_WITH_IMAGES):
        if path.exists():
            yield Removal(what="records for MLflow, pictures", place=path)
    yield from _margins(folder, home)
    yield from _decoded(home)


def _decoded(home: Path) -> Iterator[Removal]:
    if (home / "cache").exists():
        yield Removal(what="decoded images", place=home / "cache")


def _of_study(shared: Files) -> Iterator[Removal]:
    present = shared.children()
    for name in (CHECKPOINTS, MODELS):
        if name in present:
            yield Removal(what="checkpoints", place=shared / name)


def _entries(each: Purge, store: Path) -> Iterator[Removal]:
    for kind in ("splits", "models", *OUTPUTS):
        for path in sorted((store / kind).glob("*")):
            # Hidden: half-written by a process that was killed. Nobody writes now.
            if path.name.startswith(".") or each.unwanted(kind, _payload(path / RECORD)):
                yield Removal(what=_word(kind), place=path)


def _remote_entries(each: Purge, store: Files) -> Iterator[Removal]:
    for kind in ("splits", "models", *OUTPUTS):
        for name in (store / kind).children():
            entry = store / kind / name
            if entry.has(RECORD) and each.unwanted(kind, _parsed(entry.read(RECORD))):
                yield Removal(what=_word(kind), place=entry)


def _margins(folder: StudyFolder, home: Path) -> Iterator[Removal]:
    """Yield the margins of single images in evidence about a study."""
    for path in sorted((home / "evidence").glob(f"*/*/{MARGINS}")):
        board = path.with_name("leaderboard.json")
        # Damaged or missing: then it is not known whose margins they are.
        if not board.is_file() or json.dumps(folder.path.name) in board.read_text("utf-8"):
            yield Removal(what="margins of single images", place=path)


def _payload(path: Path) -> Mapping[str, Any]:
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return {}


def _parsed(content: bytes) -> Mapping[str, Any]:
    """Return the payload in a record of the store; empty if it is damaged."""
    try:
        return dict(json.loads(content)["payload"])
    except (ValueError, KeyError, TypeError):
        return {}


def _word(kind: str) -> str:
    words = {"splits": "lists of images", "models": "originals"}
    return words.get(kind, "outputs for single images")
