"""Evaluation of a model: on `val` while searching, on `test` when reporting, never on both.

Shape suffixes: N samples, F channels, H W pixels, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import Indices
from mixunlearn.data.splits import Splits
from mixunlearn.inference import predict
from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.metrics.gap import Evaluation, ReferenceSet
from mixunlearn.metrics.membership import attack_success
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for
from mixunlearn.tasks.corruption import triggered
from mixunlearn.tasks.keys import Task

Phase = Literal["val", "test"]
Images = npt.NDArray[np.uint8]

VERSION = 1  # raise it when a metric changes: stored evaluations are then made anew
CLEAN = "acc/train_forget_clean"  # on D_f, against the labels it should have had
BACKDOOR = "backdoor/success"  # how many unseen images the trigger turns into its target
TUNING_LIMIT = 1000  # images of a kind that a search looks at after each epoch


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Samples of a data set; between processes they travel as row ids.

    Args:
        dataset: where the images are.
        ids_N: rows of it.
    """

    dataset: Dataset
    ids_N: Indices

    @cached_property
    def images_NFHW(self) -> Images:
        """Return the images as they are stored, uint8; gathered once."""
        return self.dataset.images_NFHW[self.ids_N]

    @cached_property
    def labels_N(self) -> Indices:
        """Return the labels, int64; gathered once."""
        return self.dataset.labels_N[self.ids_N]

    def __getstate__(self) -> dict[str, object]:
        return {"dataset": self.dataset, "ids_N": self.ids_N}


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The images one phase looks at.

    The phases share none: each has its own half of the forget and of the retain set beside its
    own held-out images. (A forget set of a single image is in both.)

    Args:
        phase: "val" or "test".
        retain: images the model may know.
        forget: images the model must have forgotten.
        held_out: images it never saw.
        forgotten: the classes a class-level task forgets, else empty.
        truth_N: labels of the forget images as the source has them.
        task: what was asked for.
        seed: of the attack's draws.
    """

    phase: Phase
    retain: LabelledImages
    forget: LabelledImages
    held_out: LabelledImages
    forgotten: Sequence[int]
    truth_N: Indices
    task: Task
    seed: int

    @property
    def gap_metrics(self) -> tuple[str, ...]:
        """Return the metrics that make `gap/avg`: those of the paper's table for the task.

        A model that is right about an image is not wrong about it in the way it was taught; the
        reverse says less. So where labels were wrong, being right stands for D_f, once.
        """
        held_out = f"acc/{self.phase}"
        if self.forgotten:
            return ("acc/train_forget", f"{held_out}_retain", f"{held_out}_forget", "mia/asr")
        common = ("acc/train_retain", "acc/train_forget", held_out, "mia/asr")
        match self.task.kind:
            case "noisy":
                return ("acc/train_retain", CLEAN, held_out, "mia/asr")
            case "backdoor":
                return (*common, BACKDOOR)
        return common

    @property
    def baits_NFHW(self) -> Images:
        """Return what the trigger is tried on, with the trigger."""
        images_NFHW = self.held_out.images_NFHW[self._is_bait_N]
        return triggered(images_NFHW, self.task.size) if self.task.size else images_NFHW

    @property
    def _is_bait_N(self) -> npt.NDArray[np.bool_]:
        """Return which held-out images are of other classes than the trigger's, if there is one."""
        labels_N, target = self.held_out.labels_N, self.task.target
        return np.zeros(len(labels_N), np.bool_) if target is None else labels_N != target

    def evaluate(self, model: StagedModel) -> Evaluation:
        """Return what a model scores, from one pass over all images."""
        parts = (self.retain, self.forget, self.held_out)
        sets = [*(part.images_NFHW for part in parts), self.baits_NFHW]
        device = next(model.parameters()).device
        images = torch.from_numpy(np.concatenate(sets))
        probs_NC = predict(model, images.to(device))[0].cpu().numpy()
        ends = np.cumsum([len(images_NFHW) for images_NFHW in sets])[:-1]
        retain, forget, held_out, baits = np.split(probs_NC, ends)
        metrics = {
            "acc/train_retain": accuracy(retain, self.retain.labels_N),
            "acc/train_forget": accuracy(forget, self.forget.labels_N),
            **self._held_out(held_out),
            "mia/asr": attack_success(retain, forget, held_out, self.seed),
            **self._of_task(forget, baits),
        }
        return Evaluation(metrics=metrics, forget_probs_NC=forget)

    def _of_task(
        self, forget_NC: npt.NDArray[np.float32], baits_NC: npt.NDArray[np.float32]
    ) -> dict[str, float]:
        """Return what is measured for this kind of task alone."""
        match self.task.kind:
            case "noisy":
                return {CLEAN: accuracy(forget_NC, self.truth_N)}
            case "backdoor":
                targets_N = np.full(len(baits_NC), self.task.target)
                return {BACKDOOR: accuracy(baits_NC, targets_N)}
        return {}

    def _held_out(self, probs_NC: npt.NDArray[np.float32]) -> dict[str, float]:
        """Return accuracy on held-out images; by retained and forgotten classes if there are."""
        name, labels = f"acc/{self.phase}", self.held_out.labels_N
        result = {name: accuracy(probs_NC, labels)}
        if self.forgotten:
            forgotten = np.isin(labels, self.forgotten)
            result[f"{name}_retain"] = accuracy(probs_NC[~forgotten], labels[~forgotten])
            result[f"{name}_forget"] = accuracy(probs_NC[forgotten], labels[forgotten])
        return result

    def resolution(self) -> dict[str, float]:
        """Return the smallest step of each metric that is a share, in percentage points."""
        held_out, name = self.held_out.labels_N, f"acc/{self.phase}"
        forgotten = np.isin(held_out, self.forgotten)
        n = min(len(self.forget.labels_N), len(self.retain.labels_N), len(held_out) // 2)
        counts = {
            "acc/train_retain": len(self.retain.labels_N),
            "acc/train_forget": len(self.forget.labels_N),
            name: len(held_out),
            f"{name}_retain": int((~forgotten).sum()) if self.forgotten else 0,
            f"{name}_forget": int(forgotten.sum()),
            "mia/asr": 2 * n,
            CLEAN: len(self.truth_N) if self.task.kind == "noisy" else 0,
            BACKDOOR: int(self._is_bait_N.sum()),
        }
        return {metric: 100 / count for metric, count in counts.items() if count}


def evaluation_set(dataset: Dataset, splits: Splits, phase: Phase) -> EvaluationSet:
    """Return what a phase looks at: for "val" at most 1,000 images of a kind, for "test" all.

    Args:
        dataset: where the images are.
        splits: which of them are to be forgotten, retained, held out.
        phase: "val" for searching, "test" for reporting.
    """
    held_out = splits.val_N if phase == "val" else splits.test_N
    limit = TUNING_LIMIT if phase == "val" else None
    parts = {
        "forget": _half(splits.forget_N, phase, splits.key)[:limit],
        "retain": _half(splits.retain_N, phase, splits.key)[:limit],
        "held_out": _order(held_out, splits.key)[:limit],
    }
    images = {
        name: LabelledImages(dataset=dataset, ids_N=np.sort(ids)) for name, ids in parts.items()
    }
    return EvaluationSet(
        phase=phase,
        **images,
        forgotten=splits.forgotten,
        truth_N=splits.truth_N[np.searchsorted(splits.forget_N, images["forget"].ids_N)],
        task=splits.task,
        seed=seed_for("attack", splits.key),
    )


def _half(ids: Indices, phase: Phase, key: str) -> Indices:
    """Return one phase's half of the ids, in random order."""
    if len(ids) == 1:
        return ids
    order = _order(ids, key)
    middle = len(order) // 2
    return order[:middle] if phase == "val" else order[middle:]


def _order(ids: Indices, key: str) -> Indices:
    return np.random.default_rng(seed_for("evaluation", key)).permutation(ids)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures models on one evaluation set, relative to the references.

    Args:
        images: what models are evaluated on.
        references: what the retrained references scored there.
    """

    images: EvaluationSet
    references: ReferenceSet

    def judge(self, model: StagedModel, seconds: float) -> dict[str, float]:
        """Return metrics, gaps and z of a model that took `seconds` to unlearn."""
        return {
            **self.references.compare(self.images.evaluate(model)),
            **self.times(seconds),
        }

    def times(self, seconds: float) -> Mapping[str, float]:
        """Return the time to unlearn, and as a ratio to the mean time of retraining."""
        retraining = float(np.mean(self.references.seconds))
        return {"time/unlearn_s": seconds, "time/ratio_to_retrain": seconds / retraining}
