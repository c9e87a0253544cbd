"""What commands print."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from distributed.cli.options import Outcome
from mixunlearn.wording import counted

if TYPE_CHECKING:
    from distributed.plan.plan import Plan
    from distributed.rerun.rerun import Reproduction


QUICK = 2**30  # bytes of images that are looked through for duplicates in D_r as well


def console() -> Console:
    """Return where results are printed: standard output."""
    return Console(highlight=False)  # Rich would colour every number and path


def announcement(plan: "Plan") -> list[str]:
    """Return what the command is going to do, one line for each part."""
    from distributed.plan.cautions import cautions

    experiment, splits, references = plan.experiment, plan.splits, plan.references
    shape = "×".join(map(str, plan.dataset.images_NCHW.shape[1:]))
    sizes = {
        part: len(getattr(splits, f"{part}_N")) for part in ("forget", "retain", "val", "test")
    }
    parts = ", ".join(f"{size} {part}" for part, size in sizes.items())
    # The user's own model needs no training, and so is never counted.
    trained = sum(not references.is_own(each) for each in references.members)
    missing = sum(not references.is_own(each) for each in references.missing())
    search = experiment.search
    return [
        f"study       {plan.study} in {plan.folder}",
        f"data        {experiment.data.source}, images of {shape}, {len(plan.dataset.classes)} "
        f"classes: {parts}",
        f"forget      {plan.forget_set}",
        f"models      {counted(plan.originals, 'original')}{_own(plan)} and "
        f"{counted(references.references, 'reference')} of "
        f"{experiment.model.name}: "
        f"{missing} to train, {trained - missing} cached",
        *(f"warning     {caution}" for caution in cautions(plan)),
        *(f"warning     {line}" for line in duplicates(plan)),
        f"trials      {plan.trials} of {experiment.method} (label-{experiment.labels}), at "
        f"most {counted(search.epochs, 'epoch')}, {search.sampler} + {search.scheduler}, "
        f"minimising {search.objective} on val; {plan.workers}{_repeated(plan)}",
    ]


def duplicates(plan: "Plan") -> list[str]:
    """Return one sentence for each two parts that have images with the same pixels."""
    from mixunlearn.data.duplicates import shared

    parts = {part: getattr(plan.splits, f"{part}_N") for part in ("forget", "val", "test")}
    if plan.dataset.images_NCHW.nbytes <= QUICK:
        parts = {"forget": parts.pop("forget"), "retain": plan.splits.retain_N, **parts}
    return [
        f"{one} and {other} share pixels: {counted(count, 'image')} of {one} "
        f"{'is' if count == 1 else 'are'} in {other} as well"
        for (one, other), count in shared(plan.dataset, parts).items()
    ]


def _own(plan: "Plan") -> str:
    """Return which original is the user's own model, if one is."""
    if plan.own is None:
        return ""
    return f" (the first is your own model, {plan.own.source}, {plan.own.digest[:12]})"


def _repeated(plan: "Plan") -> str:
    """Return that the space has fewer configurations than there are trials, if it is so."""
    if plan.trials < plan.experiment.search.trials:
        return "; more would repeat it: the method has no hyperparameters"
    size = plan.space.size(plan.facts)
    if size >= plan.trials:
        return ""
    return f"; only {counted(int(size), 'configuration')}, tried again under other seeds"


def others(plan: "Plan") -> list[str]:
    """Return one line for each study that has the same name but other settings."""
    from distributed.plan.make import earlier

    return [
        f"            a new study: {name} has other settings ({', '.join(keys) or 'other data'})"
        for name, keys in earlier(plan)
    ]


def _disk(plan: "Plan") -> dict[str, int]:
    """Return the maximal size of each part of a study, in bytes."""
    from distributed.plan.disk import estimate

    return estimate(plan, plan.slots)


def in_words(work: Mapping[str, int | None]) -> str:
    """Return how many images pass through models, as a line of a plan."""
    training, trials = work["training"], work["trials"]
    unlearned = f"at most {trials:,} in trials"
    if training is None:
        return f"work        images: {unlearned}; your own training is not counted"
    return f"work        images: {training:,} to train models, {unlearned}"


def images_of_work(*plans: "Plan") -> dict[str, int | None]:
    """Return how many images are trained on: by missing models (`None`: unknown), and by trials.

    Each image counts once an epoch, and a model that several plans share counts once. With a
    measured rate (images/s), that is the time of a sweep or of a comparison.
    """
    trained: dict[str, int] = {}
    for plan in plans:
        trained |= _images_of_models(plan)
    unknown = any(plan.own_recipe for plan in plans)
    return {
        "training": None if unknown else sum(trained.values()),
        "trials": sum(_images_of_trials(plan) for plan in plans),
    }


