"""Collects the data of a report from the study's record, its models and this machine."""

import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distributed.cluster.version import code_version
from distributed.plan.cautions import cautions
from distributed.plan.plan import Plan, as_yaml
from distributed.runtime.addresses import REMOTE, resolve
from distributed.runtime.text import redact
from distributed.study.sampling import constant
from distributed.study.study import Study
from distributed.study.trials_table import Row, hyperparameters, known_run_ids, ranked
from distributed.tracking.run_finder import RunIds
from distributed.tracking.tags import STUDY
from mixunlearn.data.batches import PIXEL_MAX
from mixunlearn.errors import InputError, MissingError
from mixunlearn.methods import METHODS
from mixunlearn.methods.mixunlearn import MixUnlearn
from mixunlearn.metrics.membership import attack_success
from mixunlearn.signature import seed_for
from mixunlearn.trial import Trial
from mixunlearn.trial_names import trial_name
from mixunlearn.wording import counted
from report.report_data import Axis, Importance, Mixtures, ReportData, Share
from report.verdict import ENOUGH, FAR, has_scores, timing
from search_spaces import Choice
from search_spaces.space import AnyParameter
from trainables.checkpoint import identity, latest

USUAL_HOME = Path("runs")
PER_PARAMETER = 10  # trials for each hyperparameter; with fewer, importances are mostly chance
PAIRS, MANY = 6, 512  # number of pairs that are shown, and over which masks are averaged
FEW_IMAGES = 100


def make_report_data(
    plan: Plan, study: Study, summary: Mapping[str, Any], *, show_images: bool = False
) -> ReportData:
    """Return all that the report shows of a study.

    Args:
        plan: plan of the study.
        study: the study's record.
        summary: the study's summary; empty if there is none yet.
        show_images: whether to show images, among them some that are to be forgotten.

    Raises:
        MissingError: no trial has finished, or a reference is missing.
    """
    rows = study.rows()
    if not rows:
        raise MissingError(f"no trial of {plan.study} has finished yet: {_resume(plan)}")
    references = plan.references.evaluator("val").references
    experiment = plan.experiment
    objective = experiment.search.objective
    original = references.compare(plan.references.evaluation(plan.references.original, "val"))
    report_data = ReportData(
        summary=summary or {"study": plan.study},
        rows=rows,
        curves={row["trial"]: _curve(study, row["trial"]) for row in rows},
        ended=list(study.ended()),
        axes={name: _axis(p) for name, p in plan.space.items() if constant(p) is None},
        objective=objective,
        # These are average gaps: beside another objective they would say nothing.
        own=references.own_gaps() if objective == "gap/avg" else (),
        original=original[objective],
        importance=_importance(study, rows),
        mixtures=_mixtures(plan, study, rows) if show_images else None,
        experiment=as_yaml(plan.published),
        facts=_facts(plan),
        commands=_commands(plan),
        home=_home(plan),
        warnings=list(_warnings(plan, summary)),
        citations=list(filter(None, map(_source, (METHODS[experiment.method], attack_success)))),
    )
    return linked(plan, report_data, known_run_ids(plan.study_folder.trials))


def linked(plan: Plan, report_data: ReportData, runs: Mapping[int, str]) -> ReportData:
    """Return report data with MLflow's runs and the model, with links if MLflow is a server.

    Args:
        plan: plan of the study.
        report_data: report data of the study.
        runs: ids of MLflow's runs, by trial number.
    """
    tracking = plan.experiment.tracking
    uri = redact(resolve(tracking.uri, tracking.storage, plan.home)[0])
    pages = f"{uri.rstrip('/')}/#/runs/" if uri.startswith(REMOTE) else ""
    own = RunIds(plan.study_folder.run_ids).get({STUDY: plan.study}) or ""
    best = next(iter(report_data.summary.get("best") or []), None)
    return replace(
        report_data,
        rows=[{**row, "mlflow_run_id": runs.get(row["trial"])} for row in report_data.rows],
        links={trial: pages + run for trial, run in runs.items() if pages},
        run=pages and own and pages + own,
        model=plan.study_folder.model(best["trial"]) if best else None,
    )


def begun(plan: Plan) -> ReportData:
    """Return the report data of a study in which no trial has ended."""
    return ReportData(
        summary={"study": plan.study},
        rows=[],
        curves={},
        ended=[],
        axes={},
        objective=plan.experiment.search.objective,
        experiment=as_yaml(plan.published),
        facts=_facts(plan),
        commands=_commands(plan),
        warnings=list(_warnings(plan, {})),
    )


