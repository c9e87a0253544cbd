"""Judges a request: before and after, and with `--verify` against retrained models."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from distributed.plan.model import taught_stages
from distributed.plan.plan import Plan
from distributed.requests.request import Request
from distributed.runtime.progress import Progress
from distributed.runtime.text import one_line
from distributed.search.session import Session
from distributed.search.test_evaluation import TestEvaluator
from distributed.search.trials import fill_references
from mixunlearn.atomic import replacing
from mixunlearn.data import arrow
from mixunlearn.effort import ALONE
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.evaluation import EvaluationSet, evaluation_set
from mixunlearn.evidence.behaviour import behaviour_set
from mixunlearn.evidence.equivalence import LEAST
from mixunlearn.evidence.estimate import LEVEL
from mixunlearn.evidence.states import STATES
from mixunlearn.evidence.verdict import Verdict, judge
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for
from trainables.evaluate import TestTask

UNVERIFIED = "unverified"
ORIGINALS = "originals.json"  # in the folder of notes: the originals that were there before
NOT_RETRAINED = "nothing was retrained to compare with: --verify does that"
# Exit codes that tell the state of a verdict, in the order of `STATES`; 1 to 4 mean other things.
CODES = dict(zip(STATES, (0, 5, 7, 8, 6), strict=True))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a model before and after it has unlearned, by metric.

    Args:
        before: of the user's model.
        after: of the model that was written.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What retraining says.

    Args:
        verdict: on the configuration, over all originals.
        retrained: metric -> one value for each model retrained without the data.
        originals: number of originals that were unlearned, the user's own among them.
        seconds: time of one retraining, with the device to itself; `None`: unknown.
    """

    verdict: Verdict
    retrained: Mapping[str, Sequence[float]] = field(default_factory=dict)
    originals: int
    seconds: float | None


def measure(
    request: Request, unlearned: StagedModel, device: torch.device, progress: Progress
) -> Measured:
    """Measure both models on the whole forget set, on retained, and on unseen images.

    With features, also on the unseen images that are nearest to the forget set.

    Raises:
        DivergedError: an output is not finite.
    """
    progress.show("measuring the model before and after")
    plan = request.plan
    images = evaluation_set(plan.dataset, plan.splits, "test")
    original = plan.references.architecture.load(request.own.tensors).to(device)
    near = _near(images, original)
    return Measured(
        **{
            name: {**images.evaluate(model).metrics, **near(model)}
            for name, model in (("before", original), ("after", unlearned.to(device)))
        }
    )


def _near(
    images: EvaluationSet, original: StagedModel
) -> Callable[[StagedModel], Mapping[str, float]]:
    """Return what measures a model on unseen images near to the forget set."""
    with suppress(InputError):  # a model without features: what is near stays unknown
        return behaviour_set(images, original).measure
    return lambda _: {}


def _signs(request: Request, measured: Measured) -> list[str]:
    """Return what the forget set shows next to unseen images, without any retraining.

    A model that never saw the images is about as often right on them as on unseen ones, if they
    are like those. The shares are compared by Fisher's exact test at 5 %.
    """
    splits = request.plan.splits
    if splits.forgotten:  # unseen images are of other classes
        return []
    counts = len(splits.forget_N), len(splits.test_N)
    return [
        f"{when} unlearning, {_beside(values, *counts)}"
        for when, values in (("before", measured.before), ("after", measured.after))
    ]


def _beside(values: Mapping[str, float], forget: int, unseen: int) -> str:
    shares = values["acc/train_forget"], values["acc/test"]
    right = [round(share * n / 100) for share, n in zip(shares, (forget, unseen), strict=True)]
    table = [[right[0], forget - right[0]], [right[1], unseen - right[1]]]
    p = float(stats.fisher_exact(table).pvalue)
    both = f"{shares[0]:.1f} % against {shares[1]:.1f} %"
    if p >= LEVEL:
        return f"the forget set is not told apart from unseen images by accuracy ({both})"
    if shares[0] > shares[1]:
        return f"it is right on the forget set more often than on unseen images ({both})"
    trace = "which is a trace as well, unless these images are harder"
    return f"it is right on the forget set less often than on unseen images ({both}), {trace}"


# --- retraining ----------------------------------------------------------------------------------


def verification_plan(request: Request) -> Plan:
    """Return the plan of the retraining: enough originals and references for a verdict."""
    given = request.plan.experiment.references
    seeds = max(given.seeds, LEAST)
    numbers = {"seeds": seeds, "originals": max(given.originals or seeds, LEAST)}
    references = given.model_copy(update=numbers)
    experiment = request.plan.experiment.model_copy(update={"references": references})
    # The models of a verdict are read by the stages that the method needs.
    return replace(
        request.plan,
        experiment=experiment,
        stages=taught_stages(request.stages, experiment.references.augmentation),
    )


