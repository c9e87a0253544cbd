"""Erasing space concept: remove the main directions of D_f from the representation.

Shape suffixes: N samples, B batch, E representation, D directions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.errors import InputError
from mixunlearn.methods.base import OneStep
from mixunlearn.representation import classifier, representations


@dataclass(kw_only=True)
class ErasingSpaceConcept(OneStep):
    """Replace the last layer's weights W by `W·(I − V·Vᵀ)`; D_r and labels are not used.

    V are the first directions of the representations of D_f: the right singular vectors with the
    largest singular values of the matrix that has one representation, not centred, in each row.

    The authors project the representation itself and leave W as it is; the logits are the same.
    Here the representation before the projection can still be read from inside the model.

    Deviation: the authors project onto all other left singular vectors of the transposed matrix.
    This is the same if D_f has at least E images. With fewer, it would also remove every direction
    that D_f does not use, and with it most of what the model knows of D_r.

    The paper's second method, ESC-T, learns a mask of the directions; it is not included.

    Args:
        share: share of the E directions that are removed, in (0, 1]; rounded down, at least one.

    Source: Lee et al., CVPR 2025, arXiv 2504.02199 (ESC).
    """

    needs_labels = False

    share: float = 0.03

    @torch.no_grad()
    def apply(self) -> dict[str, Tensor]:
        """Remove the directions; return which part of D_f's squared norm is left."""
        layer = classifier(self.model, self.context.forget)
        if not any(weight is layer.weight for _, weight in self.model.trained()):
            remedy = "its last layer's weights are frozen or computed; choose another model"
            raise InputError("model.name", type(self.model).__name__, remedy)
        features_NE = representations(self.model, self.context.forget)
        directions_DE = main_directions(features_NE, self.share)
        layer.weight.sub_(layer.weight @ directions_DE.T @ directions_DE)
        removed = (features_NE @ directions_DE.T).square().sum() / features_NE.square().sum()
        return {"loss": 1 - removed, "directions": torch.tensor(float(len(directions_DE)))}


def main_directions(features_NE: Tensor, share: float) -> Tensor:
    """Return the directions that carry most of the features' squared norm, (D, E), orthonormal.

    Args:
        features_NE: one sample in each row.
        share: of the E directions, in (0, 1]; at least one, at most min(N, E).
    """
    count = max(int(share * features_NE.shape[1]), 1)
    directions: Tensor = torch.linalg.svd(features_NE, full_matrices=False).Vh[:count]
    return directions
