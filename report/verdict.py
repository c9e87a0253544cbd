"""A study's verdict on `test`, by configuration, as pages and papers show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixunlearn.plain import finite
from report.notation import difference, mean_and_sd, score, three_digits, unit
from report.report_data import ReportData
from report.tables import BESIDE

FAR = 3.0  # a metric that is farther from the references' mean, in their sd, is mentioned
NONE_SUCCEEDED = "No trial has a result."
UNDECIDED = "There is no verdict yet: the sweep writes one when its last trial has ended."


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric of one configuration, as text; empty if there is no value.

    Args:
        value: the metric, or its `mean ± sd (n)`.
        gap: distance to the references' mean.
        z: signed distance in the references' sd.
    """

    value: str
    gap: str
    z: str


@dataclass(frozen=True, kw_only=True)
class TestedModel:
    """A measured model and its scores.

    Args:
        name: what it is, for example "best 1".
        detail: which one, for example "trial 7".
        values: its metrics: numbers or distributions.
    """

    name: str
    detail: str
    values: Mapping[str, Any]

    def cell(self, metric: str) -> Cell:
        """Return one of its metrics as text."""
        value = self.values.get(metric)
        gap, z = (_number(self.values.get(f"{kind}/{metric}")) for kind in ("gap", "z"))
        return Cell(
            value=mean_and_sd(value) if isinstance(value, Mapping) else three_digits(value),
            gap="" if gap is None else difference(gap),
            z="" if z is None else score(z),
        )


def configurations(summary: Mapping[str, Any]) -> list[TestedModel]:
    """Return references, original, default, the best trials and the winner's fresh seeds."""
    references, default = summary.get("references") or {}, summary.get("default") or {}
    spread = summary.get("spread") or {}
    found = [
        TestedModel(name="references", detail="retrained", values=references),
        TestedModel(name="original", detail="untouched", values=summary.get("original") or {}),
    ]
    if default:
        trial = f"trial {default.get('trial', 0)}"
        found.append(TestedModel(name="default", detail=trial, values=default))
    found.extend(
        TestedModel(name=f"best {rank}", detail=f"trial {best['trial']}", values=best)
        for rank, best in enumerate(summary.get("best") or [], start=1)
    )
    if spread:
        detail = f"trial {spread['trial']} again"
        found.append(TestedModel(name="fresh seeds", detail=detail, values=spread))
    return found


def metrics(summary: Mapping[str, Any]) -> list[str]:
    """Return the metrics to show: first those of the average gap, then others with a value."""
    known = [configuration.values for configuration in configurations(summary)]
    beside = [name for name in BESIDE if any(values.get(name) is not None for values in known)]
    return [*(summary.get("gap_metrics") or ()), *beside]


def with_unit(metric: str) -> str:
    """Return a metric's name with its unit."""
    return f"{metric} ({unit(metric)})" if unit(metric) else metric


def headline(report_data: ReportData) -> str:
    """Return what won, by how much, and whether it can be distinguished from retraining."""
    summary = report_data.summary
    if not summary.get("best"):
        return NONE_SUCCEEDED if summary.get("trials") else UNDECIDED
    best = summary["best"][0]
    spread, references = summary.get("spread") or {}, summary.get("references") or {}
    again = spread.get("gap/avg")
    gap = f"{three_digits(best.get('gap/avg'))} percentage points"
    if again:
        # The winner's own gap is the best of many and so partly luck; that of fresh seeds is not.
        gap = f"{mean_and_sd(again)} percentage points under fresh seeds"
    trials = len(report_data.rows)
    return (
        f"Trial {best['trial']} of {trials} is nearest to retraining: its average gap "
        f"on test is {gap}{_compared(summary)}. {_judgement(again, references.get('gap/avg'))}"
        f"{_otherwise(summary)}"
    )


def within(again: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> bool | None:
    """Return whether a gap under fresh seeds is within the references' own; `None`: unknown."""
    mean, values = finite((again or {}).get("mean")), (own or {}).get("values") or ()
    # The largest: a retrained model itself is that far from the others.
    return None if mean is None or not values else mean <= max(values)


def _compared(summary: Mapping[str, Any]) -> str:
    named = {"the default's": summary.get("default"), "the original's": summary.get("original")}
    parts = [
        f"{name} {three_digits(values['gap/avg'])}"
        for name, values in named.items()
        if values and finite(values.get("gap/avg")) is not None
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _judgement(again: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> str:
    verdict = within(again, own)
    if verdict is None:
        return "The references' own spread is unknown, so it is unknown whether this is close."
    spread = f"the references are {mean_and_sd(own)} from each other"
    if verdict:
        return f"These metrics cannot distinguish it from a retrained model: {spread}."
    return f"That is farther than retrained models are from each other: {spread}."


def _otherwise(summary: Mapping[str, Any]) -> str:
    """Return in which metrics, except the average gap, the winner is far from the references."""
    best = summary["best"][0]
    scores = {name: finite(best.get(f"z/{name}")) for name in BESIDE}
    # Not the metrics of the average gap: that one has judged them already.
    far = {name: z for name, z in scores.items() if z is not None and abs(z) > FAR}
    named = ", ".join(f"{name} {score(z)} sd" for name, z in far.items())
    return f" In other metrics it is not like them: {named}." if far else ""


def _number(value: object) -> float | None:
    return finite(value.get("mean") if isinstance(value, Mapping) else value)


def sample(distribution: Mapping[str, Any] | None) -> Sequence[str]:
    """Return the single values of a distribution."""
    return [three_digits(value) for value in (distribution or {}).get("values") or ()]
