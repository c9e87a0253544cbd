"""The global random generators: lent to code that draws from them, and given back as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from mixunlearn.parallel import team

SEED_NUMPY = 2**32  # NumPy's global generator takes no larger seed
SEEDS_TORCH = 2**63


@contextmanager
def own_chance(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's global generators within a block; restore them after.

    Our own code draws from generators of its own; a user's data set or model may not.

    Args:
        seed: in [0, 2**63).
    """
    ours = random.getstate(), np.random.get_state()  # noqa: NPY002 (whoever uses it, uses this one)
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if used else ()
    with torch.random.fork_rng(devices=gpus):
        random.seed(seed)
        np.random.seed(seed % SEED_NUMPY)  # noqa: NPY002
        # Dropout must not be the same in all parts of a batch.
        of_part = (seed + team().rank) % SEEDS_TORCH
        torch.default_generator.manual_seed(of_part)
        if gpus:
            torch.cuda.manual_seed_all(of_part)
        try:
            yield
        finally:
            random.setstate(ours[0])
            np.random.set_state(ours[1])  # noqa: NPY002
