"""A study's verdict on `test`, by configuration, as pages and papers show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mixunlearn.evidence.states import BETTER, EQUIVALENT, HARMFUL, NO_BETTER
from mixunlearn.plain import finite
from mixunlearn.wording import counted
from report.notation import difference, mean_and_sd, score, three_digits, unit

FAR = 3.0  # a metric that is farther from the references' mean, in their sd, is mentioned
SHOWN = 3  # earlier looks at `test` in the headline; summary.json has all
ENOUGH = 5  # models; the sd of fewer is too uncertain to be a unit
# Shown after the metrics that make up the average gap, if a summary has them.
TIME, RATIO, AT_ONCE = "time/unlearn_s", "time/ratio_to_retrain", "time/at_once"
IMAGES = "cost/ratio_to_retrain"
BESIDE = ("div/js", "gap/avg", TIME, RATIO, IMAGES)
# The look of a verdict in a page; undecided, or none, has the look "".
STYLES = {EQUIVALENT: "within", BETTER: "partly", NO_BETTER: "beyond", HARMFUL: "beyond"}
REASONS = ("Metrics", "Doing nothing", "Cost")  # what the reasons of a verdict are about, in order
NONE_SUCCEEDED = "No trial has a result."
NOT_YET = "There is no verdict yet: the sweep writes one when its last trial has ended."
EARLIER = "This study was judged by an earlier version: run its sweep again for a verdict."


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
        scored: whether z is shown.
    """

    name: str
    detail: str
    values: Mapping[str, Any]
    scored: bool = True

    def cell(self, metric: str) -> Cell:
        """Return one of its metrics as text."""
        value = self.values.get(metric)
        gap, z = (_number(self.values.get(f"{kind}/{metric}")) for kind in ("gap", "z"))
        return Cell(
            value=mean_and_sd(value) if isinstance(value, Mapping) else three_digits(value),
            gap="" if gap is None else difference(gap),
            z=score(z) if self.scored and z is not None else "",
        )


def configurations(summary: Mapping[str, Any]) -> list[TestedModel]:
    """Return references, original, default, the best trials and the winner's fresh seeds.

    The default is listed once: if it is among the best, there.
    """
    references, default = summary.get("references") or {}, summary.get("default") or {}
    spread = summary.get("spread") or {}
    found = [
        TestedModel(name="references", detail="retrained", values=references),
        TestedModel(
            name="original",
            detail=original_detail(summary),
            values=summary.get("original") or {},
        ),
    ]
    ranked, first = summary.get("best") or [], default.get("trial", 0)
    if default and first not in [best["trial"] for best in ranked]:
        found.append(TestedModel(name="default", detail=f"trial {first}", values=default))
    found.extend(
        TestedModel(
            name=f"best {rank}",
            detail=f"trial {best['trial']}" + (", the default" if best["trial"] == first else ""),
            values=best,
        )
        for rank, best in enumerate(ranked, start=1)
    )
    if spread:
        detail = f"trial {spread['trial']} again"
        found.append(TestedModel(name="fresh seeds", detail=detail, values=spread))
    scored = has_scores(summary)
    return [replace(each, scored=scored) for each in found]


def original_detail(summary: Mapping[str, Any]) -> str:
    """Return which original a search has worked with, in words."""
    return "your own model" if summary.get("own") else "untouched"


def has_scores(summary: Mapping[str, Any]) -> bool:
    """Return whether there are enough references for z, the distance in their sd."""
    counts = [int(each.get("n", 0)) for each in (summary.get("references") or {}).values() if each]
    return max(counts, default=0) >= ENOUGH


def metrics(summary: Mapping[str, Any]) -> list[str]:
    """Return the metrics to show: first those of the average gap, then others with a value."""
    known = [configuration.values for configuration in configurations(summary)]
    beside = [name for name in BESIDE if any(values.get(name) is not None for values in known)]
    return [*(summary.get("gap_metrics") or ()), *beside]


