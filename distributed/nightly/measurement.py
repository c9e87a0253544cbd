"""Measures a configuration under the night's fresh seeds, on the night's forget set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed.nightly.context import NightContext
from distributed.nightly.records import Configuration
from distributed.plan.plan import Plan
from distributed.search.summary import distribution
from distributed.search.test_evaluation import TestEvaluator
from trainables.evaluate import TestTask


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The scores of a configuration on `test`.

    Args:
        seeds: numbers of the seeds that were measured, from 0.
        metrics: metrics by name, one mapping for each of these seeds.
        left_out: number of seeds that were skipped because the time was over.
    """

    seeds: Sequence[int]
    metrics: Sequence[Mapping[str, float]]
    left_out: int

    @property
    def gaps(self) -> list[float]:
        """Return `gap/avg` by seed, in percentage points."""
        return [each["gap/avg"] for each in self.metrics]

    @property
    def distributions(self) -> dict[str, Mapping[str, Any]]:
        """Return each metric's distribution over the seeds."""
        names = sorted(self.metrics[0]) if self.metrics else []
        return {
            name: distribution([each[name] for each in self.metrics if name in each])
            for name in names
        }


def measure(
    context: NightContext, drawn: Plan, configuration: Configuration, who: str
) -> Measurement:
    """Measure a configuration; results that are in the store are not computed again.

    Args:
        context: context of the night.
        drawn: plan of the night's forget set.
        configuration: the configuration to unlearn with.
        who: its role, for the progress display.

    Raises:
        Interrupted: a stop was requested.
    """
    tasks = _tasks(context, drawn, configuration)
    # Ray is started only for what is missing: to repeat a measured night takes seconds.
    if missing := TestEvaluator(drawn).missing(tasks):
        _evaluate(context, drawn, missing, who)
    test_evaluator = TestEvaluator(drawn)
    left = test_evaluator.missing(tasks)
    kept = {name: task for name, task in tasks.items() if name not in left}
    entries = test_evaluator.results(kept)
    return Measurement(
        seeds=[int(name) for name in entries],
        metrics=[each.record["metrics"] for each in entries.values()],
        left_out=len(left),
    )


def _tasks(context: NightContext, drawn: Plan, configuration: Configuration) -> dict[str, TestTask]:
    """Return one task per seed."""
    return {
        str(index): TestTask(
            method=configuration.method,
            hyperparameters=configuration.parameters,
            seed=context.seed(drawn.experiment.name, index),
            epochs=configuration.epochs,
            # Not from a trial's checkpoint, which has unlearned another set under another seed.
            trial=None,
        )
        for index in range(context.nightly.seeds)
    }


def _evaluate(
    context: NightContext, drawn: Plan, missing: Mapping[str, TestTask], who: str
) -> None:
    session = context.session
    drawn = session.connect(drawn, "starting Ray")
    evaluator = drawn.references.evaluator("test")
    title = f"{drawn.experiment.name}: {who}"
    ended = session.progress.stage(title, "seeds measured", len(missing))
    # Numbers only: the weights of all seeds of all nights would fill the disk.
    TestEvaluator(drawn, weights=False).run(
        missing, drawn.problem, evaluator, context.enough, ended
    )
    # `run` also returns early on a stop request: half a measurement must not be judged.
    session.stop.check()
