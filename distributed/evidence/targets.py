"""What evidence is wanted about: an experiment, a comparison, or a study that was searched."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distributed.compare.cells import Plans, cells, groups
from distributed.compare.run import done, run_comparison
from distributed.config.comparison import read_comparison
from distributed.config.presets import names_file
from distributed.config.read import read_experiment
from distributed.config.yaml_file import read_file
from distributed.plan.make import find_study, make_plan
from distributed.plan.plan import Plan
from distributed.search.session import Session
from distributed.search.sweep import run_sweep
from mixunlearn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Target:
    """What evidence is wanted about.

    Args:
        problems: name of the evidence -> name of each contender -> plan of its study.
        tune: searches what is not tuned yet; returns what failed, with the reason.
    """

    problems: Mapping[str, Mapping[str, Plan]]
    tune: Callable[[Session], Mapping[str, str]]


def find_target(
    words: str, settings: Sequence[str], home: Path, *, command: str, local: bool
) -> Target:
    """Return what a user names by a file or by a study.

    Args:
        words: a YAML file, a preset's name, or the name of a study.
        settings: `key=value` settings on top of it.
        home: where results are kept.
        command: the command to name in error messages.
        local: whether models are trained on this machine.

    Raises:
        InputError: there is no such file or study, or it cannot run as written.
    """
    path = Path(words)
    if not names_file(words):
        plan = find_study(words, settings, home, tracks=True)
        return Target(problems={plan.study: {plan.experiment.method: plan}}, tune=_tuned_already)
    if "methods" in read_file(path, "FILE"):
        return _of_comparison(path, settings, Plans(home, command=command, local=local))
    plan = make_plan(read_experiment(path, settings), home, command=command, local=local)

    def tune(session: Session) -> Mapping[str, str]:
        if not done(plan):
            # Ray starts only once: the part closes the study and its lock, but not Ray.
            connected = session.connect(plan, "starting Ray")
            with session.part() as part:
                run_sweep(connected, part)
        return {}

    return Target(problems={plan.study: {plan.experiment.method: plan}}, tune=tune)


def _tuned_already(session: Session) -> Mapping[str, str]:
    return {}


def _of_comparison(path: Path, settings: Sequence[str], plans: Plans) -> Target:
    """Return the problems of a comparison; each of its searches is a contender."""
    comparison = read_comparison(path, settings)
    found = cells(comparison)
    several = len(comparison.seeds) > 1
    names = _file_names(comparison.name, [problem for problem, _ in groups(found)])
    problems = {
        names[problem]: {
            f"{each.method}, seed {each.seed}" if several else each.method: plans.of(each)
            for each in own
            if each.experiment
        }
        for problem, own in groups(found)
    }

    def tune(session: Session) -> Mapping[str, str]:
        with session.part() as part:
            return run_comparison(comparison, found, found, plans, part)

    return Target(problems={name: own for name, own in problems.items() if own}, tune=tune)


def _file_names(name: str, problems: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return the folder of each problem's evidence.

    Raises:
        InputError: two problems would have the same one.
    """
    found: dict[str, tuple[str, ...]] = {}
    for problem in problems:
        folder = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join((name, *problem)))
        if folder in found:
            remedy = f"has the same folder as {', '.join(found[folder])}: {folder}; rename one"
            raise InputError("data, task, labels", ", ".join(problem), remedy)
        found[folder] = problem
    return {problem: folder for folder, problem in found.items()}
