"""Membership inference: can an attacker tell from its outputs what a model was trained on?"""

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float32]
Labelled = tuple[Probabilities, npt.NDArray[np.int64]]  # outputs and right answers

TREES = 100  # as in LAF's code
DRAWS = 5  # a draw of 150 images varies by 3 to 5 points, more than retrained models differ


def attack_success(
    retain_NK: Probabilities, forget_NK: Probabilities, held_out_NK: Probabilities, seed: int
) -> float:
    """Return the success of the attack (ASR) in percent; 50 is chance, NaN if an output is.

    An XGBoost classifier of 100 trees learns on *sorted* softmax vectors to tell n retained
    training images (members) from n held-out images (non-members). Its accuracy is measured on
    n images of the forget set, counted as members, together with n other held-out images. The
    result is the mean over 5 draws of all these images.

    The attacker is LAF's; the sets are not. Here they are of equal size, so that chance is 50, and
    all images are plain. LAF's code asks about unequal numbers, and passes members and the forget
    set, but not the held-out images, through the training transform: `evidence/laf_attack.py`.

    Args:
        retain_NK: outputs on retained training images.
        forget_NK: outputs on the forget set.
        held_out_NK: outputs on images never trained on.
        seed: of the draws.

    n is the size of the forget set, or less if there are fewer retained images or fewer than 2n
    held-out images.

    Source: Shen et al., ICLR 2024, arXiv 2404.00506; section 7 of arXiv 2502.10288.

    Raises:
        ValueError: fewer than one forget, one retain and two held-out images.
    """
    # Equal numbers, unlike in LAF's code: with unbalanced sets, chance would not be 50 %.
    n = min(len(forget_NK), len(retain_NK), len(held_out_NK) // 2)
    if n < 1:
        raise ValueError("the attack needs one forget, one retain and two held-out images")
    # The attacker takes NaN for a missing value, and would find a number.
    if not all(np.isfinite(part).all() for part in (retain_NK, forget_NK, held_out_NK)):
        return float("nan")
    rng = np.random.default_rng(seed)
    successes = []
    for _ in range(DRAWS):
        members = retain_NK[rng.permutation(len(retain_NK))[:n]]
        claimed = forget_NK[rng.permutation(len(forget_NK))[:n]]
        outsiders = held_out_NK[rng.permutation(len(held_out_NK))[: 2 * n]]
        # Disjoint halves: the attacker must not be asked about images it learned from.
        learning = labelled(members, outsiders[:n])
        successes.append(attacker_accuracy(learning, labelled(claimed, outsiders[n:])))
    return 100 * float(np.mean(successes))


def labelled(members_NK: Probabilities, outsiders_NK: Probabilities) -> Labelled:
    """Return outputs with the right answers: 1 for members, 0 for the others."""
    answers_N = np.repeat((1, 0), (len(members_NK), len(outsiders_NK)))
    return np.concatenate((members_NK, outsiders_NK)), answers_N


def attacker_accuracy(learning: Labelled, asking: Labelled) -> float:
    """Return the accuracy of LAF's attacker, in [0, 1].

    Args:
        learning: outputs it learns from.
        asking: outputs it is asked about.
    """
    # Imported here, because it takes a second and is only needed for the attack.
    from xgboost import XGBClassifier  # noqa: PLC0415

    # One thread: Ray limits a trial's CPUs, and the result must not depend on their number.
    attacker = XGBClassifier(n_estimators=TREES, n_jobs=1, random_state=0)
    # Sorted outputs show how sure the model is, not which class it predicts.
    attacker.fit(np.sort(learning[0], axis=1), learning[1])
    return float(np.mean(attacker.predict(np.sort(asking[0], axis=1)) == asking[1]))
