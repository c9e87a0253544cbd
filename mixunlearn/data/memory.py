"""How much memory images and features may take: what does not fit is streamed or computed again."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30
# Of a device's memory, for the images and features of all trials on it. A GPU also holds models and
# what a step computes. On a CPU, images that are streamed cost nothing: the system's own pages of
# the file are used.
SHARES = {"cuda": 0.5, "cpu": 0.125}
LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


@dataclass(frozen=True, kw_only=True)
class DataMemory:
    """The memory of a trial for images and features; results do not depend on it.

    Args:
        gib: in GiB, > 0; `None`: `SHARES` of the device, divided by the trials that share it.
        cpu: CPUs of a trial, > 0.
        gpu: GPUs of a trial, ≥ 0; a fraction shares one.
    """

    gib: float | None = None
    cpu: float = 1
    gpu: float = 1

    def of_trial(self, device: torch.device) -> int:
        """Return how many bytes one trial may hold on a device."""
        if self.gib is not None:
            return int(self.gib * GIB)
        if device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            return int(SHARES["cuda"] * total * min(1, self.gpu or 1))
        return int(SHARES["cpu"] * host_memory() * min(1, self.cpu / (os.cpu_count() or 1)))

    def of_stage(self) -> int:
        """Return how many bytes the features of one stage may take in the store.

        They are in the host's memory once for all trials of a machine, so they are not divided.
        """
        return int((SHARES["cpu"] * host_memory()) if self.gib is None else self.gib * GIB)


AUTO = DataMemory()


def host_memory() -> int:
    """Return the bytes of memory that this machine, or this container, has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(LIMIT.read_text()))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return total
