"""Nights: measure the champion again, continue the search, duel, judge, record.

All decisions of a night follow from the plan and from the records of earlier nights. All its
measurements are cached in the store under a key made from their inputs. So an interrupted night
resumes where it stopped, and to run the same night twice costs seconds.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from distributed.cluster.version import environment
from distributed.config.experiment import Experiment
from distributed.config.nightly import Nightly
from distributed.nightly.causes import causes
from distributed.nightly.context import NightContext
from distributed.nightly.night import ExperimentNight
from distributed.nightly.nights import Nights
from distributed.nightly.notices.tell import check
from distributed.nightly.publication import publish
from distributed.nightly.records import NightRecord, PartRecord
from distributed.nightly.retention import prune, size_of
from distributed.runtime.text import one_line, redact
from distributed.search.session import Session
from distributed.study.folder import LOCK
from distributed.study.lock import FileLock
from mixunlearn.metrics.nights import Word

# None: an experiment could not be judged. Only a regression matters more.
MOST_NOTABLE_FIRST: Sequence[Word | None] = (
    *("regressed", None, "inconclusive", "improved", "unchanged"),
)


class Journal:
    """The record of a running night: each result of an experiment is written immediately.

    Args:
        nights: where records are kept.
        record: record of the night as it begins or resumes.
    """

    def __init__(self, nights: Nights, record: NightRecord) -> None:
        self.nights, self.record = nights, record
        # Written at once, so that a night killed during its first step is known to have begun.
        nights.write(record)

    def keep(self, part: PartRecord) -> None:
        """Write what the night has found of an experiment so far."""
        self.record = self.record.with_part(part)
        self.nights.write(self.record)


def run_nights(
    nightly: Nightly,
    experiments: Sequence[Experiment],
    night: date,
    session: Session,
    home: Path,
    *,
    command: str,
    local: bool = True,
    force: bool = False,
) -> NightRecord:
    """Run a night, after those missed before it if the plan says so; return the night's record.

    If the night is already done, its record is returned and nothing is run, unless `force` is set.

    Raises:
        MixUnlearnError: another process runs the plan, or a record is damaged.
        Interrupted: a stop was requested; the same command resumes.
    """
    # First: a missing password must be found now, not after hours at the night's end.
    check(nightly.tell)
    nights = Nights(home, nightly.name)
    lock = FileLock(nights.folder / LOCK, f"nightly {nightly.name}")
    lock.acquire()
    session.stack.callback(lock.release)

    context = NightContext(
        nightly=nightly, night=night, home=home, session=session, command=command, local=local
    )
    # Oldest first: each night is judged by those before it.
    for missed in nights.missed(night, nightly.window) if nightly.missed == "catch_up" else []:
        _run_unless_done(replace(context, night=missed), experiments, nights, force=force)
    return _run_unless_done(context, experiments, nights, force=force)


def _run_unless_done(
    context: NightContext, experiments: Sequence[Experiment], nights: Nights, *, force: bool
) -> NightRecord:
    """Run a night, resume it, or return its record; a forced night is a new attempt."""
    # Each night that is caught up has the whole time limit.
    context = replace(context, began=time.monotonic())
    known = nights.read(context.night)
    if known is None:
        return run_night(context, experiments, nights, None)
    # A failed night too: its cause may be gone, and finished experiments are not run again.
    # The same attempt has the same seeds, so measurements of the earlier process are found.
    if known.state != "done":
        return run_night(replace(context, attempt=known.attempt), experiments, nights, known)
    if not force:
        return known
    # Without the old record, whose parts are complete and would be skipped.
    return run_night(replace(context, attempt=known.attempt + 1), experiments, nights, None)


def run_night(
    context: NightContext,
    experiments: Sequence[Experiment],
    nights: Nights,
    known: NightRecord | None,
) -> NightRecord:
    """Run one night, or the rest of it; write its record and its page, send notices.

    Args:
        context: context of the night.
        experiments: experiments of the plan.
        nights: where records are kept.
        known: record that an earlier process began; `None`: the night begins now.
    """
    before = nights.before(context.night)[-context.nightly.window :]
    journal = Journal(nights, _begun(context, known))
    for experiment in experiments:
        context.session.stop.check()
        _run_experiment(context, experiment, before, journal)
    record = _finished(journal.record, before[-1] if before else None, context)
    folder = nights.of(context.night)
    # A plan has no tracking settings of its own: its run is kept where the first experiment's are.
    record = publish(record, before, context, experiments[0], folder)
    nights.write(record)  # only now the night is done: if interrupted before, it runs again
    # After the night is done: an error or a stop here does not make it run again.
    for line in prune(nights, context.nightly, experiments, context.home):
        context.session.progress.say(f"old nights: {line}")
    return record


def _begun(context: NightContext, known: NightRecord | None) -> NightRecord:
    """Return the record of a night that begins or resumes."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    fresh = NightRecord(
        plan=context.nightly.name, date=context.night, began=now, links={"mlflow": None}
    )
    return replace(
        known or fresh,
        attempt=context.attempt,
        state="running",
        ended=None,
        verdict=None,
        error=None,
        margin=context.nightly.margin,
        environment=environment(),
    )


def _run_experiment(
    context: NightContext,
    experiment: Experiment,
    before: Sequence[NightRecord],
    journal: Journal,
) -> None:
    """Run an experiment, or the rest of it; an error is recorded, and the others still run."""
    name = experiment.name
    found = journal.record.part(name) or PartRecord(name=name)
    if found.complete:
        return
    night = ExperimentNight(
        context=context,
        experiment=experiment,
        past=[part for each in before if (part := each.part(name))],
        found=found,
        keep=journal.keep,
    )
    try:
        night.run()
    except Exception as error:  # not `Interrupted`, a KeyboardInterrupt: it ends the command
        reason = redact(one_line(error))
        # Without a verdict it is not complete, so the same command runs it again.
        journal.keep(replace(night.found, verdict=None, why=reason))
        journal.record = replace(journal.record, error=f"{name}: {reason}")
        context.session.progress.say(f"{name}: {reason}")


def _finished(record: NightRecord, last: NightRecord | None, context: NightContext) -> NightRecord:
    """Return a record with known causes of changes, the home's size, and the night's verdict."""
    size = size_of(context.home)
    parts = [
        replace(part, causes=causes(record, last, part), disk_bytes=size)
        for part in record.experiments
    ]
    verdicts = [part.verdict for part in parts]
    return replace(
        record,
        experiments=parts,
        verdict=next((word for word in MOST_NOTABLE_FIRST if word in verdicts), None),
        state="failed" if record.error else "done",
        seconds=round(record.seconds + time.monotonic() - context.began, 3),
        ended=datetime.now().astimezone().isoformat(timespec="seconds"),
    )
