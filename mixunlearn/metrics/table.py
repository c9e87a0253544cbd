"""The table of all metrics: unit, direction and resolution.

A metric is named `group/metric`. A key that ends with a slash stands for all metrics of a group
that are not listed separately.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mixunlearn.tasks.written import own_groups

AVERAGE = "gap/avg"
AREA = "_auc"  # last part of the name of an area under a curve, in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Properties of a metric that do not depend on the model.

    Args:
        unit: "%", "pp", "nats", "s", "×", or "" for none.
        better: "nearer" to the value of retrained references, "lower", or `None` if it does not
            show how well a model unlearned.
        share: whether it is a share of n samples; then it has steps of 100 / n percentage points.
        relative: whether it is the distance of another metric to the references' value.
    """

    unit: str = ""
    better: Literal["nearer", "lower"] | None = None
    share: bool = False
    relative: bool = False


SHARE = Metric(unit="%", better="nearer", share=True)

METRICS: Mapping[str, Metric] = {
    "acc/": SHARE,
    "mia/": SHARE,
    "div/": Metric(unit="nats", better="nearer"),
    "relearn/": Metric(unit="pp", better="nearer"),
    "probe/": SHARE,
    "near/": SHARE,
    "time/": Metric(unit="s", better="lower"),
    "time/ratio_to_retrain": Metric(unit="×", better="lower"),
    "train/": Metric(),
    "gap/": Metric(better="lower", relative=True),  # in the unit of the other metric
    AVERAGE: Metric(unit="pp", better="lower", relative=True),
    "z/": Metric(better="nearer", relative=True),
}

PREFIXES = tuple(key for key in METRICS if key.endswith("/"))
RELATIVE = tuple(prefix for prefix in PREFIXES if METRICS[prefix].relative)


def metric_named(name: str) -> Metric | None:
    """Return the properties of a metric; `None` if there is no such group.

    Args:
        name: for example `acc/test` or `gap/div/js`.
    """
    if name in METRICS:
        return METRICS[name]
    group, slash, rest = name.partition("/")
    known = _of_group(group) if slash else None
    if known is not None and name.endswith(AREA):
        return replace(known, unit="", share=False)
    if group == "gap":
        return known and replace(known, unit=_distance_unit(rest))
    return known


def is_metric(name: str) -> bool:
    """Return whether a value that a trial reports is a metric: `group/metric` of a known group."""
    group, slash, _ = name.partition("/")
    return bool(slash) and _of_group(group) is not None


def _of_group(group: str) -> Metric | None:
    """Return the properties of a group; groups added by kinds of tasks are shares of images."""
    return METRICS.get(f"{group}/") or (SHARE if group in own_groups() else None)


def _distance_unit(name: str) -> str:
    """Return the unit of a distance in a metric: percentage points if the metric is in percent."""
    of_metric = metric_named(name)
    unit = of_metric.unit if of_metric else ""
    return "pp" if unit == "%" else unit
