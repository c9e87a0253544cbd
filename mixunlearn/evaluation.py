"""Evaluation of a model: on `val` during a search, on `test` for the report, never on both.

Shape suffixes: N samples, C channels, H W pixels, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import Indices
from mixunlearn.data.labelled import LabelledImages
from mixunlearn.effort import Effort
from mixunlearn.inference import predict
from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.metrics.gap import Evaluation, ReferenceSet
from mixunlearn.metrics.membership import Probabilities, attack_success
from mixunlearn.models import StagedModel
from mixunlearn.models.finite import require_finite
from mixunlearn.signature import seed_for
from mixunlearn.splits import Splits
from mixunlearn.tasks import Measure, Task

Phase = Literal["val", "test"]

VERSION = 1  # increase it when a metric changes: stored evaluations are then computed again
TUNING_LIMIT = 1000  # images of each kind that a search evaluates after each epoch


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """A model's softmax outputs on the images of a phase, float32.

    Args:
        retain_NK, forget_NK, held_out_NK: on these images.
        own: on the images of each of the task's measures that has some.
    """

    retain_NK: Probabilities
    forget_NK: Probabilities
    held_out_NK: Probabilities
    own: Sequence[Probabilities]


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The images that one phase evaluates.

    The phases share no image: each has its own half of the forget set and of the retain set, and
    its own held-out images. (A forget set of one image is in both. If nothing is tuned on the
    forget set, "test" has all of it.)

    Args:
        phase: "val" or "test".
        retain: images the model may know.
        forget: images the model must have forgotten.
        held_out: images the model never saw.
        truth_N: labels of the forget images in the source.
        task: the unlearning task.
        seed: of the attack's draws.
    """

    phase: Phase
    retain: LabelledImages
    forget: LabelledImages
    held_out: LabelledImages
    truth_N: Indices
    task: Task
    seed: int

    @property
    def forgotten(self) -> tuple[int, ...]:
        """Return the classes that are forgotten completely, () if there are none."""
        return self.task.forgotten

    @property
    def gap_metrics(self) -> tuple[str, ...]:
        """Return the metrics that `gap/avg` averages: those of the paper's table for the task."""
        return self.task.gap_metrics(f"acc/{self.phase}")

    @property
    def measures(self) -> Sequence[Measure]:
        """Return what is measured only for this task."""
        return self.task.measures(self.held_out, self.truth_N)

    def evaluate(self, model: StagedModel) -> Evaluation:
        """Return the metrics of a model, from one pass over all images.

        Raises:
            DivergedError: a weight or an output of the model is not finite.
        """
        return self.measure(self.outputs(model))

    def outputs(self, model: StagedModel) -> Outputs:
        """Return the outputs of a model, from one pass over all images.

        Raises:
            DivergedError: a weight or an output of the model is not finite.
        """
        require_finite(model)
        parts = (self.retain, self.forget, self.held_out)
        own = [measure.images_NCHW() for measure in self.measures if measure.images_NCHW]
        sets = [*(part.images_NCHW for part in parts), *own]
        device = next(model.parameters()).device
        images = torch.from_numpy(np.concatenate(sets))
        probs_NK = predict(model, images.to(device))[0].cpu().numpy()
        ends = np.cumsum([len(images_NCHW) for images_NCHW in sets])[:-1]
        retain, forget, held_out, *own_outputs = np.split(probs_NK, ends)
        return Outputs(retain_NK=retain, forget_NK=forget, held_out_NK=held_out, own=own_outputs)

    def measure(self, outputs: Outputs) -> Evaluation:
        """Return the metrics of a model from its outputs."""
        retain, forget, held_out = outputs.retain_NK, outputs.forget_NK, outputs.held_out_NK
        metrics = {
            "acc/train_retain": accuracy(retain, self.retain.labels_N),
            "acc/train_forget": accuracy(forget, self.forget.labels_N),
            **self._held_out(held_out),
            "mia/asr": attack_success(retain, forget, held_out, self.seed),
            **self._of_task(forget, iter(outputs.own)),
        }
        return Evaluation(metrics=metrics, forget_probs_NK=forget)

    def _of_task(
        self, forget_NK: npt.NDArray[np.float32], outputs: Iterator[npt.NDArray[np.float32]]
    ) -> dict[str, float]:
        """Return the metrics of this task only, measured on D_f or on the task's own images."""
        return {
            measure.name: accuracy(
                next(outputs) if measure.images_NCHW else forget_NK, measure.labels_N
            )
            for measure in self.measures
        }

    def _held_out(self, probs_NK: npt.NDArray[np.float32]) -> dict[str, float]:
        """Return the accuracy on held-out images; also split by class if classes are forgotten."""
        name, labels = f"acc/{self.phase}", self.held_out.labels_N
        result = {name: accuracy(probs_NK, labels)}
        if self.forgotten:
            forgotten = np.isin(labels, self.forgotten)
            result[f"{name}_retain"] = accuracy(probs_NK[~forgotten], labels[~forgotten])
            result[f"{name}_forget"] = accuracy(probs_NK[forgotten], labels[forgotten])
        return result

    def resolution(self) -> dict[str, float]:
        """Return the smallest step of each metric that is a share, in percentage points."""
        held_out, name = self.held_out.labels_N, f"acc/{self.phase}"
        forgotten = np.isin(held_out, self.forgotten)
        # As in attack_success: each draw asks about n members and n non-members.
        n = min(len(self.forget.labels_N), len(self.retain.labels_N), len(held_out) // 2)
        counts = {
            "acc/train_retain": len(self.retain.labels_N),
            "acc/train_forget": len(self.forget.labels_N),
            name: len(held_out),
            f"{name}_retain": int((~forgotten).sum()) if self.forgotten else 0,
            f"{name}_forget": int(forgotten.sum()),
            "mia/asr": 2 * n,
            **{measure.name: len(measure.labels_N) for measure in self.measures},
        }
        # A metric of no images does not exist; `val_metrics` relies on the names that are left.
        return {metric: 100 / count for metric, count in counts.items() if count}


def evaluation_set(dataset: Dataset, splits: Splits, phase: Phase) -> EvaluationSet:
    """Return the images of a phase: for "val" at most 1,000 images of each kind, for "test" all.

    Args:
        dataset: the images.
        splits: which of them are forgotten, retained or held out.
        phase: "val" for a search, "test" for the report.
    """
    held_out = splits.val_N if phase == "val" else splits.test_N
    limit = TUNING_LIMIT if phase == "val" else None
    whole = phase == "test" and not splits.searched
    forget_N = splits.forget_N if whole else _half(splits.forget_N, phase, splits.key)[:limit]
    parts = {
        # In random order, so that what is left by the limit is a random sample.
        "forget": forget_N,
        "retain": _half(splits.retain_N, phase, splits.key)[:limit],
        "held_out": _order(held_out, splits.key)[:limit],
    }
    images = {
        name: LabelledImages(dataset=dataset, ids_N=np.sort(ids)) for name, ids in parts.items()
    }
    return EvaluationSet(
        phase=phase,
        **images,
        # `forget_N` is sorted, so this is the place of each evaluated image in it.
        truth_N=splits.truth_N[np.searchsorted(splits.forget_N, images["forget"].ids_N)],
        task=splits.task,
        # The same for all models, so that two attacks differ only by the models' outputs.
        seed=seed_for("attack", splits.key),
    )


def _half(ids: Indices, phase: Phase, key: str) -> Indices:
    """Return one phase's half of the ids, in random order."""
    if len(ids) == 1:
        # The attack needs a forget image in each phase, and one image has no halves.
        return ids
    order = _order(ids, key)
    middle = len(order) // 2
    # Both phases cut the same order, so they share no image.
    return order[:middle] if phase == "val" else order[middle:]


def _order(ids: Indices, key: str) -> Indices:
    return np.random.default_rng(seed_for("evaluation", key)).permutation(ids)


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Measures models on one evaluation set, relative to the references.

    Args:
        images: the images that models are evaluated on.
        references: the metrics of the retrained references on these images.
    """

    images: EvaluationSet
    references: ReferenceSet

    def evaluate(self, model: StagedModel, seconds: float | Effort) -> dict[str, float]:
        """Return metrics, gaps, z and cost of an unlearned model.

        Args:
            model: the model.
            seconds: what its unlearning has cost; a number: the seconds that it took, alone.
        """
        effort = seconds if isinstance(seconds, Effort) else Effort(seconds=seconds)
        return {
            **self.references.compare(self.images.evaluate(model)),
            **self.references.retraining.compare(effort),
        }
