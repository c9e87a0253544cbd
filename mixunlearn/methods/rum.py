"""RUM: forget parts of D_f that are alike in turn, each with a method that suits it.

Shape suffixes: N samples.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixunlearn.data.batches import Indices, Samples
from mixunlearn.data.hardness import Floats, scores
from mixunlearn.data.streaming import gathered, joined
from mixunlearn.errors import InputError
from mixunlearn.inference import predict
from mixunlearn.methods import METHODS
from mixunlearn.methods.base import Context, Method
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for

NOTHING = "original"  # the method that leaves a part alone
ABLE = ("finetune", "l1_sparse", "neggrad", "random_label", "salun", "scrub")
PARTS = 3


@dataclass(kw_only=True)
class RUM(Method):
    """Split D_f into three parts by memorisation; forget these in turn, each with its own method.

    Ranked by memorisation, D_f is cut into three parts of the same size. They are forgotten from
    the lowest to the highest, each starting from the model that the part before has left. The
    epochs of the run are shared out evenly among the parts that are not left alone; with fewer
    epochs than parts, the lower ones are left out. Each method has its default hyperparameters,
    except those below.

    Memorisation is measured by a proxy, because the measure itself needs many trainings.
    "memorisation" is that of the task `hard`: in closed form, from the pixels and labels of D_f and
    D_r. "confidence" ranks by the probability that the original gives to an image's own label: the
    lower, the more the image counts as memorised.

    Deviations: in the authors' experiment with memorisation, parts that still wait are among the
    images to retain. Here only D_r is. Their hyperparameters are tuned for each part.

    Args:
        by: "memorisation" or "confidence".
        low: method for the part that is memorised least; "original" leaves it alone.
        middle: method for the part in between, likewise.
        high: method for the part that is memorised most, likewise.
        schedule_epochs: epochs of the run, at least 1; a search and `unlearn` fill it in unless it
            is given.

    Source: Zhao et al., NeurIPS 2024, arXiv 2406.01257; proxies: arXiv 2410.16516.
    """

    needs_labels = True
    course = "schedule_epochs"

    by: str = "memorisation"
    low: str = "original"
    middle: str = "finetune"
    high: str = "salun"
    schedule_epochs: int = 10

    def prepare(self, context: Context) -> None:
        """Split D_f, and begin with the first part."""
        super().prepare(context)
        names = (self.low, self.middle, self.high)
        for key, name in zip(("low", "middle", "high"), names, strict=True):
            if name not in (NOTHING, *ABLE):
                choices = ", ".join((NOTHING, *ABLE))
                raise InputError(f"search.space.{key}", name, f"must be one of {choices}")
        self.parts_N = thirds(memorised(context, self.by))
        known = [place for place in range(PARTS) if len(self.parts_N[place])]
        # If all parts are to be left alone, the last one says so.
        self.places = [place for place in known if names[place] != NOTHING] or known[-1:]
        self.names = names
        self.epochs_done = 0
        self.begin(self.place(), context.original)

    def place(self) -> int:
        """Return which part the next epoch forgets."""
        number = min(self.epochs_done, self.schedule_epochs - 1)
        # Rounded so that the last part is always among them.
        turn = -(-(number + 1) * len(self.places) // self.schedule_epochs) - 1
        return self.places[turn]

    def begin(self, place: int, start: StagedModel) -> None:
        """Prepare the method of a part.

        Args:
            place: of the part.
            start: the model to begin with.
        """
        self.current = place
        self.base = deepcopy(start).requires_grad_(False).eval()
        kind = METHODS[self.names[place]]
        known = {field.name for field in fields(kind)} if self.names[place] != NOTHING else set()
        shared = {"lr", "batch", "optimizer", "weight_decay"} & known
        given: dict[str, Any] = {name: getattr(self, name) for name in shared}
        if kind.course:
            given[kind.course] = max(self.schedule_epochs // len(self.places), 1)
        self.method = kind(**given)
        self.method.prepare(self.part(place))
        self.model, self.stepper = self.method.model, self.method.stepper

    def part(self, place: int) -> Context:
        """Return the context of a part: its images as D_f, the model so far as the original."""
        context = self.context
        indices_N = torch.from_numpy(self.parts_N[place]).to(context.device)
        return replace(
            context,
            original=self.base,
            forget=seen_by(self.base, context.forget.at(indices_N)),
            retain=seen_by(self.base, context.retain),
            seed=seed_for("part", context.seed, place),
        )

    def epoch(self) -> dict[str, float]:
        """Make an epoch of the part's method; before that, go on to the next part if it is time."""
        if self.place() != self.current:
            self.begin(self.place(), self.method.model)
        scalars = self.method.epoch()
        self.epochs_done += 1
        return {"loss": scalars["loss"], "part": float(self.current)}

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Do not call: the methods of the parts take the steps."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next epoch depends on."""
        return {
            "epochs_done": self.epochs_done,
            "current": self.current,
            "base": self.base.state_dict(),
            "method": self.method.state_dict(),
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; `prepare` must have been called before."""
        base = deepcopy(self.context.original)
        base.load_state_dict(state["base"])
        self.begin(state["current"], base)
        self.method.load_state_dict(state["method"])
        self.epochs_done = state["epochs_done"]
        self.rng.bit_generator.state = state["rng"]


def memorised(context: Context, by: str) -> Floats:
    """Return how much each image of D_f is memorised, shape (N,); only the order counts.

    Raises:
        InputError: `by` is neither "memorisation" nor "confidence".
    """
    forget, retain = context.forget, context.retain
    assert forget.labels_N is not None
    assert retain.labels_N is not None
    if by == "confidence":
        assert forget.probs_NK is not None
        own_N = forget.probs_NK.gather(1, forget.labels_N[:, None])[:, 0]
        return -own_N.double().cpu().numpy()
    if by != "memorisation":
        raise InputError("search.space.by", by, "must be memorisation or confidence")
    images = joined((forget.images_NCHW, retain.images_NCHW))
    labels_N = torch.cat((forget.labels_N, retain.labels_N)).cpu().numpy()

    def pixels(rows: Indices) -> Tensor:
        return gathered(images, torch.from_numpy(rows).to(images.device)).cpu()

    found = scores(pixels, labels_N, context.classes, by)
    return found[: len(forget)]


def thirds(scores_N: Floats) -> list[Indices]:
    """Return the places of the lowest, the middle and the highest scores, as evenly as possible.

    The higher parts are larger by one if the number is no multiple of three. Equal scores are
    ranked by place.
    """
    ranked = np.argsort(scores_N, kind="stable")
    # Reversed twice, because the first of these parts are the larger ones.
    return [part[::-1].copy() for part in np.array_split(ranked[::-1], PARTS)][::-1]


def seen_by(model: StagedModel, samples: Samples) -> Samples:
    """Return samples with a model's predictions."""
    probs_NK, _ = predict(model, samples.images_NCHW)
    return replace(samples, probs_NK=probs_NK, features={})
