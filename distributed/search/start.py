"""Starts Ray and its workers while the command goes on with other things."""

import threading
from contextlib import ExitStack, suppress
from importlib import import_module

import ray

from distributed.cluster.connection import connected
from distributed.config.experiment import Resources

# What a trial imports: PyTorch, and for the attack in its first evaluation, XGBoost.
NEEDED = ("trainables.unlearn", "xgboost")


class Start:
    """Connects to Ray in a thread of its own, and lets idle workers import what trials need.

    Both take seconds in which the command would only wait: it imports, opens the study and reads
    the references meanwhile.

    Args:
        address: of a cluster; `None`: RAY_ADDRESS, or this machine.
        resources: of a trial.
        most: number of workers that are to be ready.
    """

    def __init__(self, address: str | None, resources: Resources, most: int) -> None:
        self._address, self._resources, self._most = address, resources, most
        # First: two threads must not import parts of Ray at once, which import each other.
        import_module("trainables.unlearn")
        self._stack = ExitStack()
        self._error: BaseException | None = None
        # A daemon: a command that a second signal ends does not wait for it.
        self._thread = threading.Thread(target=self._run, name="mixunlearn-start", daemon=True)
        self._thread.start()

    def connection(self) -> ExitStack:
        """Wait for the connection; return what closes it.

        Raises:
            MixUnlearnError: the cluster cannot be reached.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._stack

    def abandon(self) -> None:
        """Close the connection, if the command ends before it was used."""
        self._thread.join()
        self._stack.close()

    def _run(self) -> None:
        try:
            self._stack.enter_context(connected(self._address))
            self._warm_up()
        except BaseException as error:
            self._error = error

    def _warm_up(self) -> None:
        """Let workers import; they stay, and trials get them. Nobody waits for the answers."""
        if self._resources.gpu:
            return  # not measured with GPUs
        with suppress(Exception):  # it only saves time
            task = ray.remote(_import_all).options(num_cpus=self._resources.cpu)
            self._answers = [task.remote() for _ in range(self._most)]


def _import_all() -> None:
    for name in NEEDED:
        import_module(name)