def _images_of_models(plan: "Plan") -> dict[str, int]:
    """Return how many images train each missing model, by its key in the store."""
    references, splits = plan.references, plan.splits
    if plan.own_recipe:
        return {}
    forget, retain = len(splits.forget_N), len(splits.retain_N)
    epochs = references.recipe.epochs
    return {
        references.key(each): epochs * (retain + forget * (each.role == "original"))
        for each in references.missing()
        if not references.is_own(each)
    }


def _images_of_trials(plan: "Plan") -> int:
    from mixunlearn.methods import METHODS

    passes_over = METHODS[plan.experiment.method].passes_over
    forget, retain = len(plan.splits.forget_N), len(plan.splits.retain_N)
    return plan.trials * plan.epochs * (forget if passes_over == "forget" else retain)


def print_plan(plan: "Plan") -> Outcome:
    """Print the plan and the resolved experiment."""
    from distributed.plan.plan import as_yaml
    from distributed.plan.proxies import announcement as of_proxies
    from distributed.plan.proxies import to_retrain

    disk = _disk(plan)
    parts = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in disk.items())
    total = sum(disk.values()) / 2**20
    for line in (*announcement(plan), *of_proxies(plan), *others(plan)):
        console().print(line, soft_wrap=True)
    work = images_of_work(plan)
    console().print(in_words(work), soft_wrap=True)
    console().print(f"disk        at most {total:.0f} MiB: {parts}", soft_wrap=True)
    console().print(f"\n{as_yaml(plan.published)}", soft_wrap=True)
    missing = [
        f"{member.role} {member.seed}"
        for member in plan.references.missing()
        if not plan.references.is_own(member)
    ]
    result = {
        "study": plan.study,
        "folder": str(plan.folder),
        "models_to_train": missing,
        "proxies_to_train": to_retrain(plan),
        "images_of_work": work,
        "disk_bytes": disk,
        "experiment": plan.published,
        "default": plan.default,
    }
    return Outcome(result=result)


def print_tables(summary: dict[str, Any]) -> None:
    """Print the tables of a study, and what its proxies predict."""
    from report.tables import summary_table

    out = console()
    out.print(summary_table(summary))
    if line := _prediction(summary):
        out.print(f"\nnext request: {line}", soft_wrap=True)
    out.print()


def _prediction(summary: dict[str, Any]) -> str:
    """Return what proxies predict, in a sentence; empty without proxies."""
    if not summary.get("proxies"):
        return ""
    from report.prediction import prediction_line  # SciPy takes a while

    return prediction_line(summary)


def print_references(plan: "Plan", trained: int) -> Outcome:
    """Print the metrics of the references on `test`."""
    from distributed.search.summary import reference_values

    table = Table("metric", "mean", "sd", "n", title=f"references of {plan.experiment.name}, test")
    metrics: dict[str, Any] = {}
    own = plan.references.evaluator("test").references
    for name in [*own.evaluations[0].metrics, "div/js"]:
        found = metrics[name] = reference_values(own, name)
        cells = ["–" if found[key] is None else f"{found[key]:.2f}" for key in ("mean", "sd")]
        table.add_row(name, *cells, str(found["n"]))
    console().print(table)
    keys = {
        f"{member.role} {member.seed}": plan.references.key(member)
        for member in plan.references.members
    }
    return Outcome(result={"trained": trained, "models": keys, "references": metrics})


def print_comparison(found: "Reproduction") -> None:
    """Print the metrics in which a rerun differs from its trial, and the verdict."""
    table = Table("metric", "then", "now", "difference", "references' sd", "")
    for name, pair in found.differing.items():
        numbers = (pair.then, pair.now, pair.difference, pair.spread)
        cells = ["–" if number is None else f"{number:.6g}" for number in numbers]
        table.add_row(name, *cells, "" if pair.within else "more")
    if found.differing:
        console().print(table)
    which = f"{found.recorded.study}, trial {found.recorded.trial}"
    # No markup: errors may contain brackets, which rich would read as styles.
    console().print(f"{which}: {found.verdict}", soft_wrap=True, markup=False)


def data_title(result: dict[str, Any]) -> str:
    """Return the title of the table of a data set."""
    shape = "×".join(map(str, result["shape"]))
    images = counted(result["images"], "image")
    return f"{result['source']}: {images} of {shape}, digest {result['digest'][:12]}"
