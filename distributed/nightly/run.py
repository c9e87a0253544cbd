"""Nights: the champion measured anew, the search continued, a duel, a verdict, a record.

Everything a night decides follows from the records of earlier nights and from the plan; all that
it measures is kept under its content's key. So a night that was cut off goes on where it was, and
the same night twice costs seconds.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from distributed import addresses
from distributed.addresses import one_line, redact
from distributed.driver import LOCK, FileLock
from distributed.experiment import Experiment
from distributed.nightly.night import Part, Work
from distributed.nightly.notices import delivery as notices
from distributed.nightly.records import SCHEMA, Nightly, Nights, Record, of_experiment
from distributed.nightly.retention import prune, size_of
from distributed.summary import distribution
from distributed.sweep import Session, own_run
from distributed.version import environment
from mixunlearn.metrics.nights import Word
from report.nightly.headline import headline
from report.nightly.markdown import markdown
from report.nightly.page import NIGHT_MARKDOWN, NIGHT_PAGE, write_night

RUNNING, DONE, FAILED = "running", "done", "failed"
WORST: Sequence[Word | None] = ("regressed", None, "inconclusive", "improved", "unchanged")
SOFTWARE = ("code", "changes", "python", "platform", "cpu", "gpus")


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
) -> Record:
    """Run a night, and those missed before it if the plan says so; return the night's record.

    A night that is done already is only returned, unless it is forced.

    Raises:
        MixUnlearnError: another process runs the plan, or a record is damaged.
        Interrupted: a stop was asked for; the same command goes on.
    """
    notices.check(nightly.tell)
    nights = Nights(home, nightly.name)
    lock = FileLock(nights.folder / LOCK, f"nightly {nightly.name}")
    lock.acquire()
    session.stack.callback(lock.release)
    earlier = nights.missed(night, nightly.window) if nightly.missed == "catch_up" else []
    record: Record = {}
    for each in (*earlier, night):
        known = nights.read(each)
        if known and known["state"] == DONE and not force:
            record = known
            continue
        attempt = known["attempt"] + (known["state"] == DONE) if known else 1
        going_on = known if known and known["state"] != DONE else None
        work = Work(
            nightly=nightly,
            night=each,
            attempt=attempt,
            home=home,
            session=session,
            command=command,
            local=local,
        )
        record = run_night(work, experiments, nights, going_on)
    return record


def run_night(
    work: Work, experiments: Sequence[Experiment], nights: Nights, known: Record | None
) -> Record:
    """Run one night, or what is missing of it; write its record and its page, tell of it.

    Args:
        work: what is to be done.
        experiments: of the plan.
        nights: where records are kept.
        known: what an earlier process did of this night.
    """
    before = nights.before(work.night)[-work.nightly.window :]
    record = _begun(work, known)
    nights.write(record)
    folder = nights.of(work.night)
    for experiment in experiments:
        work.session.stop.check()
        found = dict(of_experiment(record, experiment.name)) or {"name": experiment.name}
        if found.get("verdict") and found.get("promoted") != "":  # it was cut off in promoting
            continue
        past = [part for each in before if (part := of_experiment(each, experiment.name))]

        def keep(part: Mapping[str, Any]) -> None:
            others = [each for each in record["experiments"] if each["name"] != part["name"]]
            record["experiments"] = [*others, dict(part)]
            nights.write(record)

        try:
            Part(work=work, experiment=experiment, past=past, found=found, keep=keep).run()
        except Exception as error:
            reason = redact(one_line(error))
            keep({**found, "verdict": None, "why": reason})
            record["error"] = f"{experiment.name}: {reason}"
            work.session.progress.say(f"{experiment.name}: {reason}")
    _finish(record, before, work)
    write_night([*before, record], folder)
    _track(record, before, work, experiments[0], folder)
    _tell(record, before, work)
    nights.write(record)  # with this it is done: what was cut off before is done once more
    for line in prune(nights, work.nightly, experiments, work.home):
        work.session.progress.say(f"old nights: {line}")
    return record


def _begun(work: Work, known: Record | None) -> Record:
    """Return the record of a night that begins, or goes on."""
    fresh = {
        "schema": SCHEMA,
        "plan": work.nightly.name,
        "date": work.night.isoformat(),
        "attempt": work.attempt,
        "began": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": 0.0,
        "experiments": [],
        "told": [],
        "links": {"mlflow": None},
    }
    return {
        **fresh,
        **(known or {}),
        "state": RUNNING,
        "ended": None,
        "verdict": None,
        "error": None,
        "margin": work.nightly.margin,
        "environment": environment(),
    }


def _finish(record: Record, before: Sequence[Record], work: Work) -> None:
    """Complete a record: the causes that are known, the disk, the verdict of all."""
    last = before[-1] if before else None
    size = size_of(work.home)
    for part in record["experiments"]:
        then = of_experiment(last, part["name"]) if last else {}
        part["causes"] = [*_changed(record, last), *_moved(part, then)] if then else []
        part["disk_bytes"] = size
    verdicts = [part["verdict"] for part in record["experiments"]]
    record["verdict"] = next((word for word in WORST if word in verdicts), None)
    record["state"] = FAILED if record["error"] else DONE
    record["seconds"] = round(record["seconds"] + time.monotonic() - work.began, 3)
    record["ended"] = datetime.now().astimezone().isoformat(timespec="seconds")


def _changed(now: Mapping[str, Any], then: Mapping[str, Any] | None) -> list[str]:
    """Return how code, machine and packages differ from those of the night before."""
    if then is None:
        return []
    new, old = now["environment"], then["environment"]
    found = [
        f"{name}: {old.get(name)} → {new.get(name)}"
        for name in SOFTWARE
        if old.get(name) != new.get(name)
    ]
    packages, others = new["packages"], old["packages"]
    return found + [
        f"package {name}: {others.get(name, 'none')} → {packages.get(name, 'none')}"
        for name in sorted({*packages, *others})
        if packages.get(name) != others.get(name)
    ]


def _moved(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """Return how data, recipe and champion differ from those of the night before."""
    names = {"data": "data digest", "recipe": "training recipe", "base": "experiment"}
    found = [
        f"{what}: {str(then.get(name))[:12]} → {str(now.get(name))[:12]}"
        for name, what in names.items()
        if then.get(name) != now.get(name)
    ]
    keys = [(night.get("champion") or {}).get("key") for night in (then, now)]
    return found + [f"champion: {keys[0]} → {keys[1]}"] * (keys[0] != keys[1])


def _track(
    record: Record,
    before: Sequence[Record],
    work: Work,
    experiment: Experiment,
    folder: Path,
) -> None:
    """Log the night as a run of the plan's experiment in MLflow."""
    uri, _ = addresses.resolve(experiment.tracking.uri, experiment.tracking.storage, work.home)
    tags = {"mixunlearn.nightly": record["plan"], "mixunlearn.date": record["date"]}
    with own_run(
        experiment.tracking,
        work.home,
        experiment=f"nightly {record['plan']}",
        title=f"night {record['plan']} {record['date']}",
        tags={**tags, "mixunlearn.verdict": str(record["verdict"])},
        about=markdown([*before, record]),
        folder=folder,
        session=work.session,
    ) as (tracker, run):
        record["links"] = {"mlflow": _page_of(uri, run)}
        write_night([*before, record], folder)
        for name in (NIGHT_PAGE, NIGHT_MARKDOWN):
            tracker.log_artifact(None, folder / name)
        state = "failed" if record["error"] else "complete"
        tracker.finish_study(state, dict(_metrics(record)))


def _page_of(uri: str, run: str | None) -> str | None:
    server = run is not None and uri.startswith(addresses.REMOTE)
    return f"{redact(uri).rstrip('/')}/#/runs/{run}" if server else None


def _metrics(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield what is worth a curve over the nights."""
    for part in record["experiments"]:
        name = part["name"]
        if part.get("gaps"):
            yield f"{name}/gap/avg", distribution(part["gaps"])["mean"]
        for what, key in (("shift", "mean"), ("cusum", "level"), ("duel", "mean")):
            if part.get(what):
                yield f"{name}/{what}", part[what][key]


def _tell(record: Record, before: Sequence[Record], work: Work) -> None:
    """Tell whoever the plan names, if there is news."""
    tell = work.nightly.tell
    if notices.due(tell.when, record, before[-1] if before else None):
        text = markdown([*before, record])
        told = notices.tell(tell, subject=headline(record), text=text, home=work.home)
        record["told"] = told
        for line in told:
            work.session.progress.say(f"told: {line}")
