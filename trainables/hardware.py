"""The hardware that Ray assigned to a trial."""

import os

import ray
import torch
from ray.tune import PlacementGroupFactory

from mixunlearn.computing import Computing
from mixunlearn.effort import ALONE


def processes(gpus: float) -> int:
    """Return how many processes compute a trial together: one for each whole GPU."""
    return max(ALONE, int(gpus))


def select_device(cpus: float, computing: Computing, gpus: float = 0) -> torch.device:
    """Set the number of threads to `cpus`; return the accelerator Ray assigned, or the CPU.

    From now on this process computes as `computing` says. With several `gpus` it is the first one,
    and this process has its share of the threads.

    The number of threads decides the order of sums. So a trial's numbers depend on its resources,
    not on the size of the machine. A fraction of a CPU counts as one thread.
    """
    torch.set_num_threads(max(1, int(cpus / processes(gpus))))
    # CUDA alone does not tell: Ray does not hide GPUs from workers that were given none.
    given = ray.get_gpu_ids() if ray.is_initialized() else []
    device = torch.device("cuda" if given and torch.cuda.is_available() else "cpu")
    computing.apply(device)
    return device


def cpus_of(resources: PlacementGroupFactory | None) -> float:
    """Return the CPUs of a trainable's resources; 1 outside of Tune."""
    cpus: float = resources.bundles[0].get("CPU", 1) if resources else 1
    return cpus


def gpus_of(resources: PlacementGroupFactory | None) -> float:
    """Return the GPUs of a trainable's resources; 0 outside of Tune."""
    gpus: float = resources.bundles[0].get("GPU", 0) if resources else 0
    return gpus


def gpus_of_task() -> float:
    """Return the GPUs that Ray gave to the task that this process runs; 0 outside of tasks."""
    if not ray.is_initialized() or not ray.get_gpu_ids():
        return 0.0
    return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))


def at_once(cpus: float, gpus: float, most: int | None = None) -> int:
    """Return how many trials may share the device of this worker at a time, its own included.

    It is what its node has room for: who is really there changes from second to second.

    Args:
        cpus: CPUs of a trial.
        gpus: GPUs of a trial; with a whole one or more, no other trial has its GPU.
        most: number of trials that there are; `None`: unknown.
    """
    if not ray.is_initialized():
        return ALONE
    own = ray.get_runtime_context().get_node_id()
    known = [node["Resources"] for node in ray.nodes() if node["NodeID"] == own]
    all_cpus = known[0].get("CPU", ALONE) if known else os.cpu_count() or ALONE
    rooms = [all_cpus / cpus] if cpus else []
    rooms += [1 / gpus] if gpus else []
    # Rounding: three times a third of a GPU are one.
    room = int(min(rooms, default=ALONE) + 1e-6)
    return max(ALONE, room if most is None else min(room, most))
