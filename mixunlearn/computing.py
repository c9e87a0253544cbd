"""How steps are computed: in which precision, captured or not, exactly repeatable or not."""

import os
from dataclasses import dataclass

import torch

WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS may add in another order


@dataclass(frozen=True, kw_only=True)
class Computing:
    """What a trial's numbers depend on beside the method and its hyperparameters.

    Args:
        precision: of the steps of unlearning, one of `mixunlearn.recipes.PRECISIONS`. Originals and
            references have that of their recipe.
        capture: whether steps may be captured on a GPU; see `mixunlearn.acceleration`.
        deterministic: whether a GPU must give equal numbers for equal seeds, which is slower. A CPU
            always does.
    """

    precision: str = "float32"
    capture: bool = True
    deterministic: bool = False

    def apply(self, device: torch.device) -> None:
        """Let this process compute so on a device; call it before anything is computed there.

        An operation that has no deterministic form warns, and is computed all the same.
        """
        if device.type != "cuda":
            return
        if self.deterministic:
            os.environ.setdefault(*WORKSPACE)
        # Also when not: a worker may have run another experiment before.
        torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
        torch.backends.cudnn.deterministic = self.deterministic
        # Only a help for finding mistakes, and it takes time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


USUAL = Computing()
