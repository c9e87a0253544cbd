"""The study of a night, and the configurations that it starts from."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from distributed.config.experiment import Experiment
from distributed.nightly.context import NightContext
from distributed.nightly.records import PartRecord
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from distributed.search.session import open_study
from distributed.study.trials_table import Row
from mixunlearn.errors import MissingError


def search_plan(
    context: NightContext,
    experiment: Experiment,
    start: Sequence[Mapping[str, Any]],
    trials: int = 1,
    *,
    generation: int = 0,
) -> Plan:
    """Return the plan of the night's search.

    Args:
        context: context of the night.
        experiment: as the user wrote it.
        start: configurations to try first.
        trials: number of trials of the study, over all nights.
        generation: how many studies the search had before; each has a seed of its own.
    """
    changes = {
        "start": [dict(each) for each in start],
        # `model_copy` does not validate, and a budget of 0 on a new study would give 0.
        "trials": max(1, trials),
        # Under the same seed, the new study would propose the trials of the old one again.
        "seed": experiment.search.seed + generation,
    }
    return _made(context, experiment, changes, experiment.data.seed)


def drawn_plan(context: NightContext, experiment: Experiment, draw: int) -> Plan:
    """Return the plan of a forget set that the search does not use.

    Args:
        context: context of the night.
        experiment: as the user wrote it.
        draw: number of the forget set, from 0.
    """
    # No start, no generation: results are stored under the study's name, which must not change.
    changes = {"start": [], "trials": 1, "seed": experiment.search.seed}
    # The search itself uses the forget set of `data.seed`: drawn sets follow it.
    return _made(context, experiment, changes, experiment.data.seed + 1 + draw)


def _made(
    context: NightContext, experiment: Experiment, search: Mapping[str, Any], data_seed: int
) -> Plan:
    changed = {
        "search": experiment.search.model_copy(update=dict(search)),
        "data": experiment.data.model_copy(update={"seed": data_seed}),
    }
    return make_plan(
        experiment.model_copy(update=changed),
        context.home,
        command=context.command,
        local=context.local,
    )


def origin(
    last: PartRecord | None, plan: Plan, renew: int
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """Return what the night's study starts with, and how many studies the search had before it.

    Args:
        last: the last night with a champion.
        plan: plan of the experiment as written.
        renew: number of trials after which a new study is started.
    """
    if last is None or last.base != plan.study:
        # Data or experiment changed: the old trials' values are worth nothing, their settings are.
        return warm_start(last, plan), 0
    assert last.trials is not None  # it has a champion, so its study is known
    if last.trials.before + last.trials.ran < renew:
        # The same start again: it is part of the study's name, so another one makes a new study.
        return last.start, last.generation
    return warm_start(last, plan), last.generation + 1


def warm_start(last: PartRecord | None, plan: Plan) -> list[Mapping[str, Any]]:
    """Return what a new study starts with: champion, candidate and best trials, each once."""
    if last is None:
        return []
    known = [each for each in (last.champion, last.candidate, *last.best) if each]
    names = set(plan.space)
    # Of another method, or an older search space: Optuna could not try them.
    fitting = [dict(each.parameters) for each in known if set(each.parameters) <= names]
    return [each for index, each in enumerate(fitting) if each not in fitting[:index]]


def finished_trials(plan: Plan) -> list[Row]:
    """Return the finished trials of a study; none if it has not begun."""
    try:
        with closing(open_study(plan)) as study:
            return [*study.rows()]
    except MissingError:
        return []


def next_trial(plan: Plan) -> int:
    """Return the number of the trial that follows those that have ended."""
    return max((row["trial"] + 1 for row in finished_trials(plan)), default=0)
