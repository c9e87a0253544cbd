"""Unlearns proxies with the winner of a sweep, and compares each with one retrained model.

Each step is cached in the store: more proxies only add to those there are, and another winner
repeats the unlearning, but no training.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import ray

from distributed.plan.plan import Plan
from distributed.plan.proxies import Proxy, proxies
from distributed.search.session import Session
from distributed.search.test_evaluation import collect
from distributed.search.trials import fill_stores
from mixunlearn.evaluation import VERSION
from mixunlearn.references import PHASES
from mixunlearn.signature import seed_for
from mixunlearn.wording import counted
from trainables.evaluate import ProxyResult, TestTask, evaluate_proxy_remotely

KIND = "proxies"  # in the store


def measure_proxies(plan: Plan, best: Mapping[str, Any] | None, session: Session) -> dict[str, Any]:
    """Retrain and unlearn the proxies that are missing; return what a summary says of all.

    Args:
        plan: plan of the study, whose originals are trained.
        best: the winner, as in a summary; `None` if no trial succeeded.
        session: the session of the command.

    Returns:
        `{"proxies": {...}}`; empty if the experiment asks for none, or there is no winner. Inside:
        number of images of a forget set, kind, count, number of the winning trial, how many
        diverged, mean times in seconds, and for each metric on `test` its resolution and the
        differences unlearned − retrained, one for each proxy that has not diverged.

    Raises:
        InputError: a retrained model diverged.
        MixUnlearnError: a training failed, Ray does not answer, or the disk is full.
        Interrupted: a stop was requested; everything finished is kept.
    """
    wanted = proxies(plan) if best else []
    if best is None or not wanted:
        return {}
    if missing := sum(bool(each.references.missing()) for each in wanted):
        session.progress.show(f"proxies: training {counted(missing, 'model')}", event=True)
        fill_stores(plan, [each.references for each in wanted], session)
    unlearned = Unlearned(plan, best)
    unlearned.run(wanted, session)
    results = [unlearned.result(each) for each in wanted]
    return {"proxies": {"trial": best["trial"], **_summary(plan, wanted, results)}}


class Unlearned:
    """The proxies, unlearned with one configuration, each once; results are in the store.

    Args:
        plan: plan of the study.
        best: the configuration, as in a summary: "params" and "epochs".
    """

    def __init__(self, plan: Plan, best: Mapping[str, Any]) -> None:
        self.plan, self.best = plan, best
        self.store = plan.references.store

    def run(self, wanted: Sequence[Proxy], session: Session) -> None:
        """Unlearn on the cluster what has no stored result; store each result when it arrives.

        Raises:
            Interrupted: a stop was requested.
        """
        missing = {
            each.number for each in wanted if not self.store.sound(KIND, self._payload(each))
        }
        if not missing:
            return
        plan = session.connect(self.plan, "starting Ray")
        # Anew: on a cluster, the connected plan has images that nodes fetch.
        chosen = [each for each in proxies(plan) if each.number in missing]
        done = len(wanted) - len(missing)
        ended = session.progress.stage("proxies", "unlearned", len(wanted), done)

        def keep(proxy: Proxy, result: ProxyResult) -> None:
            self._keep(proxy, result)
            ended()

        collect(_started(plan, chosen, self.task), keep, lambda: session.stop.asked is not None)
        # `collect` also returns at a stop, with results missing.
        session.stop.check()

    def result(self, proxy: Proxy) -> ProxyResult:
        """Return a stored result.

        Raises:
            MissingError: there is none.
        """
        entry = self.store.read(KIND, self._payload(proxy), command=self.plan.command)
        return ProxyResult(**entry.record)

    def task(self, proxy: Proxy) -> TestTask:
        """Return the unlearning of a proxy, under a seed of its own."""
        experiment = self.plan.experiment
        return TestTask(
            method=experiment.method,
            hyperparameters=self.best["params"],
            seed=seed_for("proxy", experiment.search.seed, proxy.number),
            epochs=self.best["epochs"],
            trial=None,
            original=proxy.original,
        )

    def _keep(self, proxy: Proxy, result: ProxyResult) -> None:
        record = {"metrics": dict(result.metrics), "diverged": result.diverged}
        self.store.write(KIND, self._payload(proxy), record=record)

    def _payload(self, proxy: Proxy) -> dict[str, object]:
        """Return everything that determines a result."""
        references, task = self.plan.references, self.task(proxy)
        return {
            "model": references.payload(references.all_originals[proxy.original]),
            "retrained": proxy.references.payload(proxy.references.all_references[0]),
            "splits": proxy.splits.key,
            "method": task.method,
            "parameters": dict(task.hyperparameters),
            "labels": self.plan.experiment.labels,
            "seed": task.seed,
            "epochs": task.epochs,
            "version": VERSION,
        }


def _started(
    plan: Plan, chosen: Sequence[Proxy], task: Callable[[Proxy], TestTask]
) -> dict[object, Proxy]:
    """Start Ray's tasks; return which proxy each unlearns."""
    resources = plan.experiment.resources
    remote = evaluate_proxy_remotely.options(num_cpus=resources.cpu, num_gpus=resources.gpu)
    # Once for all tasks: as plain arguments they would be pickled for each.
    problems = {n: ray.put(plan.problem(n)) for n in {each.original for each in chosen}}
    return {
        remote.remote(
            problems[each.original],
            each.splits,
            {phase: each.references.evaluator(phase) for phase in PHASES},
            task(each),
            resources.cpu,
            plan.checkpoints,
        ): each
        for each in chosen
    }


def _summary(plan: Plan, wanted: Sequence[Proxy], results: Sequence[ProxyResult]) -> dict[str, Any]:
    sound = [(each, result) for each, result in zip(wanted, results, strict=True) if result.metrics]
    evaluators = [each.references.evaluator("test") for each, _ in sound]
    names = list(evaluators[0].images.resolution()) if evaluators else []
    return {
        "images": len(plan.splits.forget_N),
        "kind": plan.experiment.task.kind,
        "model": plan.own.digest if plan.own else None,
        "data": plan.source.digest,
        "count": len(wanted),
        "diverged": len(wanted) - len(sound),
        "metrics": {
            name: {
                "differences": [
                    result.metrics[name] - evaluator.references.values(name)[0]
                    for (_, result), evaluator in zip(sound, evaluators, strict=True)
                ],
                "resolution": max(each.images.resolution()[name] for each in evaluators),
            }
            for name in names
        },
        "unlearn_s": _mean([result.metrics["time/unlearn_s"] for _, result in sound]),
        "retrain_s": _mean([seconds for each in wanted for seconds in _training(each)]),
    }


def _training(proxy: Proxy) -> list[float]:
    return [proxy.references.seconds(each) for each in proxy.references.all_references]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
