"""What Ray gave a trial to compute with."""

import ray
import torch
from ray.tune import Trainable


def claim(trainable: Trainable) -> torch.device:
    """Use as many threads as the trial has CPUs, and return its accelerator or the CPU.

    Fractions of a CPU count as one thread. The number of threads decides in which order sums
    are made, so a trial's numbers follow from its resources, not from the machine's size.
    """
    resources = trainable.trial_resources
    cpus = resources.bundles[0].get("CPU", 1) if resources else 1
    torch.set_num_threads(max(1, int(cpus)))
    given = ray.get_gpu_ids() if ray.is_initialized() else []
    return torch.device("cuda" if given and torch.cuda.is_available() else "cpu")
