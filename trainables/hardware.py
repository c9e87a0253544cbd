"""What Ray gave a trial to compute with."""

import ray
import torch
from ray.tune import PlacementGroupFactory


def select_device(cpus: float) -> torch.device:
    """Use as many threads as there are CPUs, and return the accelerator Ray gave, or the CPU.

    The number of threads decides in which order sums are made: a trial's numbers follow from its
    resources, not from the machine's size. A fraction of a CPU is one thread.
    """
    torch.set_num_threads(max(1, int(cpus)))
    given = ray.get_gpu_ids() if ray.is_initialized() else []
    return torch.device("cuda" if given and torch.cuda.is_available() else "cpu")


def cpus_of(resources: PlacementGroupFactory | None) -> float:
    """Return the CPUs of a trainable's resources; 1 outside of Tune."""
    cpus: float = resources.bundles[0].get("CPU", 1) if resources else 1
    return cpus
