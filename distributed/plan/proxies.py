"""Proxies: random forget sets like that of the task, which tell what to expect of others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distributed.plan.plan import Plan
from distributed.plan.requirements import require_measurable
from mixunlearn.errors import InputError
from mixunlearn.references import ReferenceStore
from mixunlearn.splits import Splits, other_splits, unsearched
from mixunlearn.wording import counted

KEY = "references.proxies"
# References of a search and of the evidence have lower seeds: no proxy shares a start with them.
FIRST_SEED = 2000


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A random forget set of the same size and kind, which shares no image with the task's own.

    Args:
        number: from 0; the same number is always the same forget set.
        splits: the parts of the data; they differ from the task's in what is forgotten.
        references: a store with one reference, and no original: those of the study are unlearned.
        original: number of the original that is unlearned.
    """

    number: int
    splits: Splits
    references: ReferenceStore
    original: int


def proxies(plan: Plan) -> list[Proxy]:
    """Return the proxies that the experiment asks for.

    Raises:
        InputError: there are not so many, or the kind of task has none.
    """
    found = []
    for number in range(plan.experiment.references.proxies):
        splits = _splits(plan, number)
        references = replace(
            plan.references,
            splits=splits,
            references=1,
            originals=0,
            own=None,
            first_reference=FIRST_SEED + number,
        )
        # A request is about the user's own model, so nothing else is unlearned for a prediction.
        original = 0 if plan.own else number % plan.originals
        found.append(Proxy(number=number, splits=splits, references=references, original=original))
    return found


def to_retrain(plan: Plan) -> int:
    """Return how many proxies have no reference yet."""
    return sum(bool(each.references.missing()) for each in proxies(plan))


def require_proxies(plan: Plan) -> None:
    """Check that there are as many proxies as the experiment asks for, and that all are measurable.

    Raises:
        InputError: there are not, or they are not.
    """
    wanted = plan.experiment.references.proxies
    if wanted and plan.dataset is not plan.source:
        kind = plan.experiment.task.kind
        remedy = f"a {kind} task changes its images, so each proxy would need its own originals"
        raise InputError(KEY, wanted, f"{remedy}; leave it out")
    for each in proxies(plan):
        require_measurable(replace(plan, splits=each.splits))


def _splits(plan: Plan, number: int) -> Splits:
    wanted = plan.experiment.references.proxies
    try:
        found = other_splits(plan.source, plan.splits, number + 1, seed=plan.experiment.data.seed)
    except InputError as error:
        if not number:
            raise InputError(KEY, wanted, f"{error.remedy}; leave it out") from error
        there = counted(number, "other forget set")
        remedy = f"only {there} of this size and kind, without a common image; ask for at most that"
        raise InputError(KEY, wanted, remedy) from error
    # As requests are measured, which they predict: no search looks at them either.
    return unsearched(found)


def announcement(plan: Plan) -> Sequence[str]:
    """Return what a sweep is going to do for the proxies, as a line; none without proxies."""
    count = plan.experiment.references.proxies
    if not count:
        return []
    missing = to_retrain(plan)
    models = f"{counted(missing, 'more model')} to train, {count - missing} cached"
    return [
        f"proxies     {counted(count, 'random forget set')} of the same size and kind: "
        f"{models}{_seconds(plan, missing)}"
    ]


def _seconds(plan: Plan, count: int) -> str:
    """Return how long the trainings take one after another, if a reference says so."""
    references = plan.references
    trained = [each for each in references.all_references if references.trained(each)]
    if not trained or not count:
        return ""
    known = [references.seconds(each) for each in trained]
    return f"; about {count * sum(known) / len(known):.0f} s of training"