def _curve(study: Study, number: int) -> dict[int, float]:
    values = {epoch: m.get(study.objective) for epoch, m in study.history(number).items()}
    return {epoch: value for epoch, value in values.items() if value is not None}


def _axis(parameter: AnyParameter) -> Axis:
    if isinstance(parameter, Choice):
        return Axis(options=parameter.options, default=parameter.default, unit=parameter.unit)
    return Axis(
        low=parameter.low,
        high=parameter.high,
        log=parameter.log,
        default=parameter.default,
        unit=parameter.unit,
    )


def _importance(study: Study, rows: Sequence[Row]) -> Importance:
    """Return the mean share of each hyperparameter, with an interval from bootstraps."""
    draws, trials = study.shares(), len(ranked(rows, study.objective))
    if not draws:
        return Importance(
            trials=trials, warning=f"{counted(trials, 'trial')} with a value: too few"
        )
    found = {name: np.array([draw.get(name, 0.0) for draw in draws]) for name in draws[0]}
    shares = {
        name: Share(
            mean=float(values.mean()),
            low=float(np.quantile(values, 0.05)),
            high=float(np.quantile(values, 0.95)),
        )
        for name, values in found.items()
    }
    wanted = PER_PARAMETER * len(shares)
    what = f"{counted(trials, 'trial')} for {counted(len(shares), 'hyperparameter')}"
    few = f"{what}: below {wanted} this is mostly chance"
    return Importance(
        shares=dict(sorted(shares.items(), key=lambda item: -item[1].mean)),
        trials=trials,
        method=f"PED-ANOVA (arXiv 2304.10255), mean and 90 % interval of {len(draws)} bootstraps",
        warning=few if trials < wanted else "",
    )


def _mixtures(plan: Plan, study: Study, rows: Sequence[Row]) -> Mixtures | None:
    """Return examples of the best trial's generator, from its checkpoint.

    `None` without a checkpoint, a generator, or the code of the model.
    """
    for row in ranked(rows, study.objective)[:1]:
        method, seed = plan.experiment.method, int(study.config(row["trial"])["seed"])
        given = {name: value for name, value in hyperparameters(row).items() if value is not None}
        state = latest(plan.checkpoints, trial_name(row["trial"]), identity(method, given, seed))
        if state is None or not issubclass(METHODS[method], MixUnlearn):
            return None
        try:
            # On the CPU: the driver's machine may have no GPU.
            trial = Trial(plan.problem(), method, given, seed, torch.device("cpu"))
        except InputError:  # the model's module is not installed here
            return None
        trial.load_state_dict(state["trial"])
        assert isinstance(trial.method, MixUnlearn)
        return _demonstrated(trial.method, plan) if trial.method.mixing == "mixblock" else None
    return None


