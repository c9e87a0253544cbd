"""Publishes a night: its page, its run in MLflow, its notices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed.config.experiment import Experiment
from distributed.nightly.context import NightContext
from distributed.nightly.notices.news import due
from distributed.nightly.notices.tell import tell
from distributed.nightly.records import NightRecord, PartRecord
from distributed.runtime import addresses
from distributed.runtime.text import redact
from distributed.search.runs import own_run
from distributed.search.summary import distribution
from distributed.tracking.tags import DATE, NIGHTLY, VERDICT
from report.nightly.headline import headline
from report.nightly.markdown import markdown
from report.nightly.page import NIGHT_MARKDOWN, NIGHT_PAGE, write_night


def publish(
    record: NightRecord,
    before: Sequence[NightRecord],
    context: NightContext,
    experiment: Experiment,
    folder: Path,
) -> NightRecord:
    """Write a night's page, log its run, send notices; return its record with links and notices.

    Args:
        record: complete record of the night.
        before: records of earlier nights, oldest first.
        context: context of the night.
        experiment: experiment with the tracking settings for the run.
        folder: folder of the night.
    """
    # Before MLflow: the page must be there even if MLflow does not answer.
    write_night(_plain(before, record), folder)
    record = _track(record, before, context, experiment, folder)
    # Last: a notice must not announce a page that is not there yet.
    return _notify(record, before, context)


def _plain(before: Sequence[NightRecord], record: NightRecord) -> list[Mapping[str, Any]]:
    return [each.as_json() for each in (*before, record)]


def _track(
    record: NightRecord,
    before: Sequence[NightRecord],
    context: NightContext,
    experiment: Experiment,
    folder: Path,
) -> NightRecord:
    """Log the night as a run of the plan's experiment in MLflow; its page links to the run."""
    tracking, date = experiment.tracking, record.date.isoformat()
    tags = {NIGHTLY: record.plan, DATE: date}
    with own_run(
        tracking,
        context.home,
        experiment=f"nightly {record.plan}",
        title=f"night {record.plan} {date}",
        tags={**tags, VERDICT: str(record.verdict)},
        about=markdown(_plain(before, record)),
        folder=folder,
        session=context.session,
    ) as (tracker, run):
        uri, _ = addresses.resolve(tracking.uri, tracking.storage, context.home)
        record = replace(record, links={"mlflow": _page_of(uri, run)})
        write_night(_plain(before, record), folder)  # again: now with the link to the run
        for name in (NIGHT_PAGE, NIGHT_MARKDOWN):
            tracker.log_artifact(None, folder / name)
        tracker.finish_study("failed" if record.error else "complete", dict(_metrics(record)))
    return record


def _page_of(uri: str, run: str | None) -> str | None:
    """Return the address of a run's page; `None` without a server."""
    # A database has no pages that a link could open.
    server = run is not None and uri.startswith(addresses.REMOTE)
    return f"{redact(uri).rstrip('/')}/#/runs/{run}" if server else None


def _metrics(record: NightRecord) -> Iterator[tuple[str, float]]:
    """Yield the values that MLflow shows as curves over the nights."""
    for part in record.experiments:
        for name, value in _curves(part).items():
            # MLflow refuses metrics that are no numbers.
            if value is not None:
                yield f"{part.name}/{name}", value


def _curves(part: PartRecord) -> dict[str, float | None]:
    return {
        "gap/avg": distribution(part.gaps)["mean"],
        "shift": part.shift.mean if part.shift else None,
        "cusum": part.cusum.level if part.cusum else None,
        "duel": part.duel.mean if part.duel else None,
    }


def _notify(
    record: NightRecord, before: Sequence[NightRecord], context: NightContext
) -> NightRecord:
    """Send the plan's notices, if they are due; return the record with the result of each."""
    who = context.nightly.tell
    if not due(who.when, record, before[-1] if before else None):
        return record
    nights = _plain(before, record)
    told = tell(who, subject=headline(nights[-1]), text=markdown(nights), home=context.home)
    for line in told:
        context.session.progress.say(f"notice: {line}")
    return replace(record, told=told)