def verify(
    request: Request, measured: Measured, seconds: float, work: Path, session: Session
) -> Verification:
    """Retrain without the data, and compare what unlearned with it.

    The user's own model is one of the originals. The others are trained by the stated recipe and
    unlearn with the same configuration: one model alone cannot show how results vary.

    Args:
        request: the request, which was carried out.
        measured: of the user's model.
        seconds: time that it took to unlearn.
        work: folder for the images, which worker processes read; the caller removes it.
        session: the session of the command.

    Raises:
        InputError: a model diverged.
        MixUnlearnError: a training failed, or Ray does not answer.
        Interrupted: a stop was requested; everything finished is kept.
    """
    plan = _mapped(verification_plan(request), work)
    _note_originals(plan, work)
    try:
        fill_references(plan, session)
        others = _unlearned(request, plan, session)
        return _judged(plan, measured, seconds, others)
    finally:
        _remove(plan)


def _mapped(plan: Plan, work: Path) -> Plan:
    """Return the plan with its images in a file, unless a sweep has kept one."""
    if plan.dataset.path:
        return plan
    dataset = arrow.keep(plan.dataset, work / "images.arrow")
    return replace(plan, source=dataset, dataset=dataset)


def _unlearned(request: Request, plan: Plan, session: Session) -> Sequence[Mapping[str, float]]:
    """Return the metrics of the other originals after they have unlearned."""
    timed = plan.references.recipe
    tasks = {
        f"original {n}": TestTask(
            method=request.configuration.method,
            hyperparameters=request.configuration.hyperparameters,
            seed=seed_for("request", plan.experiment.search.seed, n),
            epochs=request.configuration.epochs,
            trial=None,
            original=n,
            # One is timed beside a retraining, each with the device to itself.
            timed=timed if n == 1 else None,
        )
        for n in range(1, plan.originals)
    }
    evaluator = TestEvaluator(plan, weights=False)
    if missing := evaluator.missing(tasks):
        connected = session.connect(plan, "starting Ray")
        images = connected.references.evaluator("test")
        stop = session.stop
        title = "verifying by originals of the recipe"
        ended = session.progress.stage(title, "unlearned", len(missing))
        evaluator.run(missing, connected.problem, images, lambda: stop.asked is not None, ended)
        stop.check()
    return [entry.record["metrics"] for entry in evaluator.results(tasks).values()]


def _judged(
    plan: Plan, measured: Measured, seconds: float, others: Sequence[Mapping[str, float]]
) -> Verification:
    references = plan.references
    retrained = references.evaluator("test").references
    originals = [references.evaluation(each, "test").metrics for each in references.all_originals]
    alone_s = [each["time/retrain_s"] for each in others if "time/retrain_s" in each]
    # A user's own training cannot be cut in pieces: its time counts only if it had no neighbours.
    known_s = alone_s or (retrained.seconds if retrained.at_once == ALONE else [])
    took = float(np.mean(known_s)) if len(known_s) else None
    values = {name: retrained.values(name) for name in plan.margins}
    verdict = judge(
        {name: [measured.after[name], *(run[name] for run in others)] for name in plan.margins},
        {name: [each[name] for each in originals] for name in plan.margins},
        values,
        plan.margins,
        cost=seconds / took if took else math.nan,
    )
    return Verification(verdict=verdict, retrained=values, originals=len(originals), seconds=took)


def _remove(plan: Plan) -> None:
    """Remove what the store has about single images of the request.

    Retrained models stay: they know nothing of these images, and a later request may need them.
    """
    store, key = plan.references.store, plan.splits.key
    with suppress(MixUnlearnError, OSError):
        for kind in ("teachers", "evaluations"):
            store.discard(kind, lambda payload: payload.get("splits") == key)
        plan.folder.rmdir()  # checkpoints of the references were in it, but this is no study


def _note_originals(plan: Plan, work: Path) -> None:
    """Note which originals the home has, unless a command that was stopped has done so."""
    references, note = plan.references, work / ORIGINALS
    if note.exists():
        return
    there = [
        references.key(each)
        for each in references.all_originals
        if references.store.has("models", references.payload(each))
    ]
    try:
        with replacing(note) as temporary:
            temporary.write_text(json.dumps(there))
    except OSError as error:
        remedy = "fix it and run the same command again"
        raise MixUnlearnError(f"{work}: {one_line(error)}; {remedy}") from error


def remove_originals(request: Request, work: Path) -> None:
    """Remove the models that a verification has trained with the images, or copied.

    They know what had to be forgotten. Those that a study has made before stay, as it needs them.
    """
    references, note = verification_plan(request).references, work / ORIGINALS
    ours = {*map(references.key, references.all_originals)}
    with suppress(MixUnlearnError, OSError):
        ours -= {*json.loads(note.read_text())}
        store = references.store
        store.discard("models", lambda payload: store.path("models", payload).name in ours)


def as_plain(
    request: Request, measured: Measured, verification: Verification | None
) -> dict[str, Any]:
    """Return the verdict for a record."""
    if verification is None:
        reasons = [*_signs(request, measured), NOT_RETRAINED]
        return {"state": UNVERIFIED, "reasons": reasons}
    retrained = max(map(len, verification.retrained.values()), default=0)
    return {
        "state": verification.verdict.state,
        "reasons": list(verification.verdict.reasons),
        "originals": verification.originals,
        "references": retrained,
        "margins": dict(request.plan.margins),
    }
