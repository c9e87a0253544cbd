"""The processes of a trial with several GPUs: its worker leads, and one helper has each other GPU.

Ray gives all GPUs of a trial to its worker, in one bundle of a placement group, so they are on one
machine. Helpers are actors of the same machine that ask for nothing more. They do what the worker
does, up to its evaluations and checkpoints; see `mixunlearn.parallel`. If a process of a crew dies,
all end, and Ray retries as it does for any worker that died.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import ray
import torch
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mixunlearn.computing import Computing
from mixunlearn.effort import ALONE
from mixunlearn.errors import DivergedError
from mixunlearn.methods import METHODS
from mixunlearn.methods.base import OneStep
from mixunlearn.own_recipe import OwnRecipe
from mixunlearn.parallel import Team, join, jointly, leave
from mixunlearn.problem import Problem
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.training import Training
from mixunlearn.trial import Unlearning
from trainables.hardware import processes

GRACE_S = 10.0  # a helper that fails has so much longer than its leader, or the other way around
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Work(Protocol):
    """What is done together, epoch by epoch."""

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Continue from a state."""


Make = Callable[..., Work]
Advance = Callable[[Any], object]


class Helper:
    """A process that does what the leader of its crew does.

    Args:
        team: as this process sees it.
        meeting: see `mixunlearn.parallel.join`.
        threads: number of threads.
        computing: how steps are computed.
        gpus: the GPUs of the crew, as CUDA's variable names them; `None`: it computes on CPUs.
    """

    def __init__(
        self, team: Team, meeting: Path, threads: int, computing: Computing, gpus: str | None
    ) -> None:
        self.team, self.meeting = team, meeting
        self.work: Work | None = None
        torch.set_num_threads(threads)
        self.device = torch.device("cpu")
        if gpus is not None:
            # All of them, so that they can read one another's memory; each process uses one.
            os.environ[VISIBLE] = gpus
            self.device = torch.device("cuda", team.rank)
            torch.cuda.set_device(self.device)
        computing.apply(self.device)

    def join(self) -> None:
        """Meet the others."""
        join(self.team, self.meeting, self.device)

    def start(self, make: Make, shared: object, *given: Any) -> None:  # noqa: ANN401
        """Prepare the work."""
        self.work = None  # a GPU may have no room for two
        self.work = make(self.device, shared, *given)

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        assert self.work is not None
        self.work.load_state_dict(state)

    def advance(self, advance: Advance) -> None:
        """Do the next epoch, with all others."""
        # The leader says so.
        with suppress(DivergedError), jointly():
            assert self.work is not None
            advance(self.work)


