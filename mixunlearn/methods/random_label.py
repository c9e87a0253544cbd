"""Random labels: train the forget set on wrong classes, the retain set on its own."""

from dataclasses import dataclass

from torch import Tensor

from mixunlearn.methods.base import Context
from mixunlearn.methods.relabelling import Relabelling, random_wrong


@dataclass(kw_only=True)
class RandomLabel(Relabelling):
    """Minimise `w·|D_f|/|D_r|·CE(D_f, random wrong labels) + CE(D_r)`.

    Ours: by default, the labels are drawn once, and if whole classes are forgotten, none of them is
    drawn. `new_labels="redrawn"` is the authors' way.

    Source: Golatkar et al., CVPR 2020, arXiv 1911.04933; Graves et al., AAAI 2021,
        arXiv 2010.10981.
    """

    needs_labels = True

    def targets(self, context: Context) -> tuple[Tensor, Tensor]:
        """Draw the wrong labels of D_f; the labels of D_r do not change."""
        forget_N, retain_N = context.forget.labels_N, context.retain.labels_N
        assert forget_N is not None
        assert retain_N is not None
        wrong_N = random_wrong(self.rng, forget_N, context.classes, context.forgotten)
        return wrong_N, retain_N
