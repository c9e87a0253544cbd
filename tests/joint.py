"""A program that several processes run together, or one alone; it writes what it found to a file.

Arguments: a pickled problem, rank, number of processes, the file where they meet, the output.
"""

import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixunlearn.methods import METHODS, Context
from mixunlearn.parallel import Team, dividing, join, jointly, leave
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training
from mixunlearn.trial import Unlearning

CPU = torch.device("cpu")
EPOCHS = 2
SGD = {"optimizer": "sgd"}  # Adam turns rounding errors into whole steps
# Every way in which methods take steps: pairs, a generator, a contrast of the batch, gradients of
# gradients, representations, layers beside the model, frozen weights, penalties, several models.
METHODS_TRIED: dict[str, dict[str, Any]] = {
    "mixunlearn": {"gen_interval": 2, "adversary": "ema", **SGD},
    "boundary": {"mode": "expand", **SGD},
    "jit": {"neighbours": 2},
    "l1_sparse": SGD,
    "laf_r": SGD,
    "mu_mis": SGD,
    "neggrad": SGD,
    "rni": {},
    "salun": SGD,
    "scrub": {"rewind": True, "forget_batch": 5, **SGD},
    "sisa": {"batch": 8, **SGD},
    "ssd": {},
}
NORMS_TRIED = ("mixunlearn", "laf_r", "neggrad", "scrub")  # with batch norms, which need more time
Found = dict[str, tuple[dict[str, Tensor], dict[str, float]]]  # weights and scalars


def main(problem: Problem, stage: str) -> Found:
    """Return the weights and scalars of a training and of some methods."""
    whole = problem.context(CPU, 0)
    # Batches of 32, and a last one of 25: no process has as many rows as another.
    context = replace(
        whole, forget=whole.forget.at(slice(0, 21)), retain=whole.retain.at(slice(0, 57))
    )
    return dict(
        [("training", trained(context)), ("one", one_image(context)), *unlearned(context, stage)]
    )


def one_image(context: Context) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the outputs for a batch that has fewer images than there are processes."""
    with jointly(), dividing():
        logits = context.original(context.forget.batch(torch.tensor([3])))
    return {"logits": logits.detach()}, {}


def trained(context: Context) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Train with augmented images."""
    recipe = Recipe(epochs=EPOCHS, lr=0.01, batch=16, augmentation="crop_flip", optimizer="sgd")
    training = Training(context.fresh(1), context.retain, recipe, 3)
    with jointly():
        *_, scalars = [training.epoch() for _ in range(EPOCHS)]
    return training.model.state_dict(), scalars


def unlearned(
    context: Context, stage: str
) -> Iterator[tuple[str, tuple[dict[str, Tensor], dict[str, float]]]]:
    """Unlearn with each method; in the middle, continue from a state."""
    for name in NORMS_TRIED if stage == "block2" else METHODS_TRIED:
        given = METHODS_TRIED[name]
        hyperparameters = {**given, **({"stage": stage} if name == "mixunlearn" else {})}
        first = Unlearning(METHODS[name](**hyperparameters), context)
        with jointly():
            first.unlearn()
        second = Unlearning(METHODS[name](**hyperparameters), context)
        second.load_state_dict(first.state_dict())
        with jointly():
            scalars = second.unlearn()
        assert second.passes is not None
        passes = {"forward": second.passes.forward, "backward": second.passes.backward}
        yield name, (second.method.model.state_dict(), scalars | passes)


if __name__ == "__main__":
    file, rank, size, meeting, output, stage = sys.argv[1:]
    torch.set_num_threads(1)
    if size != "1":
        join(Team(rank=int(rank), size=int(size)), Path(meeting), CPU)
        sys.stdout.write("joined\n")
        sys.stdout.flush()
    found = main(pickle.loads(Path(file).read_bytes()), stage)
    if rank == "0":
        torch.save(found, output)
    leave()
