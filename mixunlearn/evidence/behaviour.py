"""What a model does when it is put to use: relearning, a linear probe, and unseen neighbours.

Outputs alone can look right: a layer that hides a class, or knowledge that comes back with a few
steps of training, leaves them as they should be.

Shape suffixes: N samples.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from mixunlearn.data.batches import Indices, Samples
from mixunlearn.evaluation import EvaluationSet
from mixunlearn.evidence.images import accuracy_on, chosen, joined, labels_of, on_device
from mixunlearn.evidence.neighbours import confused_class, nearest
from mixunlearn.evidence.probe import probe_accuracy
from mixunlearn.evidence.relearning import regained
from mixunlearn.inference import predict
from mixunlearn.models import StagedModel
from mixunlearn.models.finite import require_finite
from mixunlearn.signature import seed_for

SHOWN = 10  # images of D_f from which relearning and the probe may learn


@dataclass(frozen=True, kw_only=True)
class BehaviourSet:
    """The images on which behaviour is measured: the same for all models that are compared.

    Args:
        shown: images of D_f that relearning is shown; `None` if D_f is a single image.
        fitted: the same, and images of D_r: from these the probe learns.
        scored: the other images of D_f, whose accuracy is measured.
        retain: images of D_r.
        near: unseen images nearest to D_f; `None` if there are none.
        neighbour: unseen images of the class that the original confuses most with the forgotten
            ones; `None` if there are none.
        seed: of the draws of relearning.
    """

    shown: Samples | None
    fitted: Samples | None
    scored: Samples
    retain: Samples
    near: Samples | None
    neighbour: Samples | None
    seed: int

    def measure(self, model: StagedModel) -> dict[str, float]:
        """Return what a model does, by name; for references as well, which it is compared with.

        - `relearn/retain`, `relearn/forget`: by how many points the accuracy on D_f rises after 20
          steps on retained images, and on retained and 10 forgotten ones; see `regained`.
        - `probe/forget`: accuracy of a linear probe on D_f, in percent; see `probe_accuracy`.
        - `near/acc`, `near/class`: accuracy in percent on unseen images near to D_f, and of the
          class that the original confuses with it.

        What cannot be measured is left out: `relearn/forget` and `probe/forget` if D_f is a single
        image, `near/…` if there are no such images.

        Args:
            model: not changed, not even its mode.

        Raises:
            DivergedError: a weight or an output of the model is not finite.
            InputError: the model has no features; see `features`.
        """
        require_finite(model)
        model = deepcopy(model).eval()
        found = {"relearn/retain": regained(model, self.scored, self.retain, self.seed)}
        if self.shown is not None and self.fitted is not None:
            found["relearn/forget"] = regained(
                model, self.scored, self.retain, self.seed, self.shown
            )
            found["probe/forget"] = probe_accuracy(model, self.fitted, self.scored)
        for name, unseen in (("near/acc", self.near), ("near/class", self.neighbour)):
            if unseen is not None:
                found[name] = accuracy_on(model, unseen)
        return found

    def resolution(self) -> dict[str, float]:
        """Return the effect of one image on each metric, in percentage points."""
        sets = {
            "relearn/retain": self.scored,
            "relearn/forget": self.shown and self.scored,
            "probe/forget": self.shown and self.scored,
            "near/acc": self.near,
            "near/class": self.neighbour,
        }
        return {name: 100 / len(images) for name, images in sets.items() if images is not None}


def behaviour_set(images: EvaluationSet, original: StagedModel, seed: int = 0) -> BehaviourSet:
    """Return the images on which behaviour is measured; the original decides which are near.

    Args:
        images: of one phase.
        original: the model that must forget, on the device to compute on; not changed.
        seed: of all draws.
    """
    device = next(original.parameters()).device
    forget, retain = on_device(images.forget, device), on_device(images.retain, device)
    unseen = on_device(images.held_out, device)
    seed = seed_for("behaviour", images.seed, seed)
    rng = np.random.default_rng(seed)
    forget_N, count = rng.permutation(len(forget)), min(SHOWN, len(forget) // 2)
    shown = chosen(forget, forget_N[:count]) if count else None
    # About as many of each class as are shown of D_f if it is a class.
    fitted_N = rng.permutation(len(retain))[: count * len(images.held_out.dataset.classes)]
    return BehaviourSet(
        shown=shown,
        fitted=shown and joined(shown, chosen(retain, fitted_N)),
        scored=chosen(forget, forget_N[count:]),
        retain=retain,
        seed=seed,
        near=_near(original, forget, unseen, images.forgotten),
        neighbour=_neighbour(original, images.truth_N, unseen, images.forgotten),
    )


def difference(found: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """Return each metric of a model minus that of a reference, in percentage points.

    Both must come from one `BehaviourSet`: so both relearned from the same images in one order.
    """
    return {name: found[name] - reference[name] for name in found}


def _near(
    original: StagedModel, forget: Samples, unseen: Samples, forgotten: Sequence[int]
) -> Samples | None:
    """Return the unseen images nearest to D_f."""
    # Of a class that is forgotten as a whole, a good model knows nothing.
    known_N = np.flatnonzero(~np.isin(labels_of(unseen), forgotten))
    if not len(known_N):
        return None
    known = chosen(unseen, known_N)
    return chosen(known, nearest(original, forget, known))


def _neighbour(
    original: StagedModel, truth_N: Indices, unseen: Samples, forgotten: Sequence[int]
) -> Samples | None:
    """Return the unseen images of the class that the original confuses most with those of D_f.

    Judged by unseen images: on D_f itself, the original is too sure.
    """
    labels_N = labels_of(unseen)
    kin_N = np.flatnonzero(np.isin(labels_N, truth_N))
    if not len(kin_N):
        return None
    # A copy, because predicting changes a model's mode.
    probs_NK = predict(deepcopy(original), chosen(unseen, kin_N).images_NCHW)[0]
    other = confused_class(probs_NK.cpu().numpy(), labels_N[kin_N], forgotten)
    found_N = np.flatnonzero(labels_N == other)
    return chosen(unseen, found_N) if len(found_N) else None
