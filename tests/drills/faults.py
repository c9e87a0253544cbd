"""Faults inside workers: switched on by the environment, when the real class is imported.

`DRILL_FAULTS` is JSON, a list of faults; without it nothing happens. Every process of a drill
imports this module at its start, so it imports only the standard library at the top.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

VARIABLE, DYING = "DRILL_FAULTS", "DRILL_KILL"
TARGET, OPTIMIZERS = "trainables.unlearn", "mixunlearn.optimization"
SMALLER = 0.2  # factor of the learning rate
SITE = Path(__file__).resolve().parent / "site"
ALWAYS = 1000
HEADROOM = 2**29  # bytes that a worker may allocate beyond its present memory, before the limit
Kind: TypeAlias = Literal["kill", "raise", "nan", "inf", "hang", "memory"]
Work: TypeAlias = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one trial.

    Args:
        trial: its number.
        epoch: the epoch, or the epoch before the checkpoint.
        at: whether it happens in the step or in the checkpoint.
        kind: what happens.
        mark: path; each time, a file with this name and a number is made.
        times: how often; a trial that is retried meets the fault again.
        delay: seconds from the start of the step or checkpoint to the kill.
    """

    trial: int
    epoch: int
    at: Literal["step", "checkpoint"] = "step"
    kind: Kind
    mark: str
    times: int = 1
    delay: float = 0.0

    def due(self, at: str, trial: int, epoch: int) -> bool:
        """Return whether the fault is due, and record that for all processes."""
        if (self.at, self.trial, self.epoch) != (at, trial, epoch):
            return False
        for index in range(self.times):
            try:
                Path(f"{self.mark}.{index}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


def environment(faults: Sequence[Fault]) -> dict[str, str]:
    """Return the environment that switches on faults in a command and its workers."""
    paths = [str(SITE), str(SITE.parents[2])]
    found = json.dumps([asdict(fault) for fault in faults])
    return {VARIABLE: found, "PYTHONPATH": os.pathsep.join(paths)}


def install() -> None:
    """Switch on the faults of the environment in this process."""
    faults = [Fault(**fault) for fault in json.loads(os.environ[VARIABLE])]
    _change(TARGET, lambda module: _arm(module, faults))


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a command kills itself, as `kill -9` would at that moment.

    Args:
        module, function: the function in whose call that happens.
        after: whether at the end of the call; otherwise before it does anything.
        count: in which of the calls, from 1.
    """

    module: str
    function: str
    after: bool = False
    count: int = 1


def dying(moment: Moment) -> dict[str, str]:
    """Return the environment in which a command kills itself."""
    paths = [str(SITE), str(SITE.parents[2])]
    return {DYING: json.dumps(asdict(moment)), "PYTHONPATH": os.pathsep.join(paths)}


def die() -> None:
    """Let this process kill itself at the moment that the environment names."""
    moment = Moment(**json.loads(os.environ[DYING]))
    _change(moment.module, lambda module: _die_in(module, moment))


def _die_in(module: ModuleType, moment: Moment) -> None:
    real, calls = getattr(module, moment.function), itertools.count(1)

    def call(*given: Any, **named: Any) -> Any:
        due = next(calls) == moment.count
        found = None if due and not moment.after else real(*given, **named)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(module, moment.function, call)


def worsen() -> None:
    """Let methods' optimizers take smaller steps than set, as with a worse default."""
    _change(OPTIMIZERS, _take_smaller_steps)


def _take_smaller_steps(module: ModuleType) -> None:
    real = module.adam

    def smaller(model: Any, lr: float, weight_decay: float = 0.0) -> Any:
        return real(model, lr * SMALLER, weight_decay)

    for user in list(sys.modules.values()):  # also modules that have imported it already
        if getattr(user, "adam", None) is real:
            user.adam = smaller  # type: ignore[attr-defined]


def _change(name: str, change: Callable[[ModuleType], None]) -> None:
    """Change a module now, or when it is imported."""
    if name in sys.modules:  # true in a fork of a process that has imported everything
        change(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Hook(name, change))


class _Hook(importlib.abc.MetaPathFinder):
    """Changes a module when it is imported, so that no process imports more than it needs."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self.name, self.change = name, change

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec
        assert spec.loader
        run = spec.loader.exec_module

        def execute(module: ModuleType) -> None:
            run(module)
            self.change(module)

        spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def _arm(module: ModuleType, faults: Sequence[Fault]) -> None:
    """Wrap the trainable so that faults happen in the epochs and checkpoints that they name."""
    trainable, trial = module.UnlearnTrainable, module.Trial
    reset, save, unlearn = trainable.reset_config, trainable.save_checkpoint, trial.unlearn

    def reset_config(self: Any, config: dict[str, Any]) -> bool:
        done: bool = reset(self, config)
        self.trial.number = config["trial"]
        return done

    def save_checkpoint(self: Any, folder: str) -> None:
        trial = self.trial
        _happen(faults, "checkpoint", trial, trial.epochs_done, lambda: save(self, folder))

    def unlearn_faulty(self: Any) -> Any:
        return _happen(faults, "step", self, self.epochs_done + 1, lambda: unlearn(self))

    trainable.reset_config, trainable.save_checkpoint = reset_config, save_checkpoint
    trial.unlearn = unlearn_faulty


def _happen(faults: Sequence[Fault], at: str, trial: Any, epoch: int, go: Work) -> Any:
    """Do the work, or let the fault happen to it."""
    for fault in faults:
        if fault.due(at, getattr(trial, "number", -1), epoch):
            return HAPPENINGS[fault.kind](fault, trial, go)
    return go()


def _kill(fault: Fault, trial: Any, go: Work) -> Any:
    threading.Timer(fault.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    go()
    time.sleep(60)  # needed if the work was faster than the timer


def _raise(fault: Fault, trial: Any, go: Work) -> Any:
    raise RuntimeError("a drill raised this\nin two lines")


def _nan(fault: Fault, trial: Any, go: Work) -> Any:
    """Set the weights to NaN: the effect is that of a diverged training."""
    for parameter in trial.method.model.parameters():
        parameter.data.fill_(float("nan"))
    return go()


def _inf(fault: Fault, trial: Any, go: Work) -> Any:
    """Let the method report an infinite loss."""
    epoch = trial.method.epoch
    trial.method.epoch = lambda: dict.fromkeys(epoch(), float("inf"))
    return go()


def _hang(fault: Fault, trial: Any, go: Work) -> Any:
    while True:
        time.sleep(60)


def _memory(fault: Fault, trial: Any, go: Work) -> Any:
    """Allocate memory until the system refuses more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, before[1]))
    try:
        taken = []
        while True:
            taken.append(bytearray(2**26))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


HAPPENINGS: dict[str, Callable[[Fault, Any, Work], Any]] = {
    "kill": _kill,
    "raise": _raise,
    "nan": _nan,
    "inf": _inf,
    "hang": _hang,
    "memory": _memory,
}
