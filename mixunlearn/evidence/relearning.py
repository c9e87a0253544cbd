"""Relearning: how much of the forget set a model knows again after a few steps of training.

Knowledge that is only suppressed comes back sooner than knowledge that is gone.
"""

from copy import deepcopy

import numpy as np

from mixunlearn.data.batches import Samples, cycled
from mixunlearn.evidence.images import accuracy_on, chosen, joined
from mixunlearn.models import StagedModel
from mixunlearn.recipes import Recipe
from mixunlearn.signature import seed_for
from mixunlearn.training import Training

STEPS = 20
# Without weight decay, which would make a model forget by itself.
RECIPE = Recipe(epochs=1, lr=1e-3, batch=32, weight_decay=0.0)


def regained(
    model: StagedModel, scored: Samples, retain: Samples, seed: int, shown: Samples | None = None
) -> float:
    """Return by how much the accuracy on forgotten images rises when a model is trained briefly.

    A copy takes 20 steps of Adam (learning rate 0.001, batches of 32 images) on retained images;
    if forgotten images are shown as well, on as many of these as of retained ones. Both are drawn
    by the seed, so models with the same seed see the same images in the same order.

    Args:
        model: not changed, not even its mode.
        scored: forgotten images whose accuracy is measured.
        retain: retained images.
        seed: of the draws.
        shown: forgotten images that the copy is trained on; none of `scored`.

    Returns:
        Percentage points in [-100, 100]. A model that has not forgotten has nothing to regain: it
        gets 0, so this number has a meaning only beside the accuracy on D_f. Even a retrained model
        may gain: what counts is the difference to it.

    Raises:
        DivergedError: a loss or an output is not finite.

    Source: Golatkar et al., CVPR 2020, arXiv 1911.04933 (relearn time), here with a fixed time.
    """
    learner = deepcopy(model)
    learner.thaw()
    before = accuracy_on(learner, scored)
    lesson = _lesson(retain, shown, STEPS * RECIPE.batch, seed)
    Training(learner, lesson, RECIPE, seed).epoch()
    return accuracy_on(learner, scored) - before


def _lesson(retain: Samples, shown: Samples | None, count: int, seed: int) -> Samples:
    """Return the images of all steps: `count`, repeated if there are fewer."""
    rng = np.random.default_rng(seed_for("relearning", seed))
    if shown is None:
        return chosen(retain, cycled(rng, len(retain), count))
    half = count // 2
    again = chosen(shown, cycled(rng, len(shown), half))
    return joined(again, chosen(retain, cycled(rng, len(retain), count - half)))
