"""What one command that changes a study works with: Ray, the lock, the study, progress."""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from distributed.cluster.connection import Shipped, connected, local
from distributed.plan.plan import Plan
from distributed.runtime.progress import Progress
from distributed.runtime.signals import Stop
from distributed.study.lock import StudyLock
from distributed.study.study import Study


@dataclass(kw_only=True)
class Session:
    """What one command that changes a study works with.

    Args:
        address: of a Ray cluster; `None` is this machine or RAY_ADDRESS.
        progress: told what is going on.
        stop: what SIGINT and SIGTERM ask for.
        stack: ends what was begun: Ray, tracking, the hold on the study.
    """

    address: str | None
    progress: Progress
    stop: Stop
    stack: ExitStack = field(default_factory=ExitStack)
    _connected: bool = False

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: ANN401 - handed on
        self.stack.__exit__(*error)

    def part(self) -> "Session":
        """Return a session for one study of several; what it holds ends before this one does."""
        return replace(self, stack=ExitStack())

    def lock(self, plan: Plan) -> StudyLock:
        """Lock the study for this process.

        Raises:
            MixUnlearnError: another one is.
        """
        lock = StudyLock(plan.study, plan.folder, plan.database, self.progress.say, self.stop.check)
        return self.stack.enter_context(lock)

    def open(self, plan: Plan, lock: StudyLock) -> Study:
        """Return the study of a plan, with what is in it already."""
        study = open_study(plan, lock)
        self.stack.callback(study.close)
        return study

    def connect(self, plan: Plan, why: str) -> Plan:
        """Start Ray or join the cluster, once; return the plan as its nodes need it."""
        if not self._connected:
            self.progress.show(why)
            self.stack.callback(self.stop.listen)  # once Ray has ended, SIGTERM would kill
            self.stack.enter_context(connected(self.address))
            self.stop.listen()  # Ray takes SIGTERM for itself
            self._connected = True
        if local(self.address) or plan.dataset.origin:
            return plan
        # Nodes that do not see the home's folder fetch the images, once each.
        return replace(plan, dataset=plan.dataset.shipped(Shipped.of(plan.dataset)))


def open_study(plan: Plan, lock: StudyLock | None = None) -> Study:
    """Return the study of a plan, with what is in it already."""
    search = plan.experiment.search
    return Study(
        name=plan.study,
        storage=plan.record,
        method=plan.experiment.method,
        space=plan.space,
        facts=plan.facts,
        sampler=search.sampler,
        seed=search.seed,
        objective=search.objective,
        start=search.start,
        lock=lock,
    )
