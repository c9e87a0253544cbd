"""Known causes of a change: what differs from the night before."""

from collections.abc import Mapping
from typing import Any

from distributed.nightly.records import NightRecord, PartRecord

SOFTWARE = ("code", "changes", "python", "platform", "cpu", "gpus")


def causes(record: NightRecord, last: NightRecord | None, part: PartRecord) -> list[str]:
    """Return how code, machine, packages, data, recipe and champion differ from the night before.

    Args:
        record: record of the night.
        last: record of the night before; `None`: there is none.
        part: the experiment's part of `record`.
    """
    then = last.part(part.name) if last else None
    # An experiment that is new in the plan has nothing to differ from.
    if last is None or then is None:
        return []
    return [*_environment(record.environment, last.environment), *_problem(part, then)]


def _environment(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    packages, others = new.get("packages", {}), old.get("packages", {})
    software = [
        f"{name}: {old.get(name)} → {new.get(name)}"
        for name in SOFTWARE
        if old.get(name) != new.get(name)
    ]
    return software + [
        f"package {name}: {others.get(name, 'none')} → {packages.get(name, 'none')}"
        for name in sorted({*packages, *others})
        if packages.get(name) != others.get(name)
    ]


def _problem(now: PartRecord, then: PartRecord) -> list[str]:
    """Return how data, recipe, experiment and champion differ."""
    values = {
        "data digest": (then.data, now.data),
        "training recipe": (then.recipe, now.recipe),
        # The base: a renewal changes the study that is searched, not the experiment.
        "experiment": (then.base, now.base),
    }
    found = [
        f"{what}: {str(old)[:12]} → {str(new)[:12]}"
        for what, (old, new) in values.items()
        if old != new
    ]
    # By key: the same configuration in another trial or version is the same champion.
    old, new = (each.champion.key if each.champion else None for each in (then, now))
    return found + [f"champion: {old} → {new}"] * (old != new)
