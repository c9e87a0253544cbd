"""What makes references a doubtful yardstick: weights they start from, another recipe."""

from collections.abc import Iterator, Sequence
from typing import Any

from distributed.plan.plan import Plan
from mixunlearn.errors import CorruptError, MissingError
from mixunlearn.evidence.recipe import COMPARED, Nearness, compare
from mixunlearn.metrics.table import margins
from mixunlearn.wording import counted

YARDSTICK = "references by another recipe are no yardstick"
SOME = 4  # originals: the user's own model and three of the recipe


def nearness(plan: Plan) -> list[Nearness] | None:
    """Return how near the recipe comes to the user's own model, by metric, on `test`.

    `None` without a model of the user, or while originals are not trained.
    """
    if plan.own is None or plan.first:
        return None
    references = plan.references
    try:
        own, *recipe = [
            references.evaluation(each, "test").metrics for each in references.all_originals
        ]
    except (MissingError, CorruptError):
        return None
    return compare(own, recipe, margins(COMPARED, plan.experiment.margins))


def as_plain(found: Sequence[Nearness] | None) -> dict[str, Any]:
    """Return nearness by metric, as plain data."""
    return {each.metric: each.as_plain() for each in found or ()}


def cautions(plan: Plan) -> list[str]:
    """Return reasons to doubt that the references are what perfect unlearning gives, as sentences.

    They are about what the user has given; see `nearness` for what was measured.
    """
    return [*_start(plan), *_recipe(plan)]


def _start(plan: Plan) -> Iterator[str]:
    if plan.pretrained is not None:
        yield (
            "Nothing can be proven clean: originals and references start from model.weights "
            f"({plan.pretrained.digest[:12]}). If what must be forgotten was among the images that "
            "they were made with, the references know it as well."
        )


def _recipe(plan: Plan) -> Iterator[str]:
    if plan.own is None:
        return
    if plan.first:
        yield (
            "The originals measured here are trained by the recipe; your own model "
            "(model.original) is not among them."
        )
    elif plan.originals == 1:
        yield (
            "The recipe of the references has not been compared with your own model, and "
            f"{YARDSTICK}: set references.originals={SOME} to compare."
        )
    elif far := [each for each in nearness(plan) or () if each.near is False]:
        yield (
            f"Your own model is not like the models of this recipe in "
            f"{', '.join(map(_said, far))}: {YARDSTICK}."
        )


def _said(found: Nearness) -> str:
    of = counted(len(found.values), "original")
    return f"{found.metric} ({found.own:.4g}; mean of {of} of the recipe {found.mean:.4g})"
