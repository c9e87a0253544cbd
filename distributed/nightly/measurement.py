"""What a configuration scores under the night's fresh seeds, on the night's forget set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed.final import Examiner
from distributed.nightly.context import NightContext
from distributed.nightly.records import Configuration
from distributed.plan import Plan
from distributed.summary import distribution
from trainables.examine import Examination


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a configuration scored on `test`.

    Args:
        metrics: a mapping a seed, by name.
        left_out: how many seeds there was no time for.
    """

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
    """Measure a configuration; results that are stored already are not computed again.

    Args:
        context: of the night.
        drawn: plan of the night's forget set.
        configuration: to unlearn with.
        who: for the progress display.

    Raises:
        Interrupted: a stop was asked for.
    """
    tasks = _tasks(context, drawn, configuration)
    if missing := Examiner(drawn).missing(tasks):
        _examine(context, drawn, missing, who)
    examiner = Examiner(drawn)
    left = examiner.missing(tasks)
    kept = {name: task for name, task in tasks.items() if name not in left}
    entries = examiner.results(kept).values()
    return Measurement(metrics=[each.record["metrics"] for each in entries], left_out=len(left))


def _tasks(
    context: NightContext, drawn: Plan, configuration: Configuration
) -> dict[str, Examination]:
    """Return one task a seed."""
    return {
        str(index): Examination(
            method=configuration.method,
            parameters=configuration.parameters,
            seed=context.seed(drawn.experiment.name, index),
            epochs=configuration.epochs,
            trial=None,
        )
        for index in range(context.nightly.seeds)
    }


def _examine(
    context: NightContext, drawn: Plan, missing: Mapping[str, Examination], who: str
) -> None:
    session = context.session
    line = f"{drawn.experiment.name}: {who}, {len(missing)} seeds"
    session.progress.show(line, event=True)
    drawn = session.connect(drawn, "starting Ray")
    problem, judge = drawn.problem(), drawn.bank.judge("test")
    Examiner(drawn, weights=False).run(missing, problem, judge, context.enough)
    session.stop.check()
