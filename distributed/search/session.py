"""The session of a command that changes a study: Ray, the lock, the study, progress."""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed.cluster.connection import Shipped, connected, local
from distributed.plan.plan import Plan
from distributed.runtime.progress import Progress
from distributed.runtime.signals import Stop
from distributed.study.lock import StudyLock
from distributed.study.study import Study
from mixunlearn.leftovers import DAY_S, remove_leftovers


@dataclass(kw_only=True)
class Session:
    """What a command that changes a study works with.

    Args:
        address: address of a Ray cluster; `None`: RAY_ADDRESS, or this machine.
        progress: shows what is going on.
        stop: the stop that SIGINT and SIGTERM request.
        stack: closes what the session opened: Ray, the study, its lock.
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
        """Return a session for one of several studies; it closes its study and lock at its end."""
        return replace(self, stack=ExitStack())

    def lock(self, plan: Plan) -> StudyLock:
        """Lock the study for this process.

        Raises:
            MixUnlearnError: another process has locked it, or something else has the name of one of
                its files.
        """
        plan.study_folder.require()
        lock = self.lock_folder(plan.study, plan.folder, plan.database)
        _tidy(plan)
        return lock

    def lock_folder(self, name: str, folder: Path, database: str | None = None) -> StudyLock:
        """Lock a folder of results for this process.

        Args:
            name: name of the results, for messages.
            folder: path of the folder.
            database: address of a PostgreSQL record that is locked as well.

        Raises:
            MixUnlearnError: another process has locked it.
        """
        lock = StudyLock(name, folder, database, self.progress.say, self.stop.check)
        # On the stack first, so it is released last, when nothing can write any more. And before it
        # is taken: a stop may come right after that.
        self.stack.push(lock)
        lock.__enter__()
        return lock

    def open(self, plan: Plan, lock: StudyLock, *, create: bool = True) -> Study:
        """Return the study of a plan, with its recorded trials; the session closes it.

        Raises:
            MissingError: there is no record, and `create` is false.
            CorruptError: the record was lost.
        """
        study = open_study(plan, lock, create=create)
        self.stack.callback(study.close)
        return study

    def connect(self, plan: Plan, why: str) -> Plan:
        """Start Ray or join the cluster, if not done yet; return the plan for use on its nodes.

        Raises:
            MixUnlearnError: the cluster cannot be reached, or the file of the images was damaged.
        """
        plan.dataset.restore()
        if not self._connected:
            self.progress.show(why)
            # Ray replaces the handler of SIGTERM when it starts, and restores the default one,
            # which kills the process, when it ends. So ours is set again after both.
            self.stack.callback(self.stop.listen)
            self.stack.enter_context(connected(self.address))
            self.stop.listen()
            self._connected = True
        if local(self.address) or plan.dataset.origin:
            return plan
        # Nodes may not see the home's folder: each one fetches the images once.
        return replace(plan, dataset=plan.dataset.shipped(Shipped.of(plan.dataset)))


def _tidy(plan: Plan) -> None:
    """Remove what killed processes have left in the study, which is locked, and in the home."""
    remove_leftovers(plan.folder.rglob(".*"))
    shared = ((plan.home, ".*"), (plan.home / "cache", ".*"), (plan.home / "store", "*/.*"))
    for folder, names in shared:
        # Other processes may be writing there.
        remove_leftovers(folder.glob(names), age_s=DAY_S)


def open_study(
    plan: Plan, lock: StudyLock | None = None, *, create: bool = False, refill: bool = False
) -> Study:
    """Return the study of a plan, with its recorded trials; without a lock, only for reading.

    Args:
        plan: plan of the study.
        lock: the study lock of this process.
        create: whether to create a record if there never was one.
        refill: whether to create one in place of a lost one.

    Raises:
        MissingError: there is no record.
        CorruptError: the record was lost.
    """
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
        create=create or refill,
        table=None if refill else plan.study_folder.trials,
    )
