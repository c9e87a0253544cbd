"""Sending a sweep to a cluster as a Ray job: following it, asking after it, stopping it."""

import asyncio
import contextlib
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from distributed.addresses import cut, redact, sqlite_path
from distributed.cluster import ROOT
from distributed.experiment import read_experiment
from distributed.version import code_version
from mixunlearn.errors import InputError, MixUnlearnError

DASHBOARD = "http://127.0.0.1:8265"  # of a head on this machine, or at the end of a tunnel
TOKEN = "~/.ray/auth_token"
HOME = "~/mixunlearn-runs"  # on the cluster: this machine's paths mean nothing there
ANSWER_S = 5.0
POLL_S = 1.0
RECONNECT_S = 60.0  # a tunnel may break and come back
# A stopped sweep finishes what it is writing; Ray would kill it after 3 seconds.
STOP_WAIT_S = 40
REASON_LENGTH = 300
ENDED = {"STOPPED", "SUCCEEDED", "FAILED"}
HIGHEST_CODE = 125  # beyond are those of the shell, and of signals
CHATTY = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
REFUSED = {401, 403}
NO_RAY = "this is no dashboard of Ray; it listens on port 8265 by default"
VERBS = ("status", "stop")


@dataclass(frozen=True, kw_only=True)
class JobState:
    """What is known of a job.

    Args:
        id: names it on its cluster.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        message: Ray's word on it; of a failed sweep, the last line of its log.
        exit_code: the sweep's own; None while it runs, or when it was killed.
        started, ended: in ISO 8601, UTC.
        seconds: from start to end, or to now.
    """

    id: str
    status: str
    message: str
    exit_code: int | None
    started: str | None
    ended: str | None
    seconds: float

    @property
    def over(self) -> bool:
        """Return whether nothing more will happen."""
        return self.status in ENDED

    @property
    def code(self) -> int:
        """Return the exit code for whoever waited for the job."""
        if self.status == "SUCCEEDED":
            return 0
        known = self.exit_code or 0
        return known if 0 < known <= HIGHEST_CODE else 1

    @property
    def line(self) -> str:
        """Return all of it in one line."""
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        reason = f": {self.message}" if self.status == "FAILED" else ""
        return f"{self.id}: {self.status.lower()}, {self.seconds:.0f} s{code}{reason}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return asdict(self)


