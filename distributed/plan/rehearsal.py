"""Rehearses a plan's model and method; code of others is tried in a process of its own.

There it can exit, crash, hang or close files without harm to the command. Built-in models and
methods are tried in this process, at a small width: that takes a tenth of a second.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from distributed.config.experiment import Experiment
from distributed.plan.model import Stages, make_space, readable_stages, taught_stages
from mixunlearn.border import what
from mixunlearn.data.arrow import Dataset
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.models import MODELS
from mixunlearn.models.factories import TORCHVISION
from mixunlearn.own_recipe import OwnRecipe
from mixunlearn.plugins import is_ours
from mixunlearn.problem import Architecture
from mixunlearn.rehearsal import FEW, Rehearsal
from mixunlearn.splits import Splits
from search_spaces import Space

IDLE_S, LONGEST_S = 15.0, 180.0  # a process that computes nothing is ended sooner
ASK_S = 0.05
STANDARD_OUTPUT = 1
NARROW = 8  # width at which a built-in model is tried: the same layers, in less time


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What a rehearsal depends on, as plain data that another process can read.

    Args:
        model: `model.name`.
        width: `model.width`.
        size: `model.size`.
        image_shape: (channels, height, width).
        classes: number of classes.
        method: its name.
        space: `search.space` as JSON.
        labels: "aware" or "agnostic".
        forgotten: the classes that are forgotten completely.
        forgets: number of images to forget; large numbers are all alike.
        recipe: the user's own training; `None`: a recipe of the project.
        start: `search.start` as JSON.
        augmentation: how training changes images.
    """

    model: str
    width: int | None
    image_shape: tuple[int, ...]
    classes: int
    method: str
    space: str
    labels: str
    forgotten: tuple[int, ...]
    forgets: int
    recipe: str | None = None
    size: int | None = None
    start: str = "[]"
    augmentation: str = "none"

    @classmethod
    def of(cls, experiment: Experiment, dataset: Dataset, splits: Splits) -> "Sketch":
        """Return the sketch of an experiment on its data."""
        return cls(
            model=experiment.model.name,
            width=experiment.model.width,
            image_shape=tuple(dataset.images_NCHW.shape[1:]),
            classes=len(dataset.classes),
            method=experiment.method,
            space=json.dumps(experiment.search.space, default=str),
            labels=experiment.labels,
            forgotten=tuple(splits.forgotten),
            forgets=min(len(splits.forget_N), FEW),
            recipe=experiment.references.function,
            size=experiment.model.size,
            start=json.dumps(experiment.search.start, default=str),
            augmentation=experiment.references.augmentation,
        )

    @property
    def narrow(self) -> "Sketch":
        """The same with a built-in model of few channels: its code does not depend on them."""
        return replace(self, width=min(self.width or NARROW, NARROW))

    @property
    def ours(self) -> bool:
        """Whether model, method and recipe are built-in ones, whose combinations are tested."""
        return not self.recipe and is_ours(MODELS, self.model) and is_ours(METHODS, self.method)

    @property
    def harmless(self) -> bool:
        """Whether it can be tried in this process: torchvision's models, built-in methods."""
        harmless = self.model.startswith(TORCHVISION) and is_ours(METHODS, self.method)
        return harmless and not self.recipe

    def rehearsal(self) -> Rehearsal:
        """Return the rehearsal of what is sure to be tried: the default, the authors', starts."""
        channels, height, width = self.image_shape
        architecture = Architecture(
            name=self.model,
            width=self.width,
            image_shape=(channels, height, width),
            classes=self.classes,
            size=self.size,
        )
        narrowing = json.loads(self.space)
        stages = Stages.of(architecture.build(0), narrowing)
        space = make_space(self.method, stages, narrowing, epochs=1)
        facts = {"labels": self.labels}
        return Rehearsal(
            architecture=architecture,
            method=self.method,
            hyperparameters=space.defaults(facts),
            stages=taught_stages(readable_stages(space, self.model), self.augmentation),
            with_labels=self.labels == "aware",
            forgotten=self.forgotten,
            forgets=self.forgets,
            recipe=OwnRecipe.of(self.recipe) if self.recipe else None,
            augmentation=self.augmentation,
            further=[*space.published(facts), *_starts(space, json.loads(self.start), facts)],
        )


def _starts(
    space: Space, starts: Sequence[Mapping[str, Any]], facts: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the configurations of `search.start`, complete; what the plan refuses is left out."""
    for start in starts:
        with suppress(InputError):
            yield space.narrowed(start).defaults(facts)


@cache
def rehearse(sketch: Sketch) -> tuple[str, ...]:
    """Try the model and the method, each combination once; return warnings.

    Raises:
        InputError: the model cannot be trained, or the method does not work with it.
    """
    if sketch.ours:
        ours = sketch.narrow.rehearsal()
        ours.unlearn_all(ours.architecture.build(0))  # that these can be trained is known
        return ()
    return tuple(sketch.rehearsal().run() if sketch.harmless else _apart(sketch))


def _apart(sketch: Sketch) -> list[str]:
    """Rehearse in another process."""
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        # What this process can import, that one can: modules may be found by a changed path.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            [*_python(), "-m", __name__, json.dumps(asdict(sketch)), str(answer)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        try:
            problem = _watch(process)
        finally:
            process.kill()
            process.wait()
        if answer.exists() and not problem:
            return _read(json.loads(answer.read_text()))
    ended = f"ends its process with exit code {process.returncode}"
    remedy = f"{problem or ended} when it is tried with {sketch.method}; correct it"
    raise InputError("model.name", sketch.model, remedy)


def _python() -> list[str]:
    """Return the words that start Python."""
    return [sys.executable]


def _watch(process: subprocess.Popen[bytes]) -> str | None:
    """Wait for a process; return why it must be ended, `None` if it has ended."""
    start = busy_at = time.monotonic()
    seconds = 0.0
    while process.poll() is None:
        now = time.monotonic()
        try:
            times = psutil.Process(process.pid).cpu_times()
        except psutil.Error:
            continue  # it has just ended
        if times.user + times.system > seconds:
            seconds, busy_at = times.user + times.system, now
        if now - busy_at > IDLE_S:
            return f"does nothing for {IDLE_S:.0f} s"
        if now - start > LONGEST_S:
            return f"does not end within {LONGEST_S:.0f} s"
        time.sleep(ASK_S)
    return None


def _read(found: Mapping[str, Any]) -> list[str]:
    """Return the warnings of the other process, or raise its error."""
    if error := found.get("error"):
        raise InputError(*error)
    warnings: list[str] = found["warnings"]
    return warnings


def main(sketch: str, answer: str) -> None:
    """Rehearse in this process; write what was found to the file `answer`."""
    fields = json.loads(sketch)
    for name in ("image_shape", "forgotten"):
        fields[name] = tuple(fields[name])
    wanted = Sketch(**fields)
    found: dict[str, Any]
    try:
        found = {"warnings": wanted.rehearsal().run()}
        os.fstat(STANDARD_OUTPUT)
    except InputError as error:
        found = {"error": [error.key, error.value, error.remedy]}
    except OSError:
        found = {"error": ["model.name", wanted.model, "closes the standard output; correct it"]}
    except BaseException as error:
        found = {"error": ["model.name", wanted.model, f"cannot be used ({what(error)})"]}
    Path(answer).write_text(json.dumps(found, default=str))
    os._exit(0)  # neither threads of others nor what they do at an exit may delay the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
