"""Removes files of old nights after a while; their numbers are never removed.

So the plan bounds the size of a home, a store and MLflow. What is removed here is either in the
records of nights as numbers, or can be computed again.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import closing
from pathlib import Path

from distributed.config.experiment import Experiment
from distributed.config.nightly import Nightly
from distributed.nightly.nights import Nights, plans_of
from distributed.nightly.records import NightRecord
from distributed.plan.plan import Plan
from distributed.runtime.addresses import resolve
from distributed.runtime.text import one_line, redact
from distributed.search.session import open_study
from distributed.search.test_evaluation import TestEvaluator, test_tasks
from distributed.study.folder import REPORT, SPOOL
from distributed.study.trials_table import ranked
from distributed.tracking.deletion import delete_old_versions
from mixunlearn.errors import MixUnlearnError
from mixunlearn.store import Store
from report.nightly.page import NIGHT_MARKDOWN, NIGHT_PAGE

# Parts of a study. Without checkpoints, a trial that is resumed later starts from its beginning;
# `mixunlearn report` draws the page again.
LARGE = ("checkpoints", "models", "model", "plots", REPORT)


def tidy(plan: Plan, drawn: Plan, seeds: Iterable[int]) -> None:
    """Remove what a night's search and its measurements leave in addition to their numbers.

    This removes the models of trials that are no longer among the best, once MLflow has them, and
    results under seeds of earlier nights, which are in those nights' records.

    Args:
        plan: plan of the study that is searched.
        drawn: plan of the night's forget set.
        seeds: fresh seeds of the night.
    """
    kept = set(seeds)
    drawn.references.store.discard(
        "unlearned",
        lambda payload: payload["study"] == drawn.study and payload["seed"] not in kept,
    )
    if (plan.folder / SPOOL).exists():  # MLflow still needs these files
        return
    with closing(open_study(plan)) as study:
        rows = study.rows()
        TestEvaluator(plan).keep_only(test_tasks(plan, study, rows))
        best = ranked(rows, study.objective)[:1]
    named = {f"trial-{row['trial']}" for row in best}
    for folder in (plan.folder / "model").glob("trial-*"):
        if folder.name not in named:
            # What cannot be removed costs space only; the next night tries again.
            shutil.rmtree(folder, ignore_errors=True)


def prune(
    nights: Nights, nightly: Nightly, experiments: Sequence[Experiment], home: Path
) -> list[str]:
    """Remove the pages of old nights and the large files of studies that are no longer in use.

    Args:
        nights: the nights of the plan; all their records are kept.
        nightly: the plan; it says how many nights keep all their files.
        experiments: experiments of the plan.
        home: where results are kept.

    Returns:
        Why something could not be removed, one line each; the next night retries.
    """
    dates = nights.dates()
    # `keep` is at least 1: with 0, this slice would be empty and nothing would be removed.
    old = dates[: -nightly.keep]
    for night in old:
        for name in (NIGHT_PAGE, NIGHT_MARKDOWN):
            # `night.json` stays: later verdicts and charts are made from it.
            (nights.of(night) / name).unlink(missing_ok=True)
    abandoned = _abandoned((nights.read(night) for night in old), _in_use(home, nightly.keep))
    try:
        _remove(set().union(*abandoned.values()), home)
        for experiment in experiments:
            uri, _ = resolve(experiment.tracking.uri, experiment.tracking.storage, home)
            delete_old_versions(uri, experiment.name, abandoned[experiment.name], keep=nightly.keep)
    except (MixUnlearnError, OSError) as error:
        return [redact(one_line(error))]
    return []


def size_of(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes."""
    # lstat: a link must not count a file outside of the folder, or one twice.
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _abandoned(
    records: Iterable[NightRecord | None], in_use: Set[str]
) -> defaultdict[str, set[str]]:
    """Return the studies of each experiment that nights mention and that are not in use."""
    found = defaultdict[str, set[str]](set)
    for name, study in _studies(records):
        found[name] |= {study} - in_use
    return found


def _in_use(home: Path, keep: int) -> set[str]:
    """Return the studies that the last nights of any plan mention: plans may share a study."""
    kept = (plan.read(night) for plan in plans_of(home) for night in plan.dates()[-keep:])
    return {study for _, study in _studies(kept)}


def _remove(studies: Set[str], home: Path) -> None:
    """Remove the large parts of studies from a home."""
    for study in studies:
        for path in (home / "studies" / study / part for part in LARGE):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    # A store is read as a whole to discard anything: not without need.
    if studies:
        Store(home / "store").discard("unlearned", lambda payload: payload["study"] in studies)


def _studies(records: Iterable[NightRecord | None]) -> Iterator[tuple[str, str]]:
    """Yield the studies that nights mention, each with its experiment's name."""
    for record in records:
        for part in record.experiments if record else ():
            for study in part.studies:
                yield part.name, study