class Jobs:
    """The Ray jobs of a cluster, behind the address of its dashboard.

    Args:
        address: `http://HOST:PORT`; else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS if it is of
            this form, else a dashboard on this machine.

    Raises:
        InputError: this is no address.
        MixUnlearnError: nothing answers there, or wants another token.
    """

    def __init__(self, address: str | None) -> None:
        self.address = dashboard(address)
        self._key = "--address" if address else "address"
        if not logging.getLogger().isEnabledFor(logging.INFO):  # -v asks for it
            for name in CHATTY:
                logging.getLogger(name).setLevel(logging.ERROR)
        self._require_answer()
        # For Ray's client the environment would win over what was typed.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        with self._answering():
            self._client = JobSubmissionClient(self.address, headers=token())

    def send(self, name: str, entrypoint: str) -> str:
        """Send the checkout and a command to run in it; return the job's id."""
        moment = datetime.now(tz=UTC).strftime("%Y%m%d-%H%M%S")
        with self._answering():
            return str(
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=f"{name}-{moment}",
                    runtime_env={"working_dir": str(ROOT), "env_vars": environment()},
                )
            )

    def state(self, job: str) -> JobState:
        """Return what is known of a job.

        Raises:
            InputError: the cluster knows no such job.
        """
        with self._answering(job):
            found = self._client.get_job_info(job)
        status = str(found.status)
        message = (found.message or "").strip()
        # The message of a failed job ends with its log, that with the sweep's own line.
        last = message.splitlines()[-1] if message and status == "FAILED" else message
        end = found.end_time or time.time() * 1000
        return JobState(
            id=job,
            status=status,
            message=cut(redact(last), REASON_LENGTH),
            exit_code=found.driver_exit_code,
            started=_iso(found.start_time),
            ended=_iso(found.end_time),
            seconds=round((end - (found.start_time or end)) / 1000, 1),
        )

    def stop(self, job: str) -> JobState:
        """Stop a job, wait until it has put its papers away, and return how it ended."""
        if (state := self.state(job)).over:
            return state
        with self._answering(job):
            self._client.stop_job(job)
        patience = time.monotonic() + STOP_WAIT_S + ANSWER_S
        while not (state := self.state(job)).over and time.monotonic() < patience:
            time.sleep(POLL_S)
        return state

    def follow(self, job: str, show: Callable[[str], None]) -> JobState:
        """Pass on a job's log until it ends, and return how it did.

        A connection that breaks is taken up again, for a minute.
        """
        shown = 0
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                for text in _waited_for(self._client.tail_job_logs(job), skip=shown):
                    show(text)
                    shown += len(text)
            if (state := self._state_after_a_break(job)).over:
                return state
            time.sleep(POLL_S)

    def _state_after_a_break(self, job: str) -> JobState:
        patience = time.monotonic() + RECONNECT_S
        while True:
            try:
                return self.state(job)
            except InputError:
                raise
            except MixUnlearnError as error:
                if time.monotonic() > patience:
                    raise MixUnlearnError(f"{error}; {going_on(job, self.address)}") from error
                time.sleep(POLL_S)

    def _require_answer(self) -> None:
        """Check that a dashboard listens; Ray's client would wait for ever."""
        try:
            urlopen(f"{self.address}/api/version", timeout=ANSWER_S).close()
        except HTTPError as error:
            error.close()
            if error.code in REFUSED:  # of a token, the client says more
                return
            raise MixUnlearnError(f"{self._named()}: answers {error.code}; {NO_RAY}") from error
        except HTTPException as error:
            raise MixUnlearnError(f"{self._named()}: speaks no HTTP; {NO_RAY}") from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            reason = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            remedy = "start the cluster, or the tunnel to its dashboard (docs/cluster.md)"
            raise MixUnlearnError(f"{self._named()}: {reason.lower()}; {remedy}") from error

    @contextlib.contextmanager
    def _answering(self, job: str | None = None) -> Iterator[None]:
        """Turn the client's errors into ours."""
        try:
            yield
        except AuthenticationError as error:
            reason = "the token is not the cluster's" if token() else "the cluster wants a token"
            remedy = (
                f"copy the head's ~/.ray/auth_token to {TOKEN}, or name it: RAY_AUTH_TOKEN_PATH"
            )
            raise MixUnlearnError(f"{self._named()}: {reason}; {remedy}") from error
        except (OSError, RuntimeError, ValueError) as error:
            if job and "does not exist" in str(error):
                remedy = f"no such job at {self.address}; `ray job list` shows them"
                raise InputError("JOB", job, remedy) from error
            reason = cut(redact(str(error)), REASON_LENGTH)
            raise MixUnlearnError(f"{self._named()}: {reason}") from error

    def _named(self) -> str:
        return f"{self._key} = {self.address!r}"


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
    job = jobs.send(name, command)
    show(f"job {job} was sent to {jobs.address}\n")
    if not follow:
        return jobs.state(job)
    try:
        return jobs.follow(job, show)
    except KeyboardInterrupt as error:
        raise MixUnlearnError(going_on(job, jobs.address)) from error


def going_on(job: str, address: str) -> str:
    """Return what to tell those who no longer follow a job."""
    verbs = (f"mixunlearn submit --{verb} {job} --address {address}" for verb in VERBS)
    return f"the job goes on; {' or '.join(verbs)}"


def dashboard(address: str | None) -> str:
    """Return the address of the dashboard that jobs are sent to.

    Raises:
        InputError: it is none.
    """
    chosen = address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not chosen and os.environ.get("RAY_ADDRESS", "").startswith(("http://", "https://")):
        chosen = os.environ["RAY_ADDRESS"]
    chosen = chosen or DASHBOARD
    try:
        parts = urlsplit(chosen)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        remedy = f"must be http://HOST:PORT of the cluster's dashboard, for example {DASHBOARD}"
        raise InputError("--address", redact(chosen), remedy)
    return chosen.rstrip("/")


def token() -> dict[str, str]:
    """Return the header with the token that Ray keeps on this machine, if there is one.

    Ray's client sends it with RAY_AUTH_MODE=token alone, which is easily forgotten.

    Raises:
        InputError: it should be in a file that cannot be read.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return {}
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    found = os.environ.get("RAY_AUTH_TOKEN", "")
    try:
        found = found or Path(named or TOKEN).expanduser().read_text()
    except OSError as error:
        if named:
            remedy = f"{(error.strerror or str(error)).lower()}; name the file with the token"
            raise InputError("RAY_AUTH_TOKEN_PATH", named, remedy) from error
    return {"Authorization": f"Bearer {found.strip()}"} if found.strip() else {}


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


def _iso(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).isoformat(timespec="seconds")


def _waited_for(chunks: Any, skip: int) -> Iterator[str]:  # noqa: ANN401 (Ray has no types)
    """Yield what an asynchronous iterator yields, without its first characters."""
    with asyncio.Runner() as runner:
        while (text := runner.run(anext(chunks, None))) is not None:
            if fresh := text[skip:]:
                yield fresh
            skip = max(0, skip - len(text))
