"""Whether a night is news."""

from distributed.config.notices import When
from distributed.nightly.records import NightRecord


def due(when: When, now: NightRecord, before: NightRecord | None) -> bool:
    """Return whether notices of a night are due.

    There is news if the night failed or regressed, or if the verdict on it, or on one of its
    experiments, differs from the night before. A night that failed has no verdict, so the first
    night after it is news as well.

    Args:
        when: "news" or "always", as in the plan.
        now: record of the night.
        before: record of the night before; `None`: there was none.
    """
    if when == "always" or now.state == "failed" or now.verdict == "regressed":
        return True
    return before is None or _verdicts(now) != _verdicts(before)


def _verdicts(night: NightRecord) -> dict[str | None, str | None]:
    """Return the verdict on a night, under None, and on each of its experiments."""
    if night.state == "failed":
        return {}
    found: dict[str | None, str | None] = {None: night.verdict}
    found.update((each.name, each.verdict) for each in night.experiments)
    return found
