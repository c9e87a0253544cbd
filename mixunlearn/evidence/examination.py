"""Everything that the evidence measures of one model: metrics, margins, behaviour.

Shape suffixes: N samples, K classes.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixunlearn.data.labelled import LabelledImages
from mixunlearn.errors import InputError
from mixunlearn.evaluation import EvaluationSet, Outputs
from mixunlearn.evidence.behaviour import BehaviourSet, behaviour_set
from mixunlearn.evidence.laf_attack import BATCH, LEARNED, asr_laf, plain, random_crops
from mixunlearn.evidence.logit_margins import logit_margins, packed
from mixunlearn.evidence.svc import Answers, svc_mia
from mixunlearn.metrics.membership import Probabilities
from mixunlearn.models import StagedModel

VERSION = 1  # increase it when a measure changes: stored examinations are then computed again
EXPOSED = ("forget", "retain")  # unlearning can also expose images that are retained
CONTROL = "control"  # held-out images, with which the evidence by example compares those above
PARTS = (*EXPOSED, CONTROL)  # the images whose margins are kept


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was measured of one model.

    Args:
        metrics: by name, raw: not relative to references.
        margins: one of `PARTS` -> logit margins of its images, float16, shape (N,).
    """

    metrics: Mapping[str, float]
    margins: Mapping[str, npt.NDArray[np.float16]]


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Measures models on the images of one phase; all models that are compared on the same ones.

    Args:
        images: of the phase.
        behaviour: images on which behaviour is measured; `None` if the model has no features.
    """

    images: EvaluationSet
    behaviour: BehaviourSet | None

    @classmethod
    def of(cls, images: EvaluationSet, original: StagedModel) -> "Examiner":
        """Return the examiner of a phase.

        Args:
            images: of the phase.
            original: decides which unseen images are near to D_f; on the device to compute on.
        """
        behaviour = None
        with suppress(InputError):  # a model without features: its behaviour stays unknown
            behaviour = behaviour_set(images, original)
        return cls(images=images, behaviour=behaviour)

    def examine(self, model: StagedModel) -> Examined:
        """Return what is measured of a model, which is not changed.

        - the metrics of `EvaluationSet.measure`;
        - `mia/svc_…`: the attacks of SalUn's tables, see `svc_mia`;
        - `mia/asr_laf`: the attack as LAF's code scores it, see `asr_laf`. With fewer than 10,000
          held-out images, half of them are learned from; then it is not exactly LAF's;
        - behaviour, see `BehaviourSet.measure`.

        Args:
            model: on the device to compute on.

        Raises:
            DivergedError: a weight or an output of the model is not finite.
        """
        outputs = self.images.outputs(model)
        metrics = dict(self.images.measure(outputs).metrics)
        metrics |= self._attacks(model, outputs)
        if self.behaviour is not None:
            metrics |= self.behaviour.measure(model)
        return Examined(metrics=metrics, margins=self._all_margins(outputs))

    def _all_margins(self, outputs: Outputs) -> dict[str, npt.NDArray[np.float16]]:
        """Return the margins of each part.

        The control is held-out images. If whole classes are forgotten, those of other classes: what
        a model still knows of unseen images of the forgotten ones is a trace of D_f as well.
        """
        images = self.images
        kept_N = ~np.isin(images.held_out.labels_N, images.forgotten)
        return {
            "forget": _margins(outputs.forget_NK, images.forget),
            "retain": _margins(outputs.retain_NK, images.retain),
            CONTROL: _margins(outputs.held_out_NK, images.held_out)[kept_N],
        }

    def _attacks(self, model: StagedModel, outputs: Outputs) -> dict[str, float]:
        images = self.images
        called = svc_mia(
            _answers(outputs.retain_NK, images.retain),
            _answers(outputs.held_out_NK, images.held_out),
            _answers(outputs.forget_NK, images.forget),
        )
        found = {f"mia/svc_{name}": share for name, share in called.items()}
        learned = min(LEARNED, len(images.held_out.labels_N) // 2 // BATCH * BATCH)
        if learned:
            found["mia/asr_laf"] = self._laf(model, learned)
        return found

    def _laf(self, model: StagedModel, learned: int) -> float:
        images = self.images
        device = next(model.parameters()).device
        retain, forget, held_out = (
            part.streamed(device) for part in (images.retain, images.forget, images.held_out)
        )
        # As in LAF's code: photographs are cropped while training, digits are not.
        transform = plain if retain.shape[1] == 1 else random_crops
        return asr_laf(model, retain, forget, held_out, transform, images.seed, learned)


def _answers(probs_NK: Probabilities, images: LabelledImages) -> Answers:
    return Answers(probs_NK=probs_NK, labels_N=images.labels_N)


def _margins(probs_NK: Probabilities, images: LabelledImages) -> npt.NDArray[np.float16]:
    found: npt.NDArray[np.float16] = packed(logit_margins(probs_NK[None], images.labels_N))[0]
    return found
