"""What happens to a trial's results: study, MLflow, trials.parquet, progress."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from distributed.progress import Count, Progress
from distributed.results import ranked, read_trials, write_trials
from distributed.study import Study
from distributed.tracking import Tracker
from distributed.unsaved import Unsaved

METRIC_PREFIXES = ("acc/", "mia/", "div/", "time/", "train/", "gap/", "z/")


class Recorder(Unsaved, tune.Callback):
    """Tune's callback: records each epoch and each end of a trial, and never waits for MLflow.

    Args:
        study: the record.
        tracker: MLflow's background writer.
        table: path of trials.parquet.
        epochs: after how many a trial is complete.
        trial_seconds: the time limit of a trial, if there is one.
        total: how many trials are wanted in all.
        tags: of each trial's MLflow run.
        progress: told of each epoch.
    """

    def __init__(
        self,
        *,
        study: Study,
        tracker: Tracker,
        table: Path,
        epochs: int,
        trial_seconds: float | None,
        total: int,
        tags: Mapping[str, str],
        progress: Progress,
    ) -> None:
        self.study, self.tracker, self.table = study, tracker, table
        self.epochs, self.trial_seconds = epochs, trial_seconds
        self.tags, self.progress = dict(tags), progress
        self.rows = study.rows()
        self.run_ids = known_run_ids(table)
        self.count = Count(total, len(self.rows))
        self.epochs_done = 0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number, config = trial.config["trial"], trial.config
        parameters = {name: value for name, value in config.items() if name != "trial"}
        name = f"{number:04d} {self.study.method}"
        tags = {**self.tags, "mixunlearn.trial_id": self.study.trial_id(config)}
        self.tracker.start_trial(number, name, parameters, tags)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number, epoch = trial.config["trial"], result["training_iteration"]
        metrics = {name: result[name] for name in result if name.startswith(METRIC_PREFIXES)}
        self.study.report(number, epoch, metrics)
        self.tracker.log_epoch(number, epoch, metrics)
        self.epochs_done += 1
        self._show(trials, event=False)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        state, error = self._outcome(result)
        self._finish(trial, state, error)
        self._show(trials, event=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._finish(trial, "failed", last_line(trial.error_file))
        self._show(trials, event=True)

    def write_table(self) -> None:
        """Write trials.parquet, off the event loop."""
        rows = sorted(self.rows, key=lambda row: int(row["trial"]))
        known, path = self.run_ids, self.table

        def write(run_ids: Mapping[int, str]) -> None:
            ids = {**known, **run_ids}
            write_trials([{**row, "mlflow_run_id": ids.get(row["trial"])} for row in rows], path)

        self.tracker.call(write)

    def _outcome(self, result: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return state and reason of a trial that was stopped without an error."""
        if "diverged" in result:
            return "failed", result["diverged"]
        if result["training_iteration"] >= self.epochs:
            return "complete", None
        if self.trial_seconds and result["time_total_s"] >= self.trial_seconds:
            return "pruned", f"stopped after resources.trial_seconds = {self.trial_seconds:g}"
        return "pruned", None

    def _finish(self, trial: Any, state: str, error: str | None) -> None:
        number = trial.config["trial"]
        checkpoint = trial.checkpoint.path if trial.checkpoint else None
        seconds = (trial.last_result or {}).get("time_total_s", 0.0)
        row = self.study.finish(number, state, seconds=seconds, error=error, checkpoint=checkpoint)
        metrics = {name: row[name] for name in row if name.startswith(METRIC_PREFIXES)}
        self.tracker.finish_trial(number, row["state"], metrics, row["error"])
        self.rows.append(row)
        self.count.done += 1
        self.write_table()

    def _show(self, trials: list[Any], *, event: bool) -> None:
        states = [row["state"] for row in self.rows]
        running = sum(trial.status == "RUNNING" for trial in trials)
        objective = self.study.objective
        best = [f", best {objective} {row[objective]:.2f}" for row in ranked(self.rows, objective)]
        line = (
            f"trials: {self.count.done} of {self.count.total} done "
            f"({states.count('pruned')} pruned, {states.count('failed')} failed), "
            f"{running} running, {self.epochs_done} epochs{''.join(best[:1])}{self.count.left()}"
        )
        self.progress.show(line, event=event)


def known_run_ids(table: Path) -> dict[int, str]:
    """Return the MLflow runs that trials.parquet knows of, by trial."""
    rows = read_trials(table) if table.exists() else []
    return {
        int(str(row["trial"])): str(row["mlflow_run_id"]) for row in rows if row["mlflow_run_id"]
    }


def last_line(error_file: str | None) -> str:
    """Return the last line of a trial's error file: what was raised."""
    if error_file is None or not Path(error_file).exists():
        return "the worker died"
    lines = Path(error_file).read_text().strip().splitlines()
    return lines[-1].strip() if lines else "the worker died"
