"""Carries a request out from its first epoch to its record."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import torch

from distributed.cluster.version import code_version, environment
from distributed.plan.model import taught_stages
from distributed.requests.copies import check_copy
from distributed.requests.cost import Cost, time_cost
from distributed.requests.forget import without_lists
from distributed.requests.judge import (
    as_plain,
    measure,
    remove_originals,
    verification_plan,
    verify,
)
from distributed.requests.record import append, written
from distributed.requests.record import verify as read_chain
from distributed.requests.request import Request
from distributed.requests.run import Output, digest_of_file, locked, read_weights, run, tidy
from distributed.requests.secret import forget_digest
from distributed.runtime.text import redact
from distributed.search.session import Session
from mixunlearn.atomic import replacing
from mixunlearn.errors import DivergedError, InputError
from mixunlearn.evidence.prediction import Prediction, predict_from
from mixunlearn.problem import Problem
from mixunlearn.release import __version__
from mixunlearn.signature import signature
from mixunlearn.teaching import problem_without_references
from report.request_card import card

AT_RANDOM = {"ids", "random"}  # kinds of tasks that forget single images, of all kinds of images
# Packages whose version can change a number.
PACKAGES = {"numpy", "pyarrow", "ray", "safetensors", "scipy", "torch", "torchvision"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """How a request is carried out.

    Args:
        request: the checked request.
        name: of the request, in its record.
        output: where results go.
        device: where to compute.
        verified: whether models are retrained to compare with.
    """

    request: Request
    name: str
    output: Output
    device: torch.device
    verified: bool

    @property
    def token(self) -> str:
        """Return what makes the record one that is written once.

        With what a judgement rests on: one with wider margins must not stand for another.
        """
        experiment = self.request.plan.experiment
        rests: dict[str, Any] = {"margins": dict(self.request.plan.margins)}
        if self.verified:
            counts = {
                "seeds": experiment.references.seeds,
                "originals": experiment.references.originals,
            }
            rests |= counts | experiment.references.training
        state = "verified" if self.verified else "unverified"
        return f"{self.request.token}-{state}-{self.output.format}-{signature(rests)}"

    @cached_property
    def problem(self) -> Problem:
        """What the method unlearns; made once, as the original then reads each image."""
        request, plan = self.request, self.request.plan
        architecture = plan.references.architecture
        return problem_without_references(
            architecture.load(request.own.tensors).to(self.device),
            architecture,
            plan.dataset,
            plan.splits,
            stages=taught_stages(request.stages, plan.experiment.references.augmentation),
            with_labels=plan.experiment.labels == "aware",
            pretrained=plan.pretrained,
            augmentation=plan.references.recipe.augmentation,
        )

    @cached_property
    def cost(self) -> Cost:
        """What the request is going to cost, by timing a few steps.

        Raises:
            InputError: a loss is not finite, so the configuration is of no use.
        """
        configuration, references = self.request.configuration, self.request.plan.references
        try:
            found = time_cost(
                self.problem,
                configuration.method,
                configuration.hyperparameters,
                configuration.epochs,
                references.recipe,
                self.device,
            )
        except DivergedError as error:
            raise references.diverged(references.all_references[0], error.args[0]) from error
        if not self.verified:
            return found
        models = verification_plan(self.request).references
        return replace(found, verifying=sum(not models.trained(each) for each in models.members))


def carry_out(job: Job, session: Session) -> dict[str, Any]:
    """Do what is missing of a request; return its record as plain data.

    Args:
        job: the request, and how it is carried out.
        session: the session of the command; it starts Ray only if models are retrained.

    Raises:
        InputError: the folder holds the results of another request.
        CorruptError: the chain of records is broken; nothing was unlearned.
        MixUnlearnError: unlearning or a retraining failed, a file cannot be written, or another
            command is writing in the folder.
        Interrupted: a stop was requested; everything finished is kept.
    """
    with locked(job.output.folder):
        if earlier := recorded(job):
            tidy(job.output)
            return earlier
        return _carried_out(job, session)


def _carried_out(job: Job, session: Session) -> dict[str, Any]:
    request, output, progress = job.request, job.output, session.progress
    # Now, not after hours: nothing is unlearned that could not be recorded.
    read_chain(request.plan.home).require()
    started = _now()
    found = run(request, output, job.device, lambda: job.problem, progress)
    # What is measured is what was written: the user's precision may be lower than ours.
    model = read_weights(request, output).to(job.device)
    measured = measure(request, model, job.device, progress)
    verification = None
    if job.verified:
        verification = verify(request, measured, found.seconds, output.work, session)
    prediction = predicted(request)
    facts = _facts(job)
    record = append(
        request.plan.home,
        {
            "request": job.name,
            # With the file: another machine may compute other last digits.
            "token": f"{job.token}-{facts['model']['file'][:8]}",
            "started": started,
            "finished": _now(),
            **facts,
            "measured": {
                "before": dict(measured.before),
                "after": dict(measured.after),
                "retrained": dict(verification.retrained) if verification else {},
            },
            "prediction": prediction.as_plain() if prediction else None,
            "verdict": as_plain(request, measured, verification),
            "seconds": found.seconds,
            "retraining_seconds": verification.seconds if verification else job.cost.retraining_s,
        },
    )
    if verification:
        remove_originals(request, output.work)
    _write(job, written(record), record.as_json(), prediction)
    return record.as_json()


def _write(
    job: Job,
    text: str,
    record: Mapping[str, Any],
    prediction: Prediction | None,
) -> None:
    """Write the card and the copy of the record; the record last, as it says that all is done."""
    request = job.request
    with replacing(job.output.card) as temporary:
        temporary.write_text(
            card(
                record,
                words=request.plan.forget_set,
                margins=request.plan.margins,
                reasons=prediction.reasons if prediction else (),
                command=redact(without_lists(request.command)),
            )
        )
    with replacing(job.output.record) as temporary:
        temporary.write_text(text)
    tidy(job.output)


def recorded(job: Job) -> dict[str, Any]:
    """Return the record of the finished request; empty if it has not finished.

    Raises:
        InputError: the record or the weights beside it were changed or removed since.
    """
    try:
        found = dict(json.loads(job.output.record.read_text()))
    except (OSError, ValueError, TypeError):
        return {}
    request, state, form = f"{found.get('token')}--".split("-")[:3]
    if (request, form) != (job.request.token, job.output.format):
        return {}
    # Also if a judgement is still missing: the weights that are judged must be those in the chain.
    _require_unchanged(job)
    # Who asks for no verification must not lose the one there is.
    kept = state == "verified" and not job.verified
    return found if kept or str(found["token"]).startswith(job.token) else {}


def _require_unchanged(job: Job) -> None:
    """Check that the results are those in the chain; a stranger's must not count as finished."""
    output = job.output
    problems = check_copy(output.record, read_chain(job.request.plan.home))
    if not output.weights.is_file():
        problems.insert(0, f"{output.weights.name} is not there any more")
    if problems:
        remedy = "was finished, but was changed since; restore it, or choose another folder"
        raise InputError("--out", str(output.folder), f"{remedy} ({problems[0]})")


