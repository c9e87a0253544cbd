"""The best trial's model: saved, registered, promoted."""

from collections.abc import Mapping, Sequence
from typing import Any

from distributed.plan.plan import Plan
from distributed.runtime.progress import Progress
from distributed.search.runs import TRACKING_TIMEOUT_S, tags
from distributed.study.trials_table import read_trials
from distributed.tracking.model_files import MLMODEL, discard, save_model
from distributed.tracking.names import GAP
from distributed.tracking.promotion import promote
from distributed.tracking.tags import STUDY, TRIAL, TRIAL_ID
from distributed.tracking.tracker import Tracker
from mixunlearn.errors import MissingError
from mixunlearn.store import Entry
from report.card import model_card
from report.report_data import ReportData


def log_best(
    tracker: Tracker,
    plan: Plan,
    report_data: ReportData,
    examined: Mapping[str, Entry],
    progress: Progress,
) -> None:
    """Save the best trial's model, if it is not saved yet, and register it as the candidate."""
    best: Mapping[str, Any] = next(iter(report_data.summary["best"]), {})
    entry = examined.get(f"trial {best.get('trial')}")
    if entry is None:
        return
    # One folder for each trial: the next best model must not replace one that is still queued.
    folder = plan.study_folder.model(best["trial"])
    about = tags(plan) | model_tags(report_data)
    name = plan.experiment.name
    saved = (folder / MLMODEL).is_file()
    # Only what this command wrote itself is registered: whoever loads the model runs its program.
    if not (saved and tracker.has_model(name, about[TRIAL_ID], TRACKING_TIMEOUT_S)):
        discard(folder)
        progress.show(f"saving the model of trial {best['trial']}")
        architecture = plan.references.architecture
        reason = save_model(
            architecture.load(entry.tensors),
            folder,
            architecture=architecture,
            classes=plan.dataset.classes,
            card=model_card(report_data),
            metadata=about,
        )
        if reason:
            progress.say(f"model: {folder} has only weights; the export failed: {reason}")
    tracker.log_model(best["trial"], folder, name, about)


def model_tags(report_data: ReportData) -> dict[str, str]:
    """Return the tags of the best trial's model: its study, its trial, its gap."""
    number = report_data.summary["best"][0]["trial"]
    # Under fresh seeds: its own value is biased, because it was chosen for being the best.
    again = report_data.summary["spread"]["gap/avg"]
    gaps = {GAP: again["mean"], f"{GAP}_sd": again["sd"], f"{GAP}_n": again["n"]}
    return {
        STUDY: report_data.study,
        TRIAL: str(number),
        TRIAL_ID: _trial_id(report_data.rows, number),
        **{name: str(value) for name, value in gaps.items() if value is not None},
    }


def promote_best(plan: Plan, summary: Mapping[str, Any]) -> str:
    """Make the best trial's model the experiment's champion; return what was done, in words.

    Raises:
        MissingError: there is no such model.
        MixUnlearnError: it is worse than the champion, they cannot be compared, or MLflow does not
            answer.
    """
    if not summary["best"]:
        raise MissingError(f"{plan.study}: no trial succeeded, so there is nothing to promote")
    rows = read_trials(plan.study_folder.trials)
    return promote(
        plan.tracking_uri, plan.experiment.name, _trial_id(rows, summary["best"][0]["trial"])
    )


def _trial_id(rows: Sequence[Mapping[str, Any]], trial: int) -> str:
    return next(str(row["trial_id"]) for row in rows if row["trial"] == trial)
