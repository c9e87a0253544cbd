"""`--config auto`: the winner or champion of the home whose problem is nearest to a request's.

Studies and nights of the home are looked at, without asking MLflow.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from distributed.config.experiment import Data, Experiment, Model
from distributed.config.read import read_experiment
from distributed.nightly.nights import champions
from distributed.nightly.records import Configuration
from distributed.plan.splits import splits_of
from distributed.study.folder import StudyFolder, begun_studies
from mixunlearn.data import sources
from mixunlearn.data.arrow import Dataset
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.evidence.states import EQUIVALENT, HARMFUL, NO_BETTER
from mixunlearn.methods import METHODS
from mixunlearn.methods.shards import ShardedMethod
from mixunlearn.tasks.written import level

Opened: TypeAlias = dict[str, Dataset]

KEY = "--config"
NOTHING = "original"  # the method that changes nothing
CLASS = "class"  # the level of tasks that forget whole classes
FACTOR = 4.0  # by which a forget fraction may differ at most
# How far a difference makes a study: a fraction that differs by `FACTOR` counts 1.
OTHER_DATA, OTHER_WIDTH, OTHER_LABELS, OTHER_IMAGES, NOT_EQUIVALENT = 1.0, 0.5, 0.5, 0.5, 0.25


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a request or a study is about, as far as a configuration depends on it.

    Args:
        level: "class" if whole classes are forgotten; else images.
        forget: number of images to forget, at least 1.
        train: number of images that the model was trained on, with those.
        model: name of the model.
        width: its channels; `None` is the model's default.
        digest: of the source's images and labels.
        image_shape: (channels, height, width).
        classes: number of classes.
        labels: "aware" or "agnostic".
        changed: whether a task changed the images to forget, or their labels, before training.
    """

    level: str
    forget: int
    train: int
    model: str
    width: int | None
    digest: str
    image_shape: tuple[int, ...]
    classes: int
    labels: str
    changed: bool = False

    @property
    def fraction(self) -> float:
        """Return the share of the training images that is forgotten."""
        return self.forget / self.train


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The winner of a finished study, or a champion of nights that is a trial of it.

    Args:
        study: name of the study.
        about: what it was tuned on.
        method: which method it tuned.
        verdict: state of the verdict; empty if an earlier version judged it, or if the study's
            verdict was about another trial than the champion.
        champion: the champion's trial, STUDY/NUMBER; `None`: the winner of the study.
    """

    study: str
    about: Described
    method: str
    verdict: str
    champion: str | None = None

    @property
    def title(self) -> str:
        """Return its name for messages."""
        return f"{self.champion}, the champion" if self.champion else self.study


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The configuration that is going to be used.

    Args:
        target: a study, for its winner; or a trial, STUDY/NUMBER.
        reason: why it, and what differs from the request, in one line.
        differences: what differs; empty if nothing does.
    """

    target: str
    reason: str
    differences: Sequence[str]


def choose(request: Described, home: Path) -> Choice:
    """Return the configuration nearest to a request.

    Near means: the same level of task, model, size of images and number of classes, a forget
    fraction within a factor of 4, and a verdict that speaks neither of harm nor of no effect. Of
    those the one with the smallest distance: the logarithm of the fractions' ratio, with additions
    for other data, width, labels, changed images, and a verdict short of equivalence. Of equals a
    champion, which is measured every night; then the first by name.

    Args:
        request: what is to be forgotten.
        home: where studies are kept.

    Raises:
        InputError: no study is near; the key is `--config`.
    """
    found = list(candidates(home))
    if not found:
        remedy = f"no finished study in {home}; run a sweep, or name a file of a configuration"
        raise InputError(KEY, "auto", remedy)
    return nearest(request, found)


def nearest(request: Described, found: Sequence[Candidate]) -> Choice:
    """Return the nearest of at least one candidate; see `choose`.

    Raises:
        InputError: none is near.
    """

    def order(candidate: Candidate) -> tuple[int, float, bool, str]:
        count, far = len(objections(request, candidate)), distance(request, candidate)
        return count, far, candidate.champion is None, candidate.study

    best = min(found, key=order)
    if wrong := objections(request, best):
        remedy = "name a study, or tune on a problem like this one"
        raise InputError(
            KEY, "auto", f"no study is near; {best.title}: {', '.join(wrong)}; {remedy}"
        )
    differing = differences(request, best)
    others = f"the nearest of {len(found)}" if len(found) > 1 else "the only finished study"
    verdict = f"its verdict: {best.verdict or 'none'}"
    what = f"differs in {', '.join(differing)}" if differing else "the same problem"
    return Choice(
        target=best.champion or best.study,
        reason=f"{best.title}: {others}; {what}; {verdict}",
        differences=differing,
    )


