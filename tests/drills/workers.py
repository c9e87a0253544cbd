"""Drills on workers: killed in the middle of work, and trials that fail in every way."""

import random
from pathlib import Path

from tests.drills.comparison import Tally, compare_tables, read_study
from tests.drills.faults import ALWAYS, Fault, environment
from tests.drills.ground import (
    APART,
    DONE,
    SINGLE,
    TRIALS_FAILED,
    Ground,
    Outcome,
    Scene,
    went_on,
)
from tests.drills.process import Command, DrillError

LIMIT_S, SLOWER = (
    10.0,
    4,
)  # time limit of a trial, for the one that hangs; factor for a busy machine
REASONS = {
    "raise": "a drill raised this in two lines",
    "nan": "diverged",
    "inf": "diverged",
    "hang": "resources.trial_seconds",
    "memory": "MemoryError",
    "kill": "died",
}


def kill(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Kill -9 the workers of four trials, during a step or while a checkpoint is written."""
    rng = random.Random(f"kill-worker {seed}")
    scene = ground.scene(SINGLE, folder)
    at = ("step", "checkpoint")[seed % 2]
    faults = []
    rows = list(scene.undisturbed.rows)
    for index, row in enumerate(rng.sample(rows, min(4, len(rows) - 1))):
        fault = Fault(
            trial=row["trial"],
            epoch=rng.randint(1, row["epochs"]),
            at="step" if seed % 2 == 0 else "checkpoint",
            kind="kill",
            mark=str(scene.folder / f"fault{index}"),
            delay=rng.uniform(0, 0.25 if at == "step" else 0.02),
        )
        faults.append(fault)
    scene.environment = environment(faults)
    last = scene.finish()
    where = ", ".join(f"trial {fault.trial} epoch {fault.epoch}" for fault in faults)
    return scene.outcome(f"{at} of {where}", _recovered(last, faults))


def fail(seed: int, folder: Path, ground: Ground) -> Outcome:
    """One trial each raises, returns NaN, Inf, hangs, exceeds memory; then all are retried."""
    rng = random.Random(f"fail {seed}")
    scene = ground.scene(APART, folder)
    # Exceeded memory ends in an exception or in a kill by the kernel.
    kinds = ["raise", "nan", "inf", "hang", rng.choice(("memory", "kill"))]
    kinds = rng.sample(kinds, min(len(kinds), len(scene.undisturbed.rows) - 1))
    numbers = rng.sample(range(len(scene.undisturbed.rows)), len(kinds))
    epochs = int(scene.undisturbed.rows[0]["epochs"])
    faults = [
        Fault(
            trial=number,
            epoch=rng.randint(1, epochs),
            kind=kind,  # type: ignore[arg-type]
            mark=str(scene.folder / f"fault-{kind}"),
            times=ALWAYS,
        )
        for kind, number in zip(kinds, numbers, strict=True)
    ]
    scene.environment = environment(faults)
    limit = max(LIMIT_S, SLOWER * max(row["seconds"] for row in scene.undisturbed.rows))
    scene.words = ["--set", f"resources.trial_seconds={limit:.0f}"]
    first = scene.finish(codes=(TRIALS_FAILED,))
    tally = _judge(scene, faults)
    scene.environment = {}
    scene.finish("--retry-failed", codes=(DONE,))
    where = ", ".join(f"{fault.kind}: trial {fault.trial}.{fault.epoch}" for fault in faults)
    outcome = scene.outcome(where, _recovered(first, faults))
    if tally.notes:
        raise DrillError(f"{where}: {tally.note}")
    return outcome


def _judge(scene: Scene, faults: list[Fault]) -> Tally:
    """Check that faulty trials failed, each with its reason in one line, and no others changed."""
    tally = Tally()
    rows, _ = read_study(scene.study)
    by_trial = {fault.trial: fault for fault in faults}
    for row in rows:
        fault = by_trial.get(row["trial"])
        if fault is None:
            continue
        reason = str(row["error"])
        told = REASONS[fault.kind] in reason and "\n" not in reason
        ended = row["state"] == "failed" or (fault.kind == "hang" and row["state"] == "pruned")
        tally.add("altered", not (told and ended), f"{fault.kind}: {row['state']}, {reason!r}")
    others = [
        [row for row in table if row["trial"] not in by_trial]
        for table in (scene.undisturbed.rows, rows)
    ]
    compare_tables(others[0], others[1], tally)
    return tally


def _recovered(command: Command, faults: list[Fault]) -> float | None:
    """Return the longest time from a fault to the next trial's end."""
    spans = []
    for fault in faults:
        marks = Path(fault.mark).parent.glob(f"{Path(fault.mark).name}.*")
        spans += [went_on(command, mark.stat().st_mtime) for mark in marks]
    return max((span for span in spans if span is not None), default=None)
