"""The protocol of the evidence: what it is about, and what it costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distributed.evidence.contenders import Contender
from distributed.evidence.forget_sets import ForgetSet, forget_sets
from distributed.evidence.profiles import Profile
from distributed.plan.plan import Plan
from mixunlearn.wording import counted


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What evidence is collected about, and how.

    Args:
        name: of the evidence; a folder of this name in HOME/evidence keeps it.
        contenders: tuned methods, all on the same data, task and model; at least one.
        forget_sets: those on which they are measured.
        left_out: forget sets that are not used, with the reason.
        profile: the numbers of models.
        profile_name: its name.
        command: the command that collects the evidence.
    """

    name: str
    contenders: Sequence[Contender]
    forget_sets: Sequence[ForgetSet]
    left_out: Sequence[str]
    profile: Profile
    profile_name: str
    command: str

    @property
    def plan(self) -> Plan:
        """Return the plan of the first contender; data, task and model are those of all."""
        return self.contenders[0].plan

    @property
    def root(self) -> Path:
        """Return the folder of the evidence, which all profiles share."""
        return self.plan.home / "evidence" / self.name

    @property
    def folder(self) -> Path:
        """Return the folder of the profile's files."""
        return self.root / self.profile_name

    @property
    def content(self) -> dict[str, Any]:
        """Return what determines which models are looked at."""
        return {
            "profile": asdict(self.profile),
            "forget_sets": [each.splits.key for each in self.forget_sets],
            "contenders": [each.content for each in self.contenders],
        }


def announcement(
    plans: Mapping[str, Plan], profile: Profile, beside: Sequence[Plan] = ()
) -> Iterator[str]:
    """Yield what the evidence about some studies is going to cost, one line for each part.

    Args:
        plans: name of each contender -> plan of its study.
        profile: the numbers of models.
        beside: plans of all studies that are searched before the evidence is collected.

    Raises:
        InputError: there is no forget set that no search has seen.
    """
    plan = next(iter(plans.values()))
    sets, left_out = forget_sets(plan, profile.forget_sets, beside)
    yield f"tuned on    {plan.forget_set}"
    for each in sets:
        yield f"measured on {each.name}: {each.splits.words(plan.dataset.classes)}"
    yield from (f"left out    {reason}" for reason in left_out)
    of_sets = [each.plan(plan, profile).references for each in sets]
    # By key: forget sets share their originals. Who is trained may still have to be evaluated.
    missing = {
        each.key(member)
        for each in of_sets
        for member in each.missing()
        if not each.trained(member)
    }
    train = f"{counted(profile.originals, 'original')} and {len(sets)} × {profile.references} "
    yield f"models      {train}references: {len(missing)} to train{_time(plan, len(missing))}"
    runs = len(sets) * profile.originals * len(plans)
    yield f"unlearning  {counted(runs, 'run')} of {', '.join(plans)}"


def _time(plan: Plan, models: int) -> str:
    """Return how long trainings will take on one worker, from those of the search."""
    references = plan.references
    known = [references.seconds(each) for each in references.members if references.trained(each)]
    if not known or not models:
        return ""
    return f", about {np.mean(known) * models / 60:.0f} minutes of one worker"