def objections(request: Described, candidate: Candidate) -> list[str]:
    """Return why a candidate must not be chosen without being asked for; empty if it may."""
    about, found = candidate.about, list[str]()
    if (about.level == CLASS) != (request.level == CLASS):
        found.append(f"forgets {_what(about)}, not {_what(request)}")
    if about.model != request.model:
        found.append(f"its model is {about.model}, not {request.model}")
    if about.image_shape != request.image_shape:
        shapes = ("×".join(map(str, each.image_shape)) for each in (about, request))
        found.append("its images are {}, not {}".format(*shapes))
    if about.classes != request.classes:
        found.append(f"it has {about.classes} classes, not {request.classes}")
    if _ratio(request, about) > FACTOR:
        found.append(f"forgets {about.fraction:.2%} of the images, not {request.fraction:.2%}")
    if candidate.verdict in (HARMFUL, NO_BETTER):
        found.append(f"its verdict is: {candidate.verdict}")
    return found + _unfit(candidate.method, request.labels)


def _unfit(name: str, labels: str) -> list[str]:
    """Return why a method is of no use for a request."""
    method = METHODS[name]
    reasons = {
        "needs labels": labels == "agnostic" and method.needs_labels,
        "changes nothing": name == NOTHING,
        "gives several models": issubclass(method, ShardedMethod),
    }
    return [f"its method, {name}, {why}" for why, holds in reasons.items() if holds]


def differences(request: Described, candidate: Candidate) -> list[str]:
    """Return in what a candidate differs from a request without being far; empty if in nothing."""
    about, found = candidate.about, list[str]()
    if about.digest != request.digest:
        found.append("other images")
    if about.width != request.width:
        found.append(f"width {about.width or 'default'}, not {request.width or 'default'}")
    if about.labels != request.labels:
        found.append(f"label-{about.labels}, not label-{request.labels}")
    if about.changed != request.changed:
        found.append("images to forget that were changed" if about.changed else "unchanged images")
    if about.forget != request.forget or about.train != request.train:
        found.append(
            f"{about.forget} of {about.train} images forgotten, not {request.forget} of "
            f"{request.train}"
        )
    return found


def distance(request: Described, candidate: Candidate) -> float:
    """Return how far a candidate is, at least 0; see `choose`."""
    about = candidate.about
    return (
        math.log(_ratio(request, about)) / math.log(FACTOR)
        + OTHER_DATA * (about.digest != request.digest)
        + OTHER_WIDTH * (about.width != request.width)
        + OTHER_LABELS * (about.labels != request.labels)
        + OTHER_IMAGES * (about.changed != request.changed)
        + NOT_EQUIVALENT * (candidate.verdict != EQUIVALENT)
    )


def candidates(home: Path) -> Iterator[Candidate]:
    """Yield the winners of the finished studies of a home, and the champions of its nights.

    Studies that cannot be read any more are left out.
    """
    opened: Opened = {}
    reigning: Mapping[str, Configuration] = {each.study: each for each in champions(home)}
    for folder in begun_studies(home):
        with suppress(OSError, ValueError, KeyError, TypeError, yaml.YAMLError, MixUnlearnError):
            summary = json.loads(folder.summary.read_text())
            if summary["best"]:
                yield (winner := _candidate(folder, summary, home, opened))
                if holder := reigning.get(winner.study):
                    yield replace(winner, champion=holder.trial, verdict=holder.judged or "")


def _candidate(
    folder: StudyFolder, summary: Mapping[str, Any], home: Path, opened: Opened
) -> Candidate:
    experiment = read_experiment(folder.experiment, reading=True)
    verdict = summary.get("verdict") or {}
    return Candidate(
        study=folder.path.name,
        about=described(experiment, home, opened),
        method=experiment.method,
        verdict=str(verdict.get("state", "")),
    )


def described(experiment: Experiment, home: Path, opened: Opened) -> Described:
    """Return what an experiment is about.

    Args:
        experiment: of a study.
        home: has the cache of images.
        opened: what was opened already; see `open_once`.

    Raises:
        InputError: its images or its task cannot be read.
    """
    dataset = open_once(experiment.data, home, opened)
    splits = splits_of(experiment, dataset)
    return Described(
        level=level(experiment.task.model_dump()),
        forget=len(splits.forget_N),
        train=len(splits.forget_N) + len(splits.retain_N),
        model=_model(experiment.model),
        width=experiment.model.width,
        digest=dataset.digest,
        image_shape=tuple(dataset.images_NCHW.shape[1:]),
        classes=len(dataset.classes),
        labels=experiment.labels,
        changed=splits.corrupted(dataset) is not dataset,
    )


def open_once(data: Data, home: Path, opened: Opened) -> Dataset:
    """Return the data set of a `data` section; reading one may take minutes.

    Args:
        data: the section.
        home: has the cache of images.
        opened: the data sets that were opened already, by their options; this one is added.

    Raises:
        InputError: it cannot be read.
    """
    key = json.dumps([data.source, data.options], sort_keys=True)
    if key not in opened:
        opened[key] = sources.open_dataset(data.source, data.options, home / "cache")
    return opened[key]


def _model(model: Model) -> str:
    return model.name if model.size is None else f"{model.name} at {model.size} pixels"


def _ratio(first: Described, second: Described) -> float:
    """Return how many times the larger forget fraction is the smaller one, at least 1."""
    ratio = first.fraction / second.fraction
    return max(ratio, 1 / ratio)


def _what(about: Described) -> str:
    return "whole classes" if about.level == CLASS else "single images"
