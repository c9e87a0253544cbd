"""The final examination: the best trials on `test`, the winner under fresh seeds as well."""

from collections.abc import Callable, Mapping, Sequence

import ray

from distributed.plan import BEST, Plan
from distributed.results import Row, parameters, ranked
from distributed.study import Study
from mixunlearn.evaluation import VERSION, Judge
from mixunlearn.problem import Problem
from mixunlearn.signature import seed_for, signature
from mixunlearn.store import Entry
from trainables.examine import Examination, Result, examine_remotely

ASK_S = 1.0  # how often a long examination looks whether it has been enough


class Examiner:
    """Examines configurations on `test`, each once for ever.

    Args:
        plan: of the problem they unlearn.
        weights: whether the unlearned models are kept, beside what was measured.
    """

    def __init__(self, plan: Plan, *, weights: bool = True) -> None:
        self.plan, self.weights = plan, weights

    def missing(self, tasks: Mapping[str, Examination]) -> dict[str, Examination]:
        """Return the tasks whose results are not stored yet; equal ones once."""
        store = self.plan.references.store
        payloads = {name: self._payload(task) for name, task in tasks.items()}
        equal = {signature(payload): name for name, payload in payloads.items()}
        return {
            name: tasks[name]
            for name in equal.values()
            if not store.sound("unlearned", payloads[name])
        }

    def run(
        self,
        tasks: Mapping[str, Examination],
        problem: Problem,
        judge: Judge,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run examinations on the cluster, in parallel; store each result as it comes.

        Args:
            tasks: what to examine.
            problem: what was unlearned.
            judge: who measures on `test`.
            enough: asked every second; whether to leave the rest undone.
        """
        resources = self.plan.experiment.resources
        remote = examine_remotely.options(num_cpus=resources.cpu, num_gpus=resources.gpu)
        shared = ray.put(problem), ray.put(judge)
        running = {
            remote.remote(*shared, task, resources.cpu, self.plan.checkpoints): task
            for task in tasks.values()
        }
        while running and not enough():
            done, _ = ray.wait(list(running), timeout=ASK_S)
            for each in done:
                self._keep(running.pop(each), ray.get(each))
        for each in running:
            ray.cancel(each, force=True)

    def keep_only(self, tasks: Mapping[str, Examination]) -> None:
        """Remove the results of all other tasks of the study from the store.

        Raises:
            MixUnlearnError: one cannot be removed.
        """
        kept = {signature(self._payload(task)) for task in tasks.values()}
        self.plan.references.store.discard(
            "unlearned",
            lambda payload: payload["study"] == self.plan.study and signature(payload) not in kept,
        )

    def results(self, tasks: Mapping[str, Examination]) -> dict[str, Entry]:
        """Return the stored result of each task.

        Raises:
            MissingError: one was not run.
        """
        store, command = self.plan.references.store, self.plan.command
        return {
            name: store.read("unlearned", self._payload(task), command=command)
            for name, task in tasks.items()
        }

    def _keep(self, task: Examination, result: Result) -> None:
        self.plan.references.store.write(
            "unlearned",
            self._payload(task),
            tensors=result.weights if self.weights else {},
            record={"metrics": dict(result.metrics)},
        )

    def _payload(self, task: Examination) -> dict[str, object]:
        """Return all a result follows from; where it goes on from makes no difference."""
        return {
            "study": self.plan.study,
            "method": task.method,
            "parameters": dict(task.parameters),
            "seed": task.seed,
            "epochs": task.epochs,
            "phase": "test",
            "version": VERSION,
        }


def final_tasks(plan: Plan, study: Study, rows: Sequence[Row]) -> dict[str, Examination]:
    """Return what a sweep examines: the default, the best, the winner's fresh seeds."""
    best = ranked(rows, study.objective)[:BEST]
    tasks = {f"trial {row['trial']}": trial_task(study, row, row["epochs"]) for row in best}
    default = default_row(rows, plan.default)
    if default is not None:
        # A default that was stopped early is given the time a complete trial had.
        tasks["default"] = trial_task(study, default, plan.epochs)
    if best:
        for index in range(plan.experiment.search.report_seeds):
            tasks[f"seed {index}"] = _fresh(study, best[0], index)
    return tasks


def trial_task(study: Study, row: Row, epochs: int) -> Examination:
    """Return the examination of a trial under its own seed, which its checkpoints may shorten."""
    return Examination(
        method=study.method,
        parameters=parameters(row),
        seed=int(study.config(row["trial"])["seed"]),
        epochs=epochs,
        trial=row["trial"],
    )


def _fresh(study: Study, row: Row, index: int) -> Examination:
    return Examination(
        method=study.method,
        parameters=parameters(row),
        seed=seed_for("report", study.seed, index),
        epochs=row["epochs"],
        trial=None,
    )


def default_row(rows: Sequence[Row], default: Mapping[str, object]) -> Row | None:
    """Return the trial with the default configuration, unless it failed."""
    return next(
        (row for row in rows if parameters(row) == default and row["state"] != "failed"), None
    )
