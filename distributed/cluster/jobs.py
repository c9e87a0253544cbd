"""The Ray jobs of a cluster, through the address of its dashboard."""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from distributed.cluster.access import TOKEN, token
from distributed.cluster.checkout import archive
from distributed.runtime.text import cut, redact
from mixunlearn.errors import InputError, MixUnlearnError

DASHBOARD = "http://127.0.0.1:8265"  # a head on this machine, or the local end of a tunnel
ANSWER_S = 5.0
POLL_S = 1.0
RECONNECT_S = 60.0  # how long to retry when a connection, such as a tunnel, breaks
# Time for a stopped sweep to write checkpoints; Ray's default would kill it after 3 seconds.
STOP_WAIT_S = 40
REASON_LENGTH = 300
ENDED = {"STOPPED", "SUCCEEDED", "FAILED"}
HIGHEST_CODE = 125  # larger exit codes are from the shell or from signals
CHATTY = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
NOT_YET = "No available agent"  # the answer of a cluster that was started seconds ago
REFUSED = {401, 403}
NO_RAY = "this is not a dashboard of Ray, which listens on port 8265 by default"
VERBS = ("status", "stop")


@dataclass(frozen=True, kw_only=True)
class JobState:
    """The state of a job.

    Args:
        id: id of the job on its cluster.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        message: Ray's message; for a failed sweep, the last line of its log.
        exit_code: the sweep's exit code; None while it runs, or if it was killed.
        started, ended: times in ISO 8601, UTC.
        seconds: time from start to end, or until now.
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
        """Return whether the job has ended."""
        return self.status in ENDED

    @property
    def code(self) -> int:
        """Return the exit code for a command that waited for the job."""
        if self.status == "SUCCEEDED":
            return 0
        known = self.exit_code or 0
        return known if 0 < known <= HIGHEST_CODE else 1

    @property
    def line(self) -> str:
        """Return the state in one line."""
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        reason = f": {self.message}" if self.status == "FAILED" else ""
        return f"{self.id}: {self.status.lower()}, {self.seconds:.0f} s{code}{reason}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return asdict(self)


class Jobs:
    """The Ray jobs of a cluster, through the address of its dashboard.

    Args:
        address: `http://HOST:PORT`; `None`: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS if it has this
            form, else a dashboard on this machine.

    Raises:
        InputError: it is not an address.
        MixUnlearnError: nothing answers there, or the token is wrong.
    """

    def __init__(self, address: str | None) -> None:
        self.address = dashboard(address)
        self._key = "--address" if address else "address"
        if not logging.getLogger().isEnabledFor(logging.INFO):  # enabled by -v
            for name in CHATTY:
                logging.getLogger(name).setLevel(logging.ERROR)
        self._require_answer()
        # Ray's client prefers this variable to its argument.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        with self._answering():
            self._client = JobSubmissionClient(self.address, headers=token())

    def send(
        self, name: str, entrypoint: str, environment: Mapping[str, str], asked: Sequence[Path] = ()
    ) -> str:
        """Submit the checkout and a command to run in it; return the job's id.

        Args:
            name: the id's first part.
            entrypoint: the command.
            environment: variables that are set for it.
            asked: what is shipped although git does not track it, see `archive`.

        Raises:
            InputError: something that was asked for cannot be shipped.
            MixUnlearnError: git cannot list the files, or the cluster refuses the job.
        """
        with archive(asked) as code:
            return self._submit(name, entrypoint, environment, code)

    def _submit(
        self, name: str, entrypoint: str, environment: Mapping[str, str], code: Path
    ) -> str:
        moment = datetime.now(tz=UTC).strftime("%Y%m%d-%H%M%S")
        job = {
            "entrypoint": entrypoint,
            # With the time: an id can be used once, but a sweep is sent again to resume it.
            "submission_id": f"{name}-{moment}",
            "runtime_env": {"working_dir": str(code), "env_vars": dict(environment)},
        }
        patience = time.monotonic() + RECONNECT_S
        while True:
            try:
                with self._answering():
                    return str(self._client.submit_job(**job))
            except MixUnlearnError as error:
                # Anything else would be refused again.
                if NOT_YET not in str(error):
                    raise
                if time.monotonic() > patience:
                    reason = (
                        "the head accepts no jobs: its agent did not start, as its port was in use"
                    )
                    remedy = "start the head with another --dashboard-agent-listen-port"
                    raise MixUnlearnError(f"{self._named()}: {reason}; {remedy}") from error
                time.sleep(POLL_S)

    def state(self, job: str) -> JobState:
        """Return the state of a job.

        Raises:
            InputError: the cluster has no such job.
        """
        with self._answering(job):
            found = self._client.get_job_info(job)
        status = str(found.status)
        message = (found.message or "").strip()
        # The message of a failed job ends with its log, and the log with the sweep's error.
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
        """Stop a job, wait until it has written its checkpoints and ended; return its state."""
        if (state := self.state(job)).over:
            return state
        with self._answering(job):
            self._client.stop_job(job)
        # Longer than the job itself may take, which Ray kills after `STOP_WAIT_S`.
        patience = time.monotonic() + STOP_WAIT_S + ANSWER_S
        while not (state := self.state(job)).over and time.monotonic() < patience:
            time.sleep(POLL_S)
        return state

    def follow(self, job: str, show: Callable[[str], None]) -> JobState:
        """Show a job's log until the job ends; return its state.

        A broken connection is retried for a minute.
        """
        shown = 0
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                # Ray sends the log from its start each time: what was shown is skipped.
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
        """Check that a dashboard answers; Ray's client would wait forever."""
        try:
            urlopen(f"{self.address}/api/version", timeout=ANSWER_S).close()
        except HTTPError as error:
            error.close()
            if error.code in REFUSED:  # Ray's client will explain what is wrong with the token
                return
            raise MixUnlearnError(f"{self._named()}: answers {error.code}; {NO_RAY}") from error
        except HTTPException as error:
            raise MixUnlearnError(f"{self._named()}: does not speak HTTP; {NO_RAY}") from error
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
            reason = "the token is wrong" if token() else "the cluster requires a token"
            remedy = (
                f"copy the head's ~/.ray/auth_token to {TOKEN}, or set RAY_AUTH_TOKEN_PATH to it"
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


def going_on(job: str, address: str) -> str:
    """Return a message for a user who no longer follows a job."""
    verbs = (f"mixunlearn submit --{verb} {job} --address {address}" for verb in VERBS)
    return f"the job continues; {' or '.join(verbs)}"


def dashboard(address: str | None) -> str:
    """Return the address of the dashboard to which jobs are submitted.

    Raises:
        InputError: it is not an address.
    """
    chosen = address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not chosen and os.environ.get("RAY_ADDRESS", "").startswith(("http://", "https://")):
        chosen = os.environ["RAY_ADDRESS"]
    chosen = chosen or DASHBOARD
    try:
        parts = urlsplit(chosen)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        usable = usable and not re.search(r"\s", chosen)
    except ValueError:
        usable = False
    if not usable:
        remedy = f"must be the address of the cluster's dashboard, for example {DASHBOARD}"
        raise InputError("--address", redact(chosen), remedy)
    return chosen.rstrip("/")


def _iso(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).isoformat(timespec="seconds")


def _waited_for(chunks: Any, skip: int) -> Iterator[str]:  # noqa: ANN401 (Ray has no types)
    """Yield the text of an asynchronous iterator, without its first `skip` characters."""
    # One loop for all pieces: the connection belongs to the loop that opened it.
    with asyncio.Runner() as runner:
        while (text := runner.run(anext(chunks, None))) is not None:
            if fresh := text[skip:]:
                yield fresh
            skip = max(0, skip - len(text))
