"""Sending a sweep to a cluster as a Ray job: following it, asking after it, stopping it."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from distributed.cluster.connection import ROOT
from distributed.cluster.jobs import STOP_WAIT_S, Jobs, JobState, going_on
from distributed.cluster.version import code_version
from distributed.config.read import read_experiment
from distributed.runtime.addresses import sqlite_path
from distributed.runtime.text import redact
from mixunlearn.errors import InputError, MixUnlearnError

HOME = "~/mixunlearn-runs"  # on the cluster: this machine's paths mean nothing there


def run(
    *,
    experiment: Path | None,
    status: str | None,
    stop: str | None,
    settings: Sequence[str],
    options: Sequence[str],
    home: str | None,
    address: str | None,
    follow: bool,
    show: Callable[[str], None],
) -> JobState:
    """Do the one of three that was asked for, and return what is known of the job then.

    Args:
        experiment: to send.
        status: id of a job to ask after.
        stop: id of a job to stop.
        settings: `key=value`, of the experiment.
        options: of the sweep, passed on.
        home: a folder on the cluster's head.
        address: see `Jobs`.
        follow: whether to wait for the job that was sent, and show its log.
        show: takes pieces of text.

    Raises:
        InputError: none or more of them were asked for, or it cannot be carried out.
        MixUnlearnError: the cluster cannot be reached, or the waiting was interrupted.
    """
    given = {"EXPERIMENT": experiment and str(experiment), "--status": status, "--stop": stop}
    asked = {key: value for key, value in given.items() if value is not None}
    if len(asked) != 1:
        remedy = "one of these is needed: an experiment to send, --status JOB, or --stop JOB"
        raise InputError("submit", " ".join(asked), remedy)
    if status is not None:
        return Jobs(address).state(status)
    if stop is not None:
        return Jobs(address).stop(stop)
    assert experiment is not None
    name, command = entrypoint(experiment, settings, home, options)
    jobs = Jobs(address)
    job = jobs.send(name, command, environment())
    show(f"job {job} was sent to {jobs.address}\n")
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
        file: of the experiment, within the checkout.
        settings: `key=value`, as for a sweep.
        home: a folder on the cluster's head.
        options: of the sweep, passed on.

    Raises:
        InputError: the experiment is wrong, or cannot be sent.
    """
    experiment = read_experiment(file, settings)
    path = file.resolve()
    if not path.is_relative_to(ROOT):
        remedy = f"only what is in the checkout is sent; copy it to {ROOT / 'experiments'}"
        raise InputError("EXPERIMENT", str(file), remedy)
    for setting in settings:
        if redact(setting) != setting:
            remedy = "a job's command is shown to others; let the nodes hold passwords"
            raise InputError("--set", redact(setting), remedy)
    words = ["python", "-m", "mixunlearn", "sweep", path.relative_to(ROOT).as_posix()]
    words += ["--home", _remote_home(home), *options]
    words += [word for setting in settings for word in ("--set", setting)]
    # exec: the signal that stops the job must reach the sweep and not a shell around it.
    return experiment.name, f"exec {shlex.join(words)}"


def environment() -> dict[str, str]:
    """Return what the job is told of this machine's environment: no secret, no local path."""
    told = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), "MIXUNLEARN_CODE": code_version()}
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    shared = "://" in tracking and sqlite_path(tracking) is None
    if shared and not tracking.startswith("file:") and redact(tracking) == tracking:
        told["MLFLOW_TRACKING_URI"] = tracking
    return told


def _remote_home(home: str | None) -> str:
    chosen = home or HOME
    if not chosen.startswith(("/", "~")):
        remedy = "is a folder on the cluster's head: begin it with / or '~'"
        raise InputError("--home", chosen, remedy)
    return chosen
