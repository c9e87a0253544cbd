"""The basis of drills: undisturbed runs to compare with, and homes to disturb."""

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from distributed.runtime.addresses import sqlite_address
from tests.drills.comparison import (
    Row,
    Tally,
    check_record,
    check_tracking,
    compare_models,
    compare_summaries,
    compare_tables,
    compare_trials,
    read_study,
    reevaluate,
    study_folder,
)
from tests.drills.process import LEAVING_S, Command, DrillError

DONE, FAILED, BAD_INPUT, TRIALS_FAILED = 0, 1, 2, 4
RESULTS = "unlearned"  # the kind of the store's entries that belong to one study
PROGRESS = r"^(models|trials): \d+ of|^test: "
EVALUATING = r"^test: \d+ of"
# More than half of the processors, so that no second trial has room. All of them would be slow
# while other runs are active, because threads wait for each other.
ALONE = (os.cpu_count() or 1) / 2 + 0.5


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A kind of sweep.

    Args:
        name: its name.
        workers: how many trials run at once.
        search: keys of the experiment's section `search`.
    """

    name: str
    workers: int
    search: Mapping[str, object]

    def experiment(self, size: Mapping[str, int]) -> dict[str, Any]:
        """Return the experiment."""
        return {
            "name": "drill",
            "data": {"source": "digits", "limit": {"train": 900}},
            "model": {"name": "cnn", "width": 4},
            "task": {"kind": "class", "classes": [0]},
            "references": {"seeds": 2, "epochs": 4, "lr": 3e-3},
            "search": {"space": {"batch": 64, "gen_interval": 1}, **size, **self.search},
            "resources": {"cpu": ALONE if self.workers == 1 else 1},
        }


# As users search: a trial depends on all trials before it, so the order must not change.
SINGLE = Setting(name="single", workers=1, search={})
PAIR = Setting(name="pair", workers=2, search={})
# Here trials are independent: a failed trial must not change another.
APART = Setting(name="apart", workers=1, search={"sampler": "random", "scheduler": "none"})


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """The results of a sweep that is not disturbed.

    Args:
        home: the home with its results.
        rows: content of trials.parquet.
        summary: content of summary.json.
        spans: seconds from the start to the first trial's end, to the test evaluation, to the end.
    """

    home: Path
    rows: Sequence[Row]
    summary: Row
    spans: tuple[float, float, float]

    @property
    def study(self) -> str:
        """The study's name."""
        return str(self.rows[0]["study"])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one run of a drill.

    Args:
        moment: when and how the study was disturbed.
        lost, doubled, altered: compared with the undisturbed run.
        seconds: until the study continued, that is, finished a trial, model or test evaluation.
        note: what else is wrong; empty if nothing is.
        skipped: why the drill cannot be run here.
    """

    moment: str = ""
    lost: int = 0
    doubled: int = 0
    altered: int = 0
    seconds: float | None = None
    note: str = ""
    skipped: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.altered or self.note)


@dataclass(kw_only=True)
class Scene:
    """One home to disturb, for one run of a drill.

    Args:
        ground: the ground that the scene belongs to.
        folder: a folder for this run alone.
        undisturbed: results of the undisturbed sweep.
        workers: how many trials run at once.
        words: more arguments of the command.
        environment: environment of the command.
        storage: address of the study's record; by default the one in the study's folder.
        tracking: address of MLflow; by default the one in the home.
        tracked: whether MLflow has seen the whole study.
        place: name of the home.
        commands: commands that were started here.
    """

    ground: "Ground"
    folder: Path
    undisturbed: Undisturbed
    workers: int
    words: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    storage: str | None = None
    tracking: str | None = None
    tracked: bool = True
    place: str = "home"
    commands: list[Command] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The home of the study."""
        return self.folder / self.place

    @property
    def experiment(self) -> Path:
        """The experiment's file."""
        return self.folder / "drill.yaml"

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.home / "studies" / self.undisturbed.study

    def start(self, *words: str, verb: str = "sweep") -> Command:
        """Start the command."""
        arguments = [verb, str(self.experiment), "--home", str(self.home), "--json"]
        arguments += [*self.words, *words]
        log = self.folder / f"{len(self.commands)}.err"
        command = self.ground.start(arguments, log, self.environment)
        self.commands.append(command)
        return command

    def finish(self, *words: str, codes: Sequence[int] = (DONE,)) -> Command:
        """Run the command to its end.

        Raises:
            DrillError: it does not end in the expected way.
        """
        command = self.start(*words)
        expect(command, *codes)
        return command

    def compare(self) -> Tally:
        """Compare all results with those of the undisturbed run."""
        tally = Tally()
        rows, summary = read_study(self.study)
        if self.workers == 1:
            compare_tables(self.undisturbed.rows, rows, tally)
            compare_summaries(self.undisturbed.summary, summary, tally)
        else:
            compare_trials(self.undisturbed.rows, rows, tally)
            reevaluate(self.experiment, self.home, rows, tally)
        compare_models(self.undisturbed.home / "store", self.home / "store", tally)
        check_record(self.storage or record(self.study), rows, tally)
        if self.tracked:
            check_tracking(self.tracking or sqlite_address(self.home / "mlflow.db"), rows, tally)
        return tally

    def outcome(self, moment: str, seconds: float | None) -> Outcome:
        """Return the result of the run."""
        tally = self.compare()
        notes = [tally.note] * bool(tally.note)
        traces = [command.log.name for command in self.commands if "Traceback" in command.said]
        notes += [f"traceback in {', '.join(traces)}"] * bool(traces)
        return Outcome(
            moment=moment,
            lost=tally.lost,
            doubled=tally.doubled,
            altered=tally.altered,
            seconds=seconds,
            note="; ".join(notes),
        )


