"""Forget sets for the evidence: of the same kind as the tuned one, and seen by no search."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any

import numpy as np
import yaml

from distributed.config.experiment import Data
from distributed.config.read import read_experiment
from distributed.evidence.profiles import Profile
from distributed.plan.plan import Plan
from distributed.plan.requirements import require_measurable
from distributed.plan.splits import splits_of
from distributed.study.folder import begun_studies
from mixunlearn.data.labelled import Rows
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.splits import Splits, other_splits
from mixunlearn.wording import counted

SEEN = 0.5  # share of a set's images that a search may not have had in its forget set
# Searches train originals and references with seeds below this: theirs are other models.
FIRST_SEED = 1000
PARTS = {"seed", "limit", "download"}  # keys of `data` that do not change the source's images


@dataclass(frozen=True, kw_only=True)
class ForgetSet:
    """A forget set of the evidence.

    Args:
        name: a letter; A is the set that the search has used.
        splits: the parts of the data, as for the first set, but for what is forgotten.
    """

    name: str
    splits: Splits

    def plan(self, plan: Plan, profile: Profile) -> Plan:
        """Return the plan of a study with this forget set, and with other models; writes nothing.

        Args:
            plan: plan of the study that was searched.
            profile: how many models.
        """
        models = {"originals": profile.originals, "seeds": profile.references}
        references = plan.experiment.references.model_copy(update=models)
        return replace(
            plan,
            experiment=plan.experiment.model_copy(update={"references": references}),
            splits=self.splits,
            dataset=self.splits.corrupted(plan.source),
            first=FIRST_SEED,
        )


def forget_sets(
    plan: Plan, count: int, beside: Sequence[Plan] = ()
) -> tuple[list[ForgetSet], list[str]]:
    """Return forget sets that no search has seen, and why others were left out.

    There may be fewer than asked for: ten classes have nine others.

    Args:
        plan: plan of the study that was searched.
        count: how many.
        beside: plans of studies that are going to be searched: their forget sets count as seen.

    Raises:
        InputError: there is none.
    """
    searched = [*_searched(plan), *_going_to_be(plan, beside)]
    found: list[ForgetSet] = []
    left_out: list[str] = []
    with suppress(InputError):  # the kind of task has no more
        for splits in _others(plan):
            if reason := _seen(splits.forget_N, searched) or _unmeasurable(plan, splits):
                left_out.append(f"{splits.words(plan.dataset.classes)}: {reason}")
            else:
                found.append(ForgetSet(name=ascii_uppercase[1 + len(found)], splits=splits))
            if len(found) == count:
                break
    if len(found) < count:
        left_out.append(f"only {len(found)} of {counted(count, 'forget set')}: there are no more")
    if found:
        return found, left_out
    if len(left_out) == 1:
        next(_others(plan))  # raises, with the reason
    what = f"no other forget set is of use ({left_out[0]})"
    remedy = f"{what}; use more images, or a --home without studies of these"
    raise InputError("task.kind", plan.experiment.task.kind, remedy)


def _others(plan: Plan) -> Iterator[Splits]:
    """Yield the other forget sets of the task's kind; raises `InputError` after the last one."""
    for number in itertools.count(1):
        yield other_splits(plan.source, plan.splits, number, seed=plan.experiment.data.seed)


def _seen(forget_N: Rows, searched: Sequence[tuple[str, Rows]]) -> str:
    """Return which study has searched on these images, in words; empty if there is none."""
    shares = ((study, np.isin(forget_N, theirs_N).mean()) for study, theirs_N in searched)
    return next((f"{study} has searched on it" for study, share in shares if share >= SEEN), "")


def _unmeasurable(plan: Plan, splits: Splits) -> str:
    """Return why not all metrics can be measured, before hours of training; empty if they can."""
    try:
        require_measurable(replace(plan, splits=splits, dataset=splits.corrupted(plan.source)))
    except InputError as error:
        return error.remedy
    return ""


def _going_to_be(plan: Plan, beside: Sequence[Plan]) -> Iterator[tuple[str, Rows]]:
    """Yield the forget sets of plans with the same images; they may not be in the home yet."""
    for each in beside:
        if each.source.digest == plan.source.digest:
            yield each.study, each.splits.forget_N


def _searched(plan: Plan) -> Iterator[tuple[str, Rows]]:
    """Yield the forget set of each study in the home that has images of the same source."""
    for folder in begun_studies(plan.home):
        # A study that cannot be read any more, or with other data, says nothing about these.
        with suppress(OSError, yaml.YAMLError, MixUnlearnError):
            experiment = read_experiment(folder.experiment, reading=True)
            data = experiment.data
            # With another seed or limit, other images of the same source: rows keep their numbers.
            if _source(data) == _source(plan.experiment.data):
                yield folder.path.name, splits_of(experiment, plan.source).forget_N


def _source(data: Data) -> dict[str, Any]:
    return data.model_dump(exclude=PARTS)
