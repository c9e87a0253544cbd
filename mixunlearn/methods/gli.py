"""Zero-shot unlearning by noise: no image of D_f or D_r is used."""

from dataclasses import dataclass

from torch import Tensor

from mixunlearn.methods.base import Context
from mixunlearn.methods.noise import Labelled, NoiseMethod


@dataclass(kw_only=True)
class GLI(NoiseMethod):
    """The zero-shot variant of UNSIR: noise replaces the images of kept classes too.

    The noise of a forgotten class maximises the original's error, the noise of a kept class
    minimises it. This needs the classes, but no labels of images. An epoch has as many steps as a
    pass over D_f would have.

    Batch norm keeps the original's statistics, because noise has other statistics than images
    (ours).

    Whether this is what arXiv 2502.10288 compares with as "GLI" is not known: it names no source
    that would settle it. The name stays for comparability.

    Source: Chundawat et al., TIFS 2023, arXiv 2201.05629 (error minimisation-maximisation).
    """

    needs_labels = False
    passes_over = "forget"

    def prepare(self, context: Context) -> None:
        """Learn the noise of all classes."""
        super().prepare(context)
        kept = [name for name in range(context.classes) if name not in context.forgotten]
        self.remembered = self.learn(kept, wrong=False)

    def kept(self, retain_B: Tensor) -> Labelled:
        """Return B noise images of the classes that are kept."""
        return self.draw(self.remembered, len(retain_B))

    def set_mode(self) -> None:
        """Put the unlearner into evaluation mode."""
        self.model.eval()
