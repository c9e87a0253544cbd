"""Random labels without labels: the original model's predictions replace them."""

from dataclasses import dataclass

from torch import Tensor

from mixunlearn.methods.base import Context
from mixunlearn.methods.mixture import targets
from mixunlearn.methods.relabelling import Relabelling, random_wrong


@dataclass(kw_only=True)
class RandLabelAgnostic(Relabelling):
    """Minimise `w·|D_f|/|D_r|·CE(D_f, random classes) + CE(D_r, p(x))`, p(x) sharpened.

    p(x) is the original's prediction. A random class is never its most likely class. If labels are
    known, p(x) is the label, as in MixUnlearn.

    Args:
        sharpen_T: temperature of p(x) if labels are not available, in (0, 1]; 1 does not sharpen.

    Source: arXiv 2502.10288, section 5 (RandLabel).
    """

    needs_labels = False

    sharpen_T: float = 0.3

    def targets(self, context: Context) -> tuple[Tensor, Tensor]:
        """Draw the classes of D_f; sharpen the predictions on D_r."""
        likely_N = targets(context.forget, context.classes, self.sharpen_T).argmax(dim=1)
        random_N = random_wrong(self.rng, likely_N, context.classes, context.forgotten)
        return random_N, targets(context.retain, context.classes, self.sharpen_T)
