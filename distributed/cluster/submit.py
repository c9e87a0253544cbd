"""Submits a sweep to a cluster as a Ray job, follows it, gets its state, or stops it."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from distributed.cluster.checkout import name_there, users_folder
from distributed.cluster.jobs import STOP_WAIT_S, Jobs, JobState, going_on
from distributed.cluster.version import code_version
from distributed.config.presets import named_file
from distributed.config.read import read_experiment
from distributed.runtime.addresses import sqlite_path
from distributed.runtime.text import redact
from mixunlearn.errors import InputError, MixUnlearnError

HOME = "~/mixunlearn-runs"  # on the cluster, where this machine's paths do not exist


def run(
    *,
    experiment: Path | None,
    status: str | None,
    stop: str | None,
    settings: Sequence[str],
    options: Sequence[str],
    home: str | None,
    address: str | None,
    ship: Sequence[Path],
    follow: bool,
    show: Callable[[str], None],
) -> JobState:
    """Submit an experiment, get the state of a job, or stop it; return the state of the job.

    Args:
        experiment: path of an experiment to submit.
        status: id of a job whose state to return.
        stop: id of a job to stop.
        settings: `key=value` settings of the experiment.
        options: options that are passed on to the sweep.
        home: a folder on the cluster's head.
        address: see `Jobs`.
        ship: files and folders that are shipped although git does not track them.
        follow: whether to wait for the submitted job and show its log.
        show: called with pieces of the log.

    Raises:
        InputError: not exactly one of `experiment`, `status` and `stop` is given, or it is invalid.
        MixUnlearnError: the cluster cannot be reached, or Ctrl-C stopped the waiting.
    """
    given = {"EXPERIMENT": experiment and str(experiment), "--status": status, "--stop": stop}
    asked = {key: value for key, value in given.items() if value is not None}
    if len(asked) != 1:
        remedy = "give one of these: an experiment to submit, --status JOB, or --stop JOB"
        raise InputError("submit", " ".join(asked), remedy)
    if status is not None:
        return Jobs(address).state(status)
    if stop is not None:
        return Jobs(address).stop(stop)
    assert experiment is not None
    name, command = entrypoint(experiment, settings, home, options)
    jobs = Jobs(address)
    job = jobs.send(name, command, environment(), [named_file(experiment).resolve(), *ship])
    show(f"job {job} was submitted to {jobs.address}\n")
    if not follow:
        return jobs.state(job)
    try:
        return jobs.follow(job, show)
    except KeyboardInterrupt as error:
        raise MixUnlearnError(going_on(job, jobs.address)) from error


def entrypoint(
    file: Path,
    settings: Sequence[str] = (),
    home: str | None = None,
    options: Sequence[str] = (),
) -> tuple[str, str]:
    """Check an experiment and return its name and the command of its sweep on a cluster.

    Args:
        file: path of the experiment, in the checkout or the current folder; or a preset's name.
        settings: `key=value` settings, as for a sweep.
        home: a folder on the cluster's head.
        options: options that are passed on to the sweep.

    Raises:
        InputError: the experiment is invalid, or cannot be submitted.
    """
    # Here first: on the cluster, a typing error would cost the start of a job.
    experiment = read_experiment(file, settings)
    name = name_there(named_file(file).resolve())
    if name is None:
        remedy = f"only files in {users_folder()} are submitted; copy it there"
        raise InputError("EXPERIMENT", str(file), remedy)
    for setting in settings:
        if redact(setting) != setting:
            remedy = "others can see a job's command; keep passwords on the nodes"
            raise InputError("--set", redact(setting), remedy)
    words = ["python", "-m", "mixunlearn", "sweep", name]
    words += ["--home", _remote_home(home), *options]
    words += [word for setting in settings for word in ("--set", setting)]
    # exec, because the signal that stops the job must reach the sweep, not a shell around it.
    return experiment.name, f"exec {shlex.join(words)}"


def environment() -> dict[str, str]:
    """Return the job's environment variables from this machine: no secrets, no local paths."""
    # The shipped checkout has no history, so the commit has to travel along.
    told = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), "MIXUNLEARN_CODE": code_version()}
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    # An SQLite file or a folder of this machine does not exist on the cluster.
    shared = "://" in tracking and sqlite_path(tracking) is None
    if shared and not tracking.startswith("file:") and redact(tracking) == tracking:
        told["MLFLOW_TRACKING_URI"] = tracking
    return told


def _remote_home(home: str | None) -> str:
    chosen = home or HOME
    if not chosen.startswith(("/", "~")):
        remedy = "must be a folder on the cluster's head that starts with / or '~'"
        raise InputError("--home", chosen, remedy)
    return chosen
