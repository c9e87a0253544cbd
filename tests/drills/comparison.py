"""Lost, doubled, altered: compares a disturbed study with an undisturbed one of the same seed."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import torch
import yaml
from optuna.trial import TrialState

from distributed.config.read import make_experiment
from distributed.plan.make import make_plan
from distributed.study.attempt import CONFIG
from distributed.study.storage import open_record
from distributed.study.trials_table import hyperparameters, read_trials
from distributed.tracking.server import set_defaults
from mixunlearn.signature import seed_for
from mixunlearn.trial import Trial

set_defaults()
optuna.logging.set_verbosity(optuna.logging.WARNING)

# Columns of a row that depend on where and when a study ran: times and names.
VARYING = {"study", "trial_id", "seconds", "mlflow_run_id", "folder", "tracking_uri", "name"}
FINAL = ("complete", "pruned", "failed")
SUMMARY = ("best", "default", "original", "references", "spread", "trials")
OPEN = (TrialState.RUNNING, TrialState.WAITING)

Row = Mapping[str, Any]


@dataclass(kw_only=True)
class Tally:
    """Counts of the differences found, with descriptions of the first few."""

    lost: int = 0
    doubled: int = 0
    altered: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, number: int, note: str) -> None:
        """Count the differences of a kind, if there are any."""
        if number:
            setattr(self, kind, getattr(self, kind) + number)
            self.notes.append(f"{kind}: {note}")

    @property
    def note(self) -> str:
        """The notes in one line."""
        return "; ".join(self.notes[:6])


def numbers(value: object) -> object:
    """Return plain data without times and names; NaN and null are the same."""
    if isinstance(value, Mapping):
        kept = (name for name in value if name not in VARYING and "time/" not in str(name))
        return {name: numbers(value[name]) for name in sorted(kept)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [numbers(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def differing(first: Row, second: Row) -> list[str]:
    """Return the keys in which two mappings differ; a key that is null may be missing."""
    keys = sorted({*first, *second})
    return [key for key in keys if numbers({0: first.get(key)}) != numbers({0: second.get(key)})]


def compare_tables(expected: Sequence[Row], found: Sequence[Row], tally: Tally) -> None:
    """Compare trials.parquet with that of an undisturbed run: identical numbers."""
    compare_trials(expected, found, tally)
    wanted = {row["trial"]: row for row in expected}
    for row in found:
        columns = differing(wanted.get(row["trial"], row), row)
        columns = [name for name in columns if name not in VARYING and "time/" not in name]
        tally.add("altered", bool(columns), f"trial {row['trial']}: {', '.join(columns[:4])}")


def compare_trials(expected: Sequence[Row], found: Sequence[Row], tally: Tally) -> None:
    """Compare the lists of trials: each trial exists once, and each has ended."""
    wanted, there = {row["trial"] for row in expected}, Counter(row["trial"] for row in found)
    missing = sorted(wanted - there.keys())
    more = sorted((there - Counter(wanted)).elements())
    open_ = [row["trial"] for row in found if row["state"] not in FINAL]
    tally.add("lost", len(missing), f"no row of trials {missing}")
    tally.add("doubled", len(more), f"more rows of trials {more}")
    tally.add("lost", len(open_), f"trials {open_} without an end")


def compare_summaries(expected: Row, found: Row, tally: Tally) -> None:
    """Compare the verdict, metrics on `test` included."""
    keys = [key for key in differing(expected, found) if key in SUMMARY]
    tally.add("altered", len(keys), f"summary: {', '.join(keys)}")


def check_record(storage: str, rows: Sequence[Row], tally: Tally) -> None:
    """Check Optuna's record of a study: every trial of the table exists once, and none is open."""
    study = str(rows[0]["study"])
    record, key = open_record(storage, study)
    trials = record.get_all_trials(key, deepcopy=False)
    record.remove_session()
    if engine := getattr(getattr(record, "_backend", None), "engine", None):
        engine.dispose()  # with a server, an open connection would cause a warning
    left = [trial.number for trial in trials if trial.state in OPEN]
    tally.add("lost", len(left), f"record: trials {left} are not finished")
    there = Counter(trial.user_attrs.get(CONFIG, {}).get("trial") for trial in trials)
    retried = Counter({row["trial"]: 1 for row in rows})
    failed = sum(trial.state == TrialState.FAIL for trial in trials)
    more = sorted((there - retried).elements(), key=str)
    # The record has each attempt of a trial that was retried after a failure.
    tally.add("doubled", max(0, len(more) - failed), f"record: more attempts of trials {more}")


