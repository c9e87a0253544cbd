"""What the original teaches: its outputs and features on the forget and the retain set.

Shape suffixes: N samples, C channels, K classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import Indices, Samples
from mixunlearn.data.labelled import LabelledImages, shared
from mixunlearn.data.memory import AUTO, DataMemory
from mixunlearn.data.streaming import Images
from mixunlearn.errors import MixUnlearnError
from mixunlearn.evaluation import Evaluator, evaluation_set
from mixunlearn.inference import predict
from mixunlearn.metrics.gap import ReferenceSet
from mixunlearn.models import Pretrained, StagedModel
from mixunlearn.models.finite import all_finite
from mixunlearn.problem import Architecture, Arrays, Problem, TaughtImages
from mixunlearn.splits import Splits
from mixunlearn.store import Entry


def teach(
    original: StagedModel,
    dataset: Dataset,
    splits: Splits,
    stages: Sequence[str],
    memory: DataMemory,
) -> dict[str, npt.NDArray[Any]]:
    """Return the original's outputs and features on both sets; they never change.

    Args:
        original: on the device to compute on.
        dataset: the images.
        splits: which of them are forgotten and retained.
        stages: whose features are read.
        memory: says how much those of one stage may take; of a larger one there are none, and each
            batch computes its own.
    """
    device = next(original.parameters()).device
    parts = {
        name: LabelledImages(dataset=dataset, ids_N=ids)
        for name, ids in (("forget", splits.forget_N), ("retain", splits.retain_N))
    }
    sizes = stage_sizes(original, parts["retain"].streamed(device)[:1], stages)
    count = len(splits.forget_N) + len(splits.retain_N)
    kept = [stage for stage in stages if count * sizes[stage] <= memory.of_stage()]
    tensors = {}
    for name, images in parts.items():
        probs_NK, features = predict(original, images.streamed(device), kept)
        tensors[f"{name}/probs"] = probs_NK
        tensors |= {f"{name}/features/{stage}": found for stage, found in features.items()}
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def checked(entry: Entry) -> Arrays:
    """Return what `teach` has found and a store has kept.

    Raises:
        MixUnlearnError: a number is not finite: earlier versions cut everything to float16.
    """
    if not all(map(all_finite, entry.tensors.values())):
        remedy = "remove this folder and run the same command again"
        raise MixUnlearnError(f"store {entry.path}: features beyond float16's range; {remedy}")
    return entry.tensors


def samples_of(images: LabelledImages, device: torch.device, memory: int | None) -> Samples:
    """Return images and labels to train on, streamed if they take more than `memory` bytes.

    Args:
        images: with labels.
        device: where to train.
        memory: `None`: any.
    """
    return Samples(
        images_NCHW=images.on(device, resident=memory is None or images.nbytes <= memory),
        labels_N=shared(images.labels_N).to(device),
    )


def stage_sizes(original: StagedModel, image: Images, stages: Sequence[str]) -> dict[str, int]:
    """Return by stage how many bytes the features of one image take in the store."""
    return {name: found.nbytes for name, found in predict(original, image, stages)[1].items()}


def taught(
    dataset: Dataset, splits: Splits, stages: Sequence[str], tensors: Arrays
) -> tuple[TaughtImages, TaughtImages]:
    """Return the forget and the retain set with what `teach` has found."""

    def part(name: str, ids_N: Indices, known_N: Indices) -> TaughtImages:
        return TaughtImages(
            samples=LabelledImages(dataset=dataset, ids_N=ids_N),
            known_N=np.isin(ids_N, known_N),
            probs_NK=tensors[f"{name}/probs"],
            features={
                stage: tensors[f"{name}/features/{stage}"]
                for stage in stages
                if f"{name}/features/{stage}" in tensors
            },
        )

    forget = part("forget", splits.forget_N, splits.forget_N)
    return forget, part("retain", splits.retain_N, splits.known_N)


def problem_without_references(
    original: StagedModel,
    architecture: Architecture,
    dataset: Dataset,
    splits: Splits,
    *,
    stages: Sequence[str],
    with_labels: bool,
    pretrained: Pretrained | None = None,
    augmentation: str = "none",
    memory: DataMemory = AUTO,
) -> Problem:
    """Return the unlearning problem of a model that nothing retrained is compared with.

    Its trials can unlearn; they cannot be measured relative to references.

    Args:
        original: the trained model that must forget, on the device to compute on.
        architecture: of the model.
        dataset: the images it was trained on.
        splits: which of them must be forgotten.
        stages: the feature stages that the method reads.
        with_labels: whether methods may see labels.
        pretrained: weights that a model which is trained again starts from.
        augmentation: how its training changed its images at random.
        memory: what images and features may take.
    """
    tensors = teach(original, dataset, splits, stages, memory)
    forget, retain = taught(dataset, splits, stages, tensors)
    images = evaluation_set(dataset, splits, "val")
    none = ReferenceSet(
        evaluations=[], seconds=[], gap_metrics=images.gap_metrics, resolution={}, margins={}
    )
    return Problem(
        architecture=architecture,
        original={name: tensor.cpu().numpy() for name, tensor in original.state_dict().items()},
        forget=forget,
        retain=retain,
        with_labels=with_labels,
        evaluator=Evaluator(images=images, references=none),
        pretrained=pretrained,
        augmentation=augmentation,
        stages=tuple(stages),
        memory=memory,
    )
