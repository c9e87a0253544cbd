"""Estimate of the disk space that a study takes, made before it starts."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from distributed.plan.plan import TESTED_TRIALS, Plan
from distributed.plan.rehearsal import Sketch
from mixunlearn.inference import predict
from mixunlearn.models import StagedModel
from mixunlearn.teaching import stage_sizes
from trainables.checkpoint import save_state

EPOCH_BYTES = 4096  # measured: one epoch of one trial in the study, the trials table and MLflow
PROGRAM_BYTES = 8_000  # of an exported model, per tensor, without its content; Swin takes 6,000


def estimate(plan: Plan, slots: int) -> dict[str, int]:
    """Return the maximal size of each part of a study in bytes, measured on a few images.

    Args:
        plan: plan of the sweep.
        slots: number of trials that run at once.
    """
    model = plan.references.architecture.build(0)
    tensors = model.state_dict().values()
    weights = sum(tensor.nbytes for tensor in tensors)
    examined = TESTED_TRIALS + 1 + plan.fresh_runs
    # A running trial has two checkpoints while the newer one is being written.
    kept = TESTED_TRIALS + 1 + 2 * slots
    taught = len(plan.splits.forget_N) + len(plan.splits.retain_N)
    return {
        "images": sum(
            dataset.images_NCHW.nbytes + dataset.labels_N.nbytes
            for dataset in {plan.source, plan.dataset}  # one, unless the task corrupts images
        ),
        "models": weights
        * (len(plan.references.members) + examined + plan.experiment.references.proxies),
        "teacher's outputs": plan.originals * taught * _taught_bytes(plan, model),
        "checkpoints": kept * _checkpoint_bytes(plan),
        "records": plan.trials * plan.epochs * EPOCH_BYTES,
        "models in MLflow": weights * TESTED_TRIALS,
        # Once in the study's folder and once in MLflow; an export holds the weights twice.
        "best model, exported": 2 * (2 * weights + PROGRAM_BYTES * len(tensors)),
    }


def _taught_bytes(plan: Plan, model: StagedModel) -> int:
    """Return the size of the original's outputs for one image in the store, in bytes."""
    image = _image(plan)
    taught = len(plan.splits.forget_N) + len(plan.splits.retain_N)
    sizes = stage_sizes(model, image, plan.stages).values()
    kept = sum(size for size in sizes if taught * size <= plan.memory.of_stage())
    return predict(model, image)[0].nbytes + kept


def _checkpoint_bytes(plan: Plan) -> int:
    """Return the size of the default configuration's checkpoint after one epoch, in bytes."""
    rehearsal = Sketch.of(plan.experiment, plan.dataset, plan.splits).rehearsal()
    # Optimisers have no moments, twice the size of the weights, before the first step.
    method = rehearsal.unlearn(rehearsal.architecture.build(0))
    with TemporaryDirectory() as folder:
        save_state({"method": method.state_dict()}, Path(folder))
        return sum(path.stat().st_size for path in Path(folder).iterdir())


def _image(plan: Plan) -> torch.Tensor:
    # Copied, because PyTorch warns about read-only arrays, such as memory-mapped ones.
    return torch.from_numpy(plan.dataset.images_NCHW[:1].copy())