def with_unit(metric: str) -> str:
    """Return a metric's name with its unit."""
    return f"{metric} ({unit(metric)})" if unit(metric) else metric


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A study's verdict in its parts.

    Args:
        state: the verdict; empty without one.
        about: which trial was judged, or, without a verdict, why there is none.
        cautions: why not to rely on it, one sentence each.
        reasons: in the order of `REASONS`, one or more sentences each.
        looks: how often the study was judged, unless this is the first time.
    """

    state: str
    about: str
    cautions: Sequence[str] = ()
    reasons: Sequence[str] = ()
    looks: Sequence[str] = ()


def statement(summary: Mapping[str, Any]) -> Statement:
    """Return the verdict of a study's summary."""
    if not summary.get("best"):
        return Statement(state="", about=NONE_SUCCEEDED if summary.get("trials") else NOT_YET)
    verdict = summary.get("verdict")
    if not verdict:
        return Statement(state="", about=EARLIER)
    trials = sum((summary.get("trials") or {}).values())
    return Statement(
        state=str(verdict["state"]),
        about=f"Trial {summary['best'][0]['trial']} of {trials}",
        cautions=list(summary.get("cautions") or ()),
        reasons=[f"{capitalised(reason)}." for reason in verdict["reasons"]],
        looks=_looks(verdict),
    )


def headline(summary: Mapping[str, Any]) -> str:
    """Return the verdict in words, with its reasons."""
    said = statement(summary)
    if not said.state:
        return said.about
    doubts = (f"Warning: {caution}" for caution in said.cautions)
    return " ".join((f"{said.about} is {said.state}.", *doubts, *said.reasons, *said.looks))


def sentence(summary: Mapping[str, Any]) -> str:
    """Return the verdict in one sentence, without its reasons."""
    said = statement(summary)
    return f"{said.about} is {said.state}." if said.state else said.about


def style(state: str) -> str:
    """Return the look of a verdict in a page: "within", "partly", "beyond", or "" if undecided."""
    return STYLES.get(state, "")


def capitalised(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return f"{text[:1].upper()}{text[1:]}"


def _looks(verdict: Mapping[str, Any]) -> Sequence[str]:
    """Return how often the study was judged, unless this is the first time."""
    earlier = verdict.get("earlier") or ()
    if not earlier:
        return ()
    before = "; ".join(
        f"{look['state']} (trial {look['trial']}, {counted(look['originals'], 'original')}, "
        f"{counted(look['references'], 'reference')})"
        for look in earlier[-SHOWN:]
    )
    dots = "…; " * (len(earlier) > SHOWN)
    return (f"This is look {verdict['looks']} at test; the earlier ones: {dots}{before}.",)


def timing(summary: Mapping[str, Any]) -> str:
    """Return how the times to unlearn were measured, if not with the device to itself; else ""."""
    tested = [*(summary.get("best") or ()), summary.get("default") or {}]
    marks = [_number(each.get(AT_ONCE)) for each in (*tested, summary.get("references") or {})]
    most = max((mark for mark in marks if mark is not None), default=1)
    if most <= 1:
        return ""
    shared = f"Times were measured with up to {most:.0f} trials at once"
    again = (summary.get("spread") or {}).get(RATIO)
    if not again:
        return f"{shared}, so they are not compared with that of retraining."
    alone = "of the fresh seeds had the device to itself, as a retraining beside it"
    return f"{shared}; {again['n']} {alone}: only these two times are compared."


def state(summary: Mapping[str, Any]) -> str:
    """Return the verdict's state; empty if there is no verdict."""
    return str((summary.get("verdict") or {}).get("state", ""))


def verdict_of(summary: Mapping[str, Any], trial: int) -> str | None:
    """Return the verdict's state if it is about this trial."""
    judged = (summary.get("spread") or {}).get("trial")
    return (state(summary) or None) if judged == trial else None


def _number(value: object) -> float | None:
    return finite(value.get("mean") if isinstance(value, Mapping) else value)


def sample(distribution: Mapping[str, Any] | None) -> Sequence[str]:
    """Return the single values of a distribution."""
    return [three_digits(value) for value in (distribution or {}).get("values") or ()]
