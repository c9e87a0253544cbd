"""Losses as pure functions: those of MixUnlearn (arXiv 2502.10288) and those that methods share.

Shape suffixes: B batch, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """Sharpen probability vectors: `p_c^(1/T) / Σ_c p_c^(1/T)`, in log space.

    Args:
        p: probabilities, shape (..., C), rows sum to 1.
        temperature: T > 0; 1 changes nothing, towards 0 the result becomes one-hot.

    Returns:
        Probabilities of the same shape.

    Raises:
        ValueError: the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature = {temperature}: must be positive")
    tiny = torch.finfo(p.dtype).tiny
    return torch.softmax(p.clamp_min(tiny).log() / temperature, dim=-1)


def sim_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return `1 − cos(a, b)` of each row: 0 for equal directions, at most 1 for probabilities.

    Args:
        a: shape (B, K).
        b: shape (B, K).

    Returns:
        Shape (B,).
    """
    # Named as in the paper, although it grows when the two become less similar.
    return 1 - F.cosine_similarity(a, b, dim=-1)


def contrastive_ratio(
    retain_out: Tensor,
    retain_target: Tensor,
    forget_out: Tensor,
    forget_target: Tensor,
    retain_weight: float | Tensor,
    forget_weight: float | Tensor,
    temperature: float,
) -> Tensor:
    """Return `Σ_j [w_r·SimLoss(a_r^j, p_r^j) − logsumexp_i(w_f·SimLoss(a_f^i, p_f^i)/τ)]`.

    Minimising it pulls retain outputs to their targets and pushes forget outputs away from
    theirs (eq. 4-6 of the paper). The caller divides by the batch size.

    Args:
        retain_out: a_r, probabilities, shape (B, K).
        retain_target: p_r, probabilities, shape (B, K).
        forget_out: a_f, probabilities, shape (B, K).
        forget_target: p_f, probabilities, shape (B, K).
        retain_weight: w_r, a number or shape (B,).
        forget_weight: w_f, a number or shape (B,).
        temperature: τ > 0.

    Returns:
        A scalar, the sum over the batch.
    """
    attraction = (retain_weight * sim_loss(retain_out, retain_target)).sum()
    repulsion = torch.logsumexp(
        forget_weight * sim_loss(forget_out, forget_target) / temperature, dim=0
    )
    # The repulsion does not depend on j, so its sum over j is B times its value.
    return attraction - len(retain_out) * repulsion


def distillation_kl(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return `T²·KL(q_T ‖ softmax(z/T))` in nats, mean of the batch.

    `q_T` are the teacher's probabilities at the same temperature. The factor T² keeps the size of
    the gradients independent of T (Hinton et al., 2015, arXiv 1503.02531).

    Args:
        logits: z of the student, shape (B, K).
        teacher: probabilities of the teacher at temperature 1, shape (B, K).
        temperature: T > 0; above 1, both distributions become softer.

    Returns:
        A scalar, at least 0.
    """
    student = torch.log_softmax(logits / temperature, dim=-1)
    softened = sharpen(teacher, temperature)
    return temperature**2 * F.kl_div(student, softened, reduction="batchmean")