def _demonstrated(method: MixUnlearn, plan: Plan) -> Mixtures:
    context, names = method.context, np.array(plan.dataset.classes)
    rng = np.random.default_rng(seed_for("mixtures", plan.experiment.search.seed))
    forget_B = torch.from_numpy(rng.integers(len(context.forget), size=MANY))
    retain_B = torch.from_numpy(rng.integers(len(context.retain), size=MANY))
    # The pairs that are shown go through the range of λ; the others repeat it.
    lam_B = torch.linspace(0.1, 0.9, PAIRS).repeat(-(-MANY // PAIRS))[:MANY]
    masks, mixed = method.demonstrate(forget_B, retain_B, lam_B)
    labels = plan.dataset.labels_N
    forget_classes = labels[plan.splits.forget_N][forget_B]
    retain_classes = labels[plan.splits.retain_N][retain_B]
    means = {k: masks[torch.from_numpy(retain_classes == k)].mean(0) for k in set(retain_classes)}
    return Mixtures(
        forget=_pixels(context.forget.batch(forget_B[:PAIRS])),
        retain=_pixels(context.retain.batch(retain_B[:PAIRS])),
        mixed=_pixels(mixed[:PAIRS]),
        masks=masks[:PAIRS].numpy(),
        lams=lam_B[:PAIRS].numpy(),
        forget_classes=list(names[forget_classes[:PAIRS]]),
        retain_classes=list(names[retain_classes[:PAIRS]]),
        mean_masks=np.stack([means[k].numpy() for k in sorted(means)]),
        mean_classes=list(names[sorted(means)]),
    )


def _pixels(images_BCHW: torch.Tensor) -> Any:  # noqa: ANN401 - an array
    return (images_BCHW * PIXEL_MAX).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _model(plan: Plan) -> str:
    """Return the name of the model; weights by their digest, because a path may be private."""
    parts = [plan.experiment.model.name]
    if plan.pretrained:
        parts.append(f"from pretrained weights {plan.pretrained.digest}")
    if plan.own:
        parts.append(f"the original is the user's own: {plan.own.digest}")
    return ", ".join(parts)


def _recipe(plan: Plan) -> str:
    """Return how references are trained, in words."""
    if plan.own_recipe:
        return f"trained by {plan.own_recipe.function}, digest {plan.own_recipe.digest}"
    return plan.experiment.references.chosen.words


def _facts(plan: Plan) -> dict[str, str]:
    experiment, splits = plan.experiment, plan.splits
    shape = "×".join(map(str, plan.dataset.images_NCHW.shape[1:]))
    references, resources = experiment.references, experiment.resources
    return {
        "data": f"{experiment.data.source}, images of {shape}, digest {plan.dataset.digest}",
        "forget set": plan.forget_set,
        "retain set": counted(len(splits.retain_N), "image"),
        "held out": f"{counted(len(splits.val_N), 'image')} for val, {len(splits.test_N)} for test",
        "splits": splits.key,
        "model": _model(plan),
        "references": f"{references.seeds}, {_recipe(plan)}",
        "method": f"{experiment.method}, label-{experiment.labels}",
        "search": f"{experiment.search.sampler} + {experiment.search.scheduler}, at most "
        f"{counted(experiment.search.epochs, 'epoch')}, seed {experiment.search.seed}",
        "resources of a trial": f"{resources.cpu:g} CPU, {resources.gpu:g} GPU",
        "code": code_version(),
        "packages": ", ".join(
            f"{name} {version(name)}" for name in ("torch", "ray", "optuna", "mlflow", "numpy")
        ),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }


def _commands(plan: Plan) -> dict[str, str]:
    home = _home(plan)
    return {
        "resume": _resume(plan),
        "run a trial again and compare": f"mixunlearn rerun {plan.study}/TRIAL{home}",
        "this report": f"mixunlearn report {plan.study}{home}",
        "the table": f"mixunlearn export {plan.study} --format csv{home}",
        "MLflow's pages": f"mixunlearn ui{home}",
        "rebuild table and MLflow": f"mixunlearn sync {plan.study}{home}",
    }


def _home(plan: Plan) -> str:
    """Return the option that a command needs to find the home; empty for the default home."""
    return "" if plan.home == USUAL_HOME else f" {shlex.join(['--home', str(plan.home)])}"


def _resume(plan: Plan) -> str:
    file = shlex.quote(str(plan.study_folder.experiment))
    return f"mixunlearn sweep {file}{_home(plan)}"


def _warnings(plan: Plan, summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield reasons to be careful with the verdict."""
    yield from cautions(plan)
    for count, what in ((plan.originals, "original"), (plan.references.references, "reference")):
        if count < ENOUGH:
            yield f"Only {counted(count, what)}: how models vary is uncertain, so is the verdict."
    # `val` and `test` measure on one half of the forget set each.
    images = len(plan.splits.forget_N) // 2
    if images < FEW_IMAGES:
        few = counted(images, "forgotten image")
        yield f"Only {few} in each phase: the attack's success is noisy."
    best = next(iter(summary.get("best") or []), None)
    if best is None:
        return
    failed = summary["trials"]["failed"]
    if failed:
        remedy = "the table shows why, --retry-failed runs again what failed"
        yield f"{counted(failed, 'trial')} failed; {remedy}."
    far = [name for name in summary["metrics"] if abs(best.get(f"z/{name}") or 0.0) > FAR]
    if far and has_scores(summary):
        yield f"The winner is more than {FAR:g} sd from the references in {', '.join(far)}."
    yield from _timing(summary)


def _timing(summary: Mapping[str, Any]) -> Iterator[str]:
    if how := timing(summary):
        yield how
    alone = (summary.get("spread") or {}).get("time/ratio_to_retrain") or {}
    if (alone.get("mean") or 0.0) > 1:
        yield "Unlearning took longer than retraining: a model this small can just be retrained."


def _source(thing: object) -> str:
    """Return the publication that a docstring names after "Source: "."""
    _, _, rest = cleandoc(thing.__doc__ or "").partition("Source: ")
    return " ".join(rest.partition("\n\n")[0].split())