class Ground:
    """What all runs share; made when first needed, safe for several threads.

    Args:
        folder: for all files.
        size: `trials` and `epochs` of every sweep.
        apart: whether trials are independent in all drills: then one undisturbed run is enough,
            because trials are the same however many run at once.

    Attributes:
        open: whether runs may continue; false after the drills were stopped.
    """

    def __init__(self, folder: Path, size: Mapping[str, int], *, apart: bool = False) -> None:
        self.folder, self.size, self.apart = folder.resolve(), size, apart
        self._lock = threading.RLock()
        self._made: dict[str, Undisturbed] = {}
        self._started: list[Command] = []
        self.open = True

    def undisturbed(self, setting: Setting) -> Undisturbed:
        """Return the undisturbed run of a kind."""
        setting = APART if self.apart else setting
        with self._lock:
            if setting.name not in self._made:
                self._made[setting.name] = self._run(setting)
            return self._made[setting.name]

    def scene(
        self, setting: Setting, folder: Path, *, finished: bool = False, references: bool = True
    ) -> Scene:
        """Return a home in which a study will run.

        Args:
            setting: the kind of sweep.
            folder: the folder for the run.
            finished: whether the study is already done, with an MLflow of its own.
            references: whether originals and references are trained already.
        """
        if self.apart:
            setting = replace(setting, search=APART.search)
        undisturbed = self.undisturbed(setting)
        scene = Scene(
            ground=self,
            folder=folder,
            undisturbed=undisturbed,
            workers=setting.workers,
            tracked=not finished,
        )
        scene.home.mkdir(parents=True)
        self._write(setting, scene.experiment)
        left_out = shutil.ignore_patterns(*([] if finished else [RESULTS]))
        parts = ["cache", *(["store"] if references else []), *(["studies"] if finished else [])]
        for part in parts:
            source = undisturbed.home / part
            shutil.copytree(source, scene.home / part, ignore=left_out)
        return scene

    def start(self, words: Sequence[str], log: Path, environment: Mapping[str, str]) -> Command:
        """Start a command.

        Raises:
            DrillError: the drills were stopped.
        """
        if not self.open:
            raise DrillError("the drills were stopped")
        self._started.append(Command(words, log, environment))
        return self._started[-1]

    def close(self) -> None:
        """End all drivers and allow no new ones."""
        self.open = False
        self.leave(Path("/"))

    def leave(self, folder: Path) -> None:
        """End the drivers that a run in this folder has left running."""
        for command in self._started:
            if command.log.is_relative_to(folder) and command.process.poll() is None:
                command.kill()

    def clear(self, patience_s: float = LEAVING_S) -> list[str]:
        """End all processes of all runs; return the names of those that did not end themselves.

        Args:
            patience_s: seconds that they may live longer than their driver.
        """
        return [name for command in self._started for name in command.clear(patience_s)]

    def _run(self, setting: Setting) -> Undisturbed:
        folder = self.folder / setting.name
        home, experiment = folder / "home", folder / "drill.yaml"
        home.mkdir(parents=True)
        self._write(setting, experiment)
        for made in list(self._made.values())[:1]:  # all sweeps share the references
            ignore = shutil.ignore_patterns(RESULTS)
            shutil.copytree(made.home / "store", home / "store", ignore=ignore)
        words = ["sweep", str(experiment), "--home", str(home)]
        command = self.start(words, folder / "undisturbed.err", {})
        expect(command, DONE)
        rows, summary = read_study(study_folder(home))
        marks = (command.when(r"^trials: 1 of"), command.when(EVALUATING), command.ended)
        first, evaluating, end = (mark - command.began for mark in marks if mark)
        return Undisturbed(home=home, rows=rows, summary=summary, spans=(first, evaluating, end))

    def _write(self, setting: Setting, path: Path) -> None:
        path.write_text(yaml.safe_dump(setting.experiment(self.size)))


Drill: TypeAlias = Callable[[int, Path, Ground], Outcome]


def expect(command: Command, *codes: int) -> None:
    """Wait for a command's end.

    Raises:
        DrillError: it does not end in the expected way.
    """
    code = command.wait()
    if code not in codes:
        raise DrillError(f"exit code {code} in place of {codes}: {command.last}")


def record(study: Path) -> str:
    """Return the address of the record in a study's folder."""
    journal = study / "study.journal"
    return f"journal:///{journal}" if journal.exists() else sqlite_address(study / "study.db")


def went_on(command: Command, after: float = 0.0) -> float | None:
    """Return the seconds until the study continued; its end counts as well."""
    since = after or command.began
    then = command.when(PROGRESS, since) or command.ended
    return None if then is None else max(0.0, then - since)


def strike(command: Command, phase: str, scene: Scene, rng: random.Random) -> str:
    """Wait for a random moment of a phase and say which it is.

    Phases: "start-up" (until the first trial has ended; called "references" if these are trained
    first), "trials", "final" (the test evaluation).
    """
    first, evaluating, end = scene.undisturbed.spans
    total = len(scene.undisturbed.rows)
    pattern, length = {
        "start-up": (r"", first),
        "references": (r"", first),
        "final": (EVALUATING, end - evaluating),
    }.get(phase, (rf"^trials: {rng.randint(1, total - 1)} of", (evaluating - first) / total))
    wait = rng.uniform(0, length)
    reached = not pattern or command.await_line(pattern)
    time.sleep(wait if reached else 0)
    return f"{phase}: {wait:.2f} s after {pattern.strip('^') or 'the start'}"
