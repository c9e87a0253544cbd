"""The hardware that Ray assigned to a trial."""

import ray
import torch
from ray.tune import PlacementGroupFactory

from mixunlearn.computing import Computing


def select_device(cpus: float, computing: Computing) -> torch.device:
    """Set the number of threads to `cpus`; return the accelerator Ray assigned, or the CPU.

    From now on this process computes as `computing` says.

    The number of threads decides the order of sums. So a trial's numbers depend on its resources,
    not on the size of the machine. A fraction of a CPU counts as one thread.
    """
    torch.set_num_threads(max(1, int(cpus)))
    # CUDA alone does not tell: Ray does not hide GPUs from workers that were given none.
    given = ray.get_gpu_ids() if ray.is_initialized() else []
    device = torch.device("cuda" if given and torch.cuda.is_available() else "cpu")
    computing.apply(device)
    return device


def cpus_of(resources: PlacementGroupFactory | None) -> float:
    """Return the CPUs of a trainable's resources; 1 outside of Tune."""
    cpus: float = resources.bundles[0].get("CPU", 1) if resources else 1
    return cpus
