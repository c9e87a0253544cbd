"""The final examination: the best trials on `test`, the winner under fresh seeds as well."""

from collections.abc import Mapping, Sequence

import ray

from distributed.plan import BEST, Plan
from distributed.results import Row, parameters, ranked
from distributed.study import Study
from mixunlearn.evaluation import VERSION, Judge
from mixunlearn.problem import Problem
from mixunlearn.signature import seed_for, signature
from mixunlearn.store import Entry
from trainables.examine import Examination, Result, examine_remotely


class Examiner:
    """Examines trials on `test`, each once for ever.

    Args:
        plan: of the sweep.
        study: where trials' seeds are.
    """

    def __init__(self, plan: Plan, study: Study) -> None:
        self.plan, self.study = plan, study

    def tasks(self, rows: Sequence[Row]) -> dict[str, Examination]:
        """Return what is to be examined: the default, the best, the winner's fresh seeds."""
        best = ranked(rows, self.study.objective)[:BEST]
        tasks = {f"trial {row['trial']}": self._trial(row, row["epochs"]) for row in best}
        default = default_row(rows, self.plan.default)
        if default is not None:
            # A default that was stopped early is given the time a complete trial had.
            tasks["default"] = self._trial(default, self.plan.epochs)
        if best:
            for index in range(self.plan.experiment.search.report_seeds):
                tasks[f"seed {index}"] = self._fresh(best[0], index)
        return tasks

    def missing(self, tasks: Mapping[str, Examination]) -> dict[str, Examination]:
        """Return the tasks whose results are not stored yet; equal ones once."""
        store = self.plan.bank.store
        payloads = {name: self._payload(task) for name, task in tasks.items()}
        equal = {signature(payload): name for name, payload in payloads.items()}
        return {
            name: tasks[name]
            for name in equal.values()
            if not store.sound("unlearned", payloads[name])
        }

    def run(self, tasks: Mapping[str, Examination], problem: Problem, judge: Judge) -> None:
        """Run examinations on the cluster, in parallel; store each result as it comes.

        Args:
            tasks: what to examine.
            problem: what was unlearned.
            judge: who measures on `test`.
        """
        resources = self.plan.experiment.resources
        remote = examine_remotely.options(num_cpus=resources.cpu, num_gpus=resources.gpu)
        shared = ray.put(problem), ray.put(judge)
        running = {
            remote.remote(*shared, task, resources.cpu, self.plan.checkpoints): task
            for task in tasks.values()
        }
        while running:
            (done, *_), _ = ray.wait(list(running))
            self._keep(running.pop(done), ray.get(done))

    def results(self, tasks: Mapping[str, Examination]) -> dict[str, Entry]:
        """Return the stored result of each task.

        Raises:
            MissingError: one was not run.
        """
        store, command = self.plan.bank.store, self.plan.command
        return {
            name: store.read("unlearned", self._payload(task), command=command)
            for name, task in tasks.items()
        }

    def _keep(self, task: Examination, result: Result) -> None:
        self.plan.bank.store.write(
            "unlearned",
            self._payload(task),
            tensors=result.weights,
            record={"metrics": dict(result.metrics)},
        )

    def _trial(self, row: Row, epochs: int) -> Examination:
        config = self.study.config(row["trial"])
        return Examination(
            method=self.study.method,
            parameters=parameters(row),
            seed=int(config["seed"]),
            epochs=epochs,
            trial=row["trial"],
        )

    def _fresh(self, row: Row, index: int) -> Examination:
        return Examination(
            method=self.study.method,
            parameters=parameters(row),
            seed=seed_for("report", self.study.seed, index),
            epochs=row["epochs"],
            trial=None,
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


def default_row(rows: Sequence[Row], default: Mapping[str, object]) -> Row | None:
    """Return the trial with the default configuration, unless it failed."""
    return next(
        (row for row in rows if parameters(row) == default and row["state"] != "failed"), None
    )
