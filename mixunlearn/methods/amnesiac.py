"""Amnesiac relabelling: mislabelled forget images among all others, in natural proportion."""

from dataclasses import dataclass, replace

from mixunlearn.data.batches import Samples
from mixunlearn.methods.base import Context
from mixunlearn.methods.proportional import Proportional
from mixunlearn.methods.relabelling import random_wrong


@dataclass(kw_only=True)
class Amnesiac(Proportional):
    """Minimise `1/|D|·(Σ CE(D_f, random wrong labels) + Σ CE(D_r))` in batches of both.

    This is the paper's relabelling, which other papers often call "Amnesiac", and not its log of
    updates. `random_label` has the same mean gradient, up to a factor, but as many images of D_f as
    of D_r in each batch. The labels are drawn once, and if whole classes are forgotten, none of
    them is drawn, as in the authors' code.

    Deviation: the optimizer starts anew; the authors go on with the one of the original's training.

    Args:
        lr: learning rate, > 0; the authors' Adam has 1e-3, for 10 epochs.

    Source: Graves et al., AAAI 2021, arXiv 2010.10981 (its "unlearning" by relabelling).
    """

    lr: float = 1e-3

    def teach(self, context: Context) -> Samples:
        """Return D_f with wrong labels."""
        forget = context.forget
        assert forget.labels_N is not None
        wrong_N = random_wrong(self.rng, forget.labels_N, context.classes, context.forgotten)
        return replace(forget, labels_N=wrong_N)