@dataclass(kw_only=True)
class Crew:
    """All processes of a trial; this one leads. A crew of one does nothing beside.

    Args:
        size: number of processes.
        device: where this process computes.
        computing: how steps are computed.
        shared: what all work needs, sent once.
        make: returns the work of a helper, from its device, `shared`, and what `start` is given.
        advance: does the work's next epoch.
    """

    size: int
    device: torch.device
    computing: Computing
    shared: object
    make: Make
    advance: Advance
    helpers: Sequence[Any] = field(default=(), init=False)
    pending: list[Any] = field(default_factory=list, init=False)

    def start(self, *given: Any) -> None:  # noqa: ANN401
        """Let helpers prepare another work; this process does so by itself, meanwhile."""
        if self.size > 1:
            if not self.helpers:
                self._gather()
            self.pending = [
                helper.start.remote(self.make, self._sent, *given) for helper in self.helpers
            ]

    def load(self, state: Mapping[str, Any]) -> None:
        """Let helpers continue from a state; this process does so by itself."""
        if self.helpers:
            sent = ray.put(state)
            self.pending += [helper.load.remote(sent) for helper in self.helpers]

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Let helpers do the next epoch, while this process does the same within the block."""
        if not self.helpers:
            yield
            return
        self.pending += [helper.advance.remote(self.advance) for helper in self.helpers]
        with self._awaited(), jointly():
            yield

    def end(self) -> None:
        """End all helpers; the next start has others."""
        if not self.helpers:
            return
        for helper in self.helpers:
            ray.kill(helper)
        self.helpers, self.pending = (), []
        leave()
        self._folder.cleanup()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _gather(self) -> None:
        """Start the helpers, and meet them."""
        self._sent = ray.put(self.shared)
        node = ray.get_runtime_context().get_node_id()
        # With nothing of its own: what the crew has is this process's, as Ray counts.
        actor = ray.remote(Helper).options(
            num_cpus=0,
            num_gpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        gpus = os.environ.get(VISIBLE) if self.device.type == "cuda" else None
        # Kept until the end: NCCL looks into the file at any time.
        self._folder = TemporaryDirectory(prefix="mixunlearn-", ignore_cleanup_errors=True)
        meeting, threads = Path(self._folder.name) / "meeting", torch.get_num_threads()
        self.helpers = [
            actor.remote(Team(rank=rank, size=self.size), meeting, threads, self.computing, gpus)
            for rank in range(1, self.size)
        ]
        self.pending = [helper.join.remote() for helper in self.helpers]
        with self._awaited():
            join(Team(size=self.size), meeting, self.device)

    @contextmanager
    def _awaited(self) -> Iterator[None]:
        """Wait at the end for what helpers have been asked; end with them if one fails."""
        asked, self.pending = self.pending, []
        over = threading.Event()
        # A thread, because code that waits for a dead process may never return.
        threading.Thread(target=_watch, args=(asked, over), daemon=True).start()
        try:
            with _telling(over):
                yield
            ray.get(asked)
        except DivergedError:  # in all of them, and all go on
            ray.get(asked)
            raise
        except BaseException:
            _require_alive(asked)
            # Some may wait for this process.
            self.end()
            raise


@contextmanager
def _telling(over: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        over.set()


def crew_of_trial(problem: Problem, method: str, gpus: float, device: torch.device) -> Crew:
    """Return the processes that unlearn together; `start` takes what `_unlearning` takes.

    Args:
        problem: what is to be unlearned.
        method: a key of `METHODS`. One without steps has nothing to divide: one process does it.
        gpus: GPUs of the trial.
        device: where this process computes.
    """
    return Crew(
        size=ALONE if issubclass(METHODS[method], OneStep) else processes(gpus),
        device=device,
        computing=problem.computing,
        shared=problem,
        make=_unlearning,
        advance=methodcaller("unlearn"),
    )


def _unlearning(
    device: torch.device,
    problem: Problem,
    method: str,
    hyperparameters: Mapping[str, Any],
    seed: int,
) -> Unlearning:
    return Unlearning(METHODS[method](**hyperparameters), problem.context(device, seed))


def crew_of_training(stores: Sequence[ReferenceStore], gpus: float, device: torch.device) -> Crew:
    """Return the processes that train together; `start` takes what `_training` takes.

    Args:
        stores: of the models. One that a user's own function trains has one process, which sees
            all GPUs of the training.
        gpus: GPUs of a training.
        device: where this process computes.
    """
    return Crew(
        size=ALONE if isinstance(stores[0].recipe, OwnRecipe) else processes(gpus),
        device=device,
        computing=stores[0].computing,
        shared=stores,
        make=_training,
        advance=methodcaller("epoch"),
    )


def _training(
    device: torch.device, stores: Sequence[ReferenceStore], store: int, member: Member
) -> Training:
    return stores[store].training(member, device)


def _watch(asked: Sequence[Any], over: threading.Event) -> None:
    """End this process if a helper fails while this process goes on."""
    left = list(asked)
    while left and not over.is_set():
        done, left = ray.wait(left, timeout=1.0)
        if any(map(_error, done)):
            if not over.wait(GRACE_S):
                _die()
            return


def _require_alive(asked: Sequence[Any]) -> None:
    """End this process if a helper has died: only dead workers are retried."""
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=GRACE_S) if asked else ([], [])
    if any(isinstance(_error(each), RayActorError) for each in done):
        _die()


def _error(done: object) -> Exception | None:
    """Return why a helper did not do what it was asked; `None` if it has done it."""
    try:
        ray.get(done)
    except Exception as error:  # whatever the method raised there
        return error
    return None


def _die() -> None:
    # As if it had been killed: an exception would be taken for one of the method.
    os.kill(os.getpid(), signal.SIGKILL)
