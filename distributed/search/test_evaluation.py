"""The final test evaluation: the best trials on `test`, the winner also under fresh seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import ray

from distributed.plan.plan import TESTED_TRIALS, Plan
from distributed.study.study import Study
from distributed.study.trials_table import Row, hyperparameters, ranked
from mixunlearn.evaluation import VERSION, Evaluator
from mixunlearn.problem import Problem
from mixunlearn.signature import seed_for, signature
from mixunlearn.store import Entry
from trainables.evaluate import TestResult, TestTask, evaluate_remotely

FRESH = "seed "  # start of the names of the winner's runs under fresh seeds
ASK_S = 1.0  # interval at which a test evaluation checks whether to stop

Task = TypeVar("Task")


class TestEvaluator:
    """Evaluates configurations on `test`, each once, with the results cached in the store.

    Args:
        plan: plan with the problem that the configurations unlearn.
        weights: whether to keep the unlearned models in addition to the metrics.
    """

    def __init__(self, plan: Plan, *, weights: bool = True) -> None:
        self.plan, self.weights = plan, weights

    def missing(self, tasks: Mapping[str, TestTask]) -> dict[str, TestTask]:
        """Return the tasks without a stored result; of equal tasks, only one."""
        store = self.plan.references.store
        payloads = {name: self._payload(task) for name, task in tasks.items()}
        # The default is often among the best trials.
        equal = {signature(payload): name for name, payload in payloads.items()}
        return {
            name: tasks[name]
            for name in equal.values()
            if not store.sound("unlearned", payloads[name])
        }

    def run(
        self,
        tasks: Mapping[str, TestTask],
        problem: Callable[[int], Problem],
        evaluator: Evaluator,
        enough: Callable[[], bool] = lambda: False,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """Run evaluations on the cluster in parallel; store each result when it arrives.

        Args:
            tasks: the configurations to evaluate.
            problem: returns the problem that they unlearn, by the number of the original.
            evaluator: the evaluator of the phase `test`.
            enough: called every second; returns whether to cancel the rest.
            ended: called after each evaluation.
        """
        resources = self.plan.experiment.resources
        remote = evaluate_remotely.options(num_cpus=resources.cpu, num_gpus=resources.gpu)
        # Once for all tasks: as plain arguments they would be pickled for each.
        problems = {n: ray.put(problem(n)) for n in {task.original for task in tasks.values()}}
        shared = ray.put(evaluator)
        # All at once: waiting tasks make an autoscaler rent nodes, and Ray keeps to the resources.
        running = {
            remote.remote(
                problems[task.original],
                shared,
                replace(task, most=len(tasks)),
                resources.cpu,
                self.plan.checkpoints,
            ): task
            for task in tasks.values()
        }

        def keep(task: TestTask, result: TestResult) -> None:
            self._keep(task, result)
            ended()

        collect(running, keep, enough)

    def keep_only(self, tasks: Mapping[str, TestTask]) -> None:
        """Remove the results of all other tasks of the study from the store.

        Raises:
            MixUnlearnError: one cannot be removed.
        """
        kept = {signature(self._payload(task)) for task in tasks.values()}
        self.plan.references.store.discard(
            "unlearned",
            lambda payload: payload["study"] == self.plan.study and signature(payload) not in kept,
        )

    def results(self, tasks: Mapping[str, TestTask]) -> dict[str, Entry]:
        """Return the stored result of each task.

        Raises:
            MissingError: a task has no stored result.
        """
        store, command = self.plan.references.store, self.plan.command
        return {
            name: store.read("unlearned", self._payload(task), command=command)
            for name, task in tasks.items()
        }

    def _keep(self, task: TestTask, result: TestResult) -> None:
        self.plan.references.store.write(
            "unlearned",
            self._payload(task),
            tensors=result.weights if self.weights else {},
            record={"metrics": dict(result.metrics)},
        )

    def _payload(self, task: TestTask) -> dict[str, object]:
        """Return everything that determines a result; the checkpoint it starts from does not."""
        return {
            "study": self.plan.study,
            "method": task.method,
            "parameters": dict(task.hyperparameters),
            "seed": task.seed,
            "epochs": task.epochs,
            "phase": "test",
            "version": VERSION,
            # Not 0: results of earlier versions have no such key.
            **({"original": task.original} if task.original else {}),
        }


def collect(
    running: dict[Any, Task], keep: Callable[[Task, Any], None], enough: Callable[[], bool]
) -> None:
    """Keep each result of Ray's tasks when it arrives; cancel the rest if it is enough.

    Args:
        running: reference of each running task -> what it computes; emptied.
        keep: called with what was computed and the result.
        enough: called every second; returns whether to cancel the rest.
    """
    try:
        while running and not enough():
            done, _ = ray.wait(list(running), timeout=ASK_S)
            for each in done:
                # At once: a killed driver loses only the tasks that were running.
                keep(running.pop(each), ray.get(each))
    finally:
        for each in running:
            # By force: a task has no point at which it could notice a gentle request.
            ray.cancel(each, force=True)


def test_tasks(plan: Plan, study: Study, rows: Sequence[Row]) -> dict[str, TestTask]:
    """Return the tasks of a sweep: the default, the best trials, the winner's fresh seeds."""
    best = ranked(rows, study.objective)[:TESTED_TRIALS]
    tasks = {f"trial {row['trial']}": trial_task(study, row, row["epochs"]) for row in best}
    default = default_row(rows, plan.default)
    if default is not None:
        # A default that was stopped early gets as many epochs as a complete trial.
        tasks["default"] = trial_task(study, default, plan.epochs)
    if best:
        for index in range(plan.fresh_runs):
            fresh = _fresh(study, best[0], index, plan.original_of(index))
            # One has the device to itself, which is the time to unlearn; all would take too long.
            tasks[f"{FRESH}{index}"] = (
                fresh if index else replace(fresh, timed=plan.references.recipe)
            )
    return tasks


def trial_task(study: Study, row: Row, epochs: int) -> TestTask:
    """Return the evaluation of a trial under its own seed; it may start from its checkpoint."""
    return TestTask(
        method=study.method,
        hyperparameters=hyperparameters(row),
        seed=int(study.config(row["trial"])["seed"]),
        epochs=epochs,
        trial=row["trial"],
    )


def _fresh(study: Study, row: Row, index: int, original: int) -> TestTask:
    return TestTask(
        method=study.method,
        hyperparameters=hyperparameters(row),
        seed=seed_for("report", study.seed, index),
        epochs=row["epochs"],
        # From scratch: the trial's checkpoints belong to its own seed.
        trial=None,
        original=original,
    )


def default_row(rows: Sequence[Row], default: Mapping[str, object]) -> Row | None:
    """Return the trial with the default configuration, unless it failed."""
    return next(
        (row for row in rows if hyperparameters(row) == default and row["state"] != "failed"), None
    )