def predicted(request: Request) -> Prediction | None:
    """Return what the study of the configuration predicts; `None` if it has no proxies for this.

    Its proxies must be of the same data, and unlearned from the model of the request, or both from
    originals of the same recipe. Images that are listed count as images drawn at random.
    """
    proxies = request.configuration.summary.get("proxies")
    if not proxies:
        return None
    trained = None if request.of_study else request.own.digest
    about = {"model": trained, "data": request.plan.source.digest}
    if any(proxies.get(name) != digest for name, digest in about.items()):
        return None
    kinds = {request.plan.experiment.task.kind, proxies["kind"]}
    return predict_from(
        proxies,
        request.plan.margins,
        kind=proxies["kind"] if kinds <= AT_RANDOM else request.plan.experiment.task.kind,
        images=len(request.plan.splits.forget_N),
    )


def _facts(job: Job) -> dict[str, Any]:
    """Return what a record says about model, data, configuration and code."""
    request, plan = job.request, job.request.plan
    configuration = request.configuration
    classes = [plan.dataset.classes[label] for label in plan.splits.forgotten]
    return {
        "model": {
            "name": plan.experiment.model.name,
            "before": request.own.digest,
            "after": type(request.own)
            .read(str(job.output.weights), plan.references.architecture)
            .digest,
            "file": digest_of_file(job.output.weights),
        },
        "data": {"source": redact(plan.experiment.data.source), "digest": plan.source.digest},
        "forget": {
            "kind": plan.experiment.task.kind,
            "images": len(plan.splits.forget_N),
            "digest": forget_digest(plan.home, plan.splits.forget_N.tolist()),
            "classes": classes,
        },
        "configuration": {
            "method": configuration.method,
            "hyperparameters": dict(configuration.hyperparameters),
            "epochs": configuration.epochs,
            "seed": request.seed,
            "labels": plan.experiment.labels,
            "from": configuration.source,
            "tuned_on": configuration.study,
            "chosen": configuration.chosen or None,
        },
        "code": {
            "version": __version__,
            "commit": code_version(),
            "python": platform.python_version(),
            "packages": {
                name: version
                for name, version in environment()["packages"].items()
                if name.lower() in PACKAGES
            },
            "device": _device(job.device),
        },
    }


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")
