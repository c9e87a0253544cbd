"""SVC-MIA: the membership attack of SalUn's tables, with support vector classifiers.

Shape suffixes: N samples, K classes, F features.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import entr

Array = npt.NDArray[np.float64]

PENALTY = 3.0  # C of the classifier, as in the authors' code
SMALLEST = 1e-30  # probability, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A model's outputs on some images, and the images' labels.

    Args:
        probs_NK: softmax outputs, float32.
        labels_N: int64.
    """

    probs_NK: npt.NDArray[np.float32]
    labels_N: npt.NDArray[np.int64]


def svc_mia(retain: Answers, held_out: Answers, forget: Answers) -> dict[str, float]:
    """Return, by what the attacker sees, the share of D_f that it calls non-members, in percent.

    Five classifiers (radial basis functions, C = 3, γ = 1 / features) learn to tell retained
    training images from images never trained on. Each sees one thing of an output: `correctness`,
    `confidence` in the true class, `entropy`, `m_entropy` (of the output and the label), or all of
    it, `prob`. SalUn's tables show `confidence` as "MIA".

    The share is no success rate, and neither 50 nor 100 is right: it should be that of retrained
    models. Floor 0, ceiling 100. As in the authors' code, the attacker learns from as many retained
    images as there are held-out images, the first ones. If fewer are retained, members are the
    minority and the share rises.

    Deviation: `m_entropy` is that of Song & Mittal (USENIX Security 2021, arXiv 2003.10595,
    equation 8). The authors' code exchanges the columns of all labels in a batch, not each row's
    own, and takes log p for log (1 − p).

    Args:
        retain: on retained training images, without the training transform.
        held_out: on images never trained on.
        forget: on the forget set.

    Source: Fan et al., ICLR 2024, arXiv 2310.12508, "MIA-Efficacy"; evaluation/SVC_MIA.py.

    Raises:
        ValueError: a set is empty.
    """
    if not all(len(part.labels_N) for part in (retain, held_out, forget)):
        raise ValueError("SVC-MIA needs at least one image of each kind")
    count = len(held_out.labels_N)
    members = Answers(probs_NK=retain.probs_NK[:count], labels_N=retain.labels_N[:count])
    seen = [_seen(part) for part in (members, held_out, forget)]
    return {name: _called_outsiders(*(part[name] for part in seen)) for name in seen[0]}


def modified_entropy(answers: Answers) -> Array:
    """Return −(1 − p_y) log p_y − Σ_{k≠y} p_k log(1 − p_k) in nats, at least 0, shape (N,)."""
    probs_NK = answers.probs_NK.astype(np.float64)
    own_NK = answers.labels_N[:, None] == np.arange(probs_NK.shape[1])
    # Both terms are weight × −log(rest): of the true class with p and 1 − p exchanged.
    rest_NK = np.where(own_NK, probs_NK, 1 - probs_NK)
    weight_NK = np.where(own_NK, 1 - probs_NK, probs_NK)
    return np.asarray(-(weight_NK * np.log(np.maximum(rest_NK, SMALLEST))).sum(axis=1))


def _seen(answers: Answers) -> dict[str, Array]:
    """Return what each attacker sees, each of shape (N, F)."""
    probs_NK = answers.probs_NK.astype(np.float64)
    rows = np.arange(len(probs_NK))
    return {
        "correctness": (probs_NK.argmax(axis=1) == answers.labels_N).astype(float)[:, None],
        "confidence": probs_NK[rows, answers.labels_N][:, None],
        "entropy": entr(probs_NK).sum(axis=1)[:, None],
        "m_entropy": modified_entropy(answers)[:, None],
        "prob": probs_NK,
    }


def _called_outsiders(member_NF: Array, outsider_NF: Array, asked_NF: Array) -> float:
    """Return the share of the images asked about that are called non-members, in percent."""
    # Imported here, because it takes a second and is only needed for the attack.
    from sklearn.svm import SVC  # noqa: PLC0415

    if not all(np.isfinite(part_NF).all() for part_NF in (member_NF, outsider_NF, asked_NF)):
        return float("nan")
    attacker = SVC(C=PENALTY, gamma="auto", kernel="rbf")
    answers = np.repeat((1, 0), (len(member_NF), len(outsider_NF)))
    attacker.fit(np.concatenate((member_NF, outsider_NF)), answers)
    return 100 * (1 - float(attacker.predict(asked_NF).mean()))
