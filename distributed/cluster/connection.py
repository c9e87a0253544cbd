"""Connecting to Ray: on this machine, or to a cluster."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import ray

from mixunlearn.data.arrow import Dataset
from mixunlearn.errors import InputError, MixUnlearnError

CONNECT_S = 3.0
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the command of a job
ROOT = Path(__file__).resolve().parents[2]

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no host is contacted unless asked for
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # progress is ours; the new output ignores verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our own callback logs
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours also saves the running trials
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the study is the record; Tune's is never read
}


def local(address: str | None) -> bool:
    """Return whether trials will run on a Ray of this machine's own."""
    return _chosen(address) == "local"


def _chosen(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or "local"


def require_answer(address: str | None) -> None:
    """Check that something listens where the cluster should be; Ray itself tries for minutes.

    Raises:
        InputError: this is no address.
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
        parts = urlsplit(f"//{address.removeprefix('ray://')}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise InputError("--address", address, "must be HOST:PORT, for example 10.0.0.1:6379")
    return host, port


@dataclass(frozen=True)
class Shipped:
    """The file of a data set in Ray's object store: a node that needs it fetches it, once.

    Args:
        content: reference to the file's bytes.
    """

    content: Any

    @classmethod
    def of(cls, dataset: Dataset) -> "Shipped":
        """Put the memory-mapped file of a data set into the object store."""
        assert dataset.path
        return cls(ray.put(np.memmap(dataset.path, np.uint8, mode="r")))

    def __call__(self) -> Any:  # noqa: ANN401 - a buffer
        """Return the file's bytes."""
        return ray.get(self.content)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Use Ray within a `with`: one that runs already, a cluster's, or one started for it.

    Args:
        address: of a cluster, as for `ray.init`; `None` respects RAY_ADDRESS, else starts Ray
            on this machine alone.

    Raises:
        InputError: the address is none.
        MixUnlearnError: the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    require_answer(address)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if local(address):
        # Workers inherit it, and import the checkout from whatever folder we were started in.
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        options |= {"address": "local", "include_dashboard": False}
    else:
        options["address"] = _chosen(address)
        if IN_A_JOB not in os.environ:  # a job was sent with the checkout, and Ray wants one only
            options["runtime_env"] = {"working_dir": str(ROOT)}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).partition("\n")[0]
        remedy = "check the address with `ray status --address …`, or leave --address out"
        raise MixUnlearnError(f"--address = {_chosen(address)!r}: {reason}; {remedy}") from error
    # A failed trial is reported in its row; Tune's tracebacks are for those who asked (-v).
    asked = logging.getLogger().isEnabledFor(logging.INFO)
    logging.getLogger("ray").setLevel(logging.ERROR if asked else logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def slots(cpu: float, gpu: float) -> int:
    """Return how many trials the connected cluster can run at once.

    Raises:
        InputError: not a single one.
    """
    there = ray.cluster_resources()
    for name, wanted in (("CPU", cpu), ("GPU", gpu)):
        largest = max(node["Resources"].get(name, 0) for node in ray.nodes() if node["Alive"])
        if wanted > largest:
            key = f"resources.{name.lower()}"
            raise InputError(key, wanted, f"no node has more than {largest:g}; ask for less")
    by_cpu = int(there["CPU"] / cpu)
    return min(by_cpu, int(there["GPU"] / gpu)) if gpu else by_cpu