def check_tracking(uri: str, rows: Sequence[Row], tally: Tally) -> None:
    """Check MLflow: one run per trial, each epoch once, final metrics as in the table."""
    from mlflow import MlflowClient  # noqa: PLC0415 (slow, and needs its defaults first)

    client = MlflowClient(tracking_uri=uri)
    study = str(rows[0]["study"])
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(
        experiments, f"tags.`mixunlearn.study` = '{study}'", max_results=10_000
    )
    by_trial: dict[str | None, list[Any]] = {}
    for run in runs:
        by_trial.setdefault(run.data.tags.get("mixunlearn.trial"), []).append(run)
    for name in (None, *(str(row["trial"]) for row in rows)):
        there = len(by_trial.get(name, []))
        what = f"MLflow: trial {name}" if name else "MLflow: the study"
        tally.add("lost", there == 0, f"{what} has no run")
        tally.add("doubled", max(0, there - 1), f"{what} has {there} runs")
    for row in rows:
        for run in by_trial.get(str(row["trial"]), [])[:1]:
            _check_run(client, run, row, tally)


def _check_run(client: Any, run: Any, row: Row, tally: Tally) -> None:
    """Check the run of a trial."""
    name = f"MLflow: trial {row['trial']}"
    steps = Counter(metric.step for metric in client.get_metric_history(run.info.run_id, "gap/avg"))
    wanted = Counter(range(1, row["epochs"] + 1)) if row.get("gap/avg") is not None else steps
    tally.add("lost", (wanted - steps).total(), f"{name}: no epochs {[*(wanted - steps)]}")
    tally.add("doubled", (steps - wanted).total(), f"{name}: more epochs {[*(steps - wanted)]}")
    held = run.data.metrics
    differ = [key for key in held if key in row and row[key] != held[key]]
    tally.add("altered", bool(differ), f"{name}: {', '.join(differ[:4])}")
    tag = run.data.tags.get("mixunlearn.state")
    tally.add("altered", tag != row["state"], f"{name}: state {tag}, not {row['state']}")


def reevaluate(experiment: Path, home: Path, rows: Iterable[Row], tally: Tally) -> None:
    """Run each trial's parameters again, in this process alone: the numbers must be the same."""
    checked = make_experiment(yaml.safe_load(experiment.read_text()))
    plan = make_plan(checked, home, command="a drill")
    problem = plan.references.problem(with_labels=checked.labels == "aware")
    torch.set_num_threads(int(checked.resources.cpu))
    for row in rows:
        given = {name: value for name, value in hyperparameters(row).items() if value is not None}
        seed = seed_for("trial", checked.search.seed, row["trial"])
        trial = Trial(problem, checked.method, given, seed, torch.device("cpu"))
        metrics: dict[str, float] = {}
        while trial.epochs_done < row["epochs"]:
            metrics = trial.epoch()
        columns = [
            name for name in metrics if "time/" not in name and row.get(name) != metrics[name]
        ]
        tally.add("altered", bool(columns), f"trial {row['trial']} evaluated: {columns[:4]}")


def compare_models(expected: Path, found: Path, tally: Tally) -> None:
    """Compare the weights of originals and references in two stores, byte by byte."""
    for path in sorted(expected.glob("models/*/*.safetensors")):
        other = found / path.relative_to(expected)
        if not other.exists():
            tally.add("lost", 1, f"store: no {other.parent.name}")
        elif other.read_bytes() != path.read_bytes():
            tally.add("altered", 1, f"store: {other.parent.name}")


def read_study(folder: Path) -> tuple[list[Row], Row]:
    """Return the table and the summary of a study's folder."""
    rows: list[Row] = [*read_trials(folder / "trials.parquet")]
    return rows, json.loads((folder / "summary.json").read_text())


def study_folder(home: Path) -> Path:
    """Return the folder of the one study in a home."""
    (folder,) = [path for path in (home / "studies").iterdir() if not path.name.startswith(".")]
    return folder
