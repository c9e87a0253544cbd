"""Connects to Ray: on this machine, or on a cluster."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import ray
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from distributed.cluster.access import make_token, token
from distributed.cluster.checkout import ROOT, archive
from distributed.cluster.ray_folder import INNER, private_folder
from mixunlearn.data.arrow import Dataset
from mixunlearn.errors import InputError, MixUnlearnError

CONNECT_S = 3.0
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the command of a job

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no connection that the user did not ask for
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # we show progress; the new output ignores verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our own callback logs
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # our handler also checkpoints the running trials
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the study is the record; Tune's state is never read
}


def local(address: str | None) -> bool:
    """Return whether trials will run on this machine, on a Ray that we start.

    Raises:
        InputError: it is not an address.
    """
    return _chosen(address) == "local"


def _chosen(address: str | None) -> str:
    chosen = address or os.environ.get("RAY_ADDRESS") or "local"
    if chosen not in {"local", "auto"}:
        _host_and_port(chosen)
    return chosen


def require_answer(address: str | None) -> None:
    """Check that a cluster listens at the address; Ray itself would retry for minutes.

    Raises:
        InputError: it is not an address.
        MixUnlearnError: nothing answers.
    """
    chosen = _chosen(address)
    if chosen in {"local", "auto"}:
        return
    try:
        socket.create_connection(_host_and_port(chosen), CONNECT_S).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = "start it (ray start --head), or leave --address and RAY_ADDRESS out"
        raise MixUnlearnError(f"--address = {chosen!r}: {reason}; {remedy}") from error


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        # Without the slashes, urlsplit would take the host for a scheme.
        parts = urlsplit(f"//{address.removeprefix('ray://')}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise InputError("--address", address, "must be HOST:PORT, for example 10.0.0.1:6379")
    return host, port


@dataclass(frozen=True)
class Shipped:
    """The file of a data set in Ray's object store; each node that needs it fetches it once.

    Args:
        content: Ray's reference to the file's bytes.
    """

    content: Any

    @classmethod
    def of(cls, dataset: Dataset) -> "Shipped":
        """Put the memory-mapped file of a data set into the object store."""
        assert dataset.path
        # Mapped: the file is copied once, into the object store, and not into memory first.
        return cls(ray.put(np.memmap(dataset.path, np.uint8, mode="r")))

    def __call__(self) -> Any:  # noqa: ANN401 - a buffer
        """Return the file's bytes."""
        return ray.get(self.content)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Use Ray within a `with`: a running one, a cluster, or one that is started for it.

    Args:
        address: address of a cluster, as for `ray.init`; `None`: RAY_ADDRESS, or else a new Ray
            on this machine.

    Raises:
        InputError: it is not an address, or a link leads out of the checkout that is shipped.
        MixUnlearnError: the cluster cannot be reached, or there is no folder for a new Ray.
    """
    # Whoever has started Ray ends it.
    if ray.is_initialized():
        yield
        return
    require_answer(address)
    # Before `ray.init`: its processes inherit the environment of that moment.
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # A failed trial has its error in its row; Tune's tracebacks and Ray's logs are only for -v.
    asked = logging.getLogger().isEnabledFor(logging.INFO)
    with ExitStack() as stack:
        if local(address):
            _start(stack.enter_context(private_folder(keep=asked)))
        else:
            _join(_chosen(address))
        stack.callback(ray.shutdown)
        logging.getLogger("ray").setLevel(logging.ERROR if asked else logging.CRITICAL)
        yield


def _start(folder: Path) -> None:
    # Workers inherit it, so that they find the checkout from any working folder.
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # Ray waits 20 s for its own server, which is too short on a machine that is busy.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "60")
    make_token()
    # Ray keeps the first token that this process used, for example for a cluster it asked before.
    AuthenticationTokenLoader.instance().reset_cache()
    _init("local", include_dashboard=False, _temp_dir=str(folder / INNER))


def _join(address: str) -> None:
    token()  # only for its check that no other user can read it
    # A job was already submitted with the checkout, and Ray allows only one runtime_env.
    if IN_A_JOB in os.environ:
        _init(address)
        return
    with archive() as code:
        _init(address, runtime_env={"working_dir": str(code)})


def _init(address: str, **options: Any) -> None:  # noqa: ANN401 - handed on
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray has no class of its own for a start that took too long
        # Ray adds long advice below the first line.
        reason = str(error).partition("\n")[0].rstrip(".:")
        if address == "local":
            remedy = "run the same command again, with less other work on this machine"
            raise MixUnlearnError(f"Ray did not start: {reason}; {remedy}") from error
        remedy = "check the address with `ray status --address …`, or leave --address out"
        raise MixUnlearnError(f"--address = {address!r}: {reason}; {remedy}") from error


def slots(cpu: float, gpu: float) -> int:
    """Return how many trials the connected cluster can run at once.

    Raises:
        InputError: no node has enough resources for a trial.
    """
    there = ray.cluster_resources()
    for name, wanted in (("CPU", cpu), ("GPU", gpu)):
        # A trial cannot span nodes: the sum over the cluster does not tell whether it fits.
        largest = max(node["Resources"].get(name, 0) for node in ray.nodes() if node["Alive"])
        if wanted > largest:
            key = f"resources.{name.lower()}"
            raise InputError(key, wanted, f"no node has more than {largest:g}; ask for less")
    by_cpu = int(there["CPU"] / cpu)
    return min(by_cpu, int(there["GPU"] / gpu)) if gpu else by_cpu
