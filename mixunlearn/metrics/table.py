"""The table of all metrics: unit, direction and resolution.

A metric is named `group/metric`. A key that ends with a slash stands for all metrics of a group
that are not listed separately.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mixunlearn.tasks.written import own_groups

AVERAGE, WORST = "gap/avg", "gap/worst"
SHARE_MARGIN = 5.0  # of a metric that another package adds, which is a share of images
AREA = "_auc"  # last part of the name of an area under a curve, in [0, 1]
PERCENT = ("%", "pp")  # units of 100 to the whole; metrics of other units have 1 to the whole


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Properties of a metric that do not depend on the model.

    Args:
        unit: "%", "pp", "nats", "s", "×", or "" for none.
        better: "nearer" to the value of retrained references, "lower", or `None` if it does not
            show how well a model unlearned.
        share: whether it is a share of n samples; then it has steps of 100 / n percentage points.
        relative: whether it is the distance of another metric to the references' value.
        margin: the largest bias, in its unit, that counts as equivalent to retraining unless an
            experiment declares another; 0 if a verdict does not depend on it.
    """

    unit: str = ""
    better: Literal["nearer", "lower"] | None = None
    share: bool = False
    relative: bool = False
    margin: float = 0.0


SHARE = Metric(unit="%", better="nearer", share=True)

METRICS: Mapping[str, Metric] = {
    # Two images in a hundred: retrained models differ by about one (docs/evidence.md).
    "acc/": replace(SHARE, margin=2.0),
    # The attack's own noise is larger: with five models of each kind, less could not be shown.
    "mia/": replace(SHARE, margin=5.0),
    "div/": Metric(unit="nats", better="nearer", margin=0.05),
    "relearn/": Metric(unit="pp", better="nearer"),
    "probe/": SHARE,
    "near/": SHARE,
    "pe/": Metric(unit="%", better="nearer"),
    "pe/auc": Metric(better="nearer"),
    "pe/excess_tpr_1": Metric(unit="pp", better="nearer"),
    "pe/retain_excess_tpr_1": Metric(unit="pp", better="nearer"),
    "klom/": Metric(unit="nats", better="lower"),
    "contest/": Metric(better="nearer"),
    "tow/": Metric(better="nearer"),
    "time/": Metric(unit="s", better="lower"),
    "time/ratio_to_retrain": Metric(unit="×", better="lower"),
    "time/at_once": Metric(),  # a mark: how many trials may have shared the device
    "cost/": Metric(unit="images", better="lower"),
    "cost/ratio_to_retrain": Metric(unit="×", better="lower"),
    "train/": Metric(),
    "gap/": Metric(better="lower", relative=True),  # in the unit of the other metric
    AVERAGE: Metric(unit="pp", better="lower", relative=True),
    WORST: Metric(better="lower", relative=True),  # in margins
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


def margins(names: Iterable[str], declared: Mapping[str, float]) -> dict[str, float]:
    """Return the margin of each metric: the largest bias that counts as equivalent.

    Args:
        names: of the metrics.
        declared: margins by metric on `test` or by group (`acc`); they replace the defaults. That
            of a metric on `test` is also that of the same metric on `val`; that of a group in
            percentage points is a hundredth for its areas under curves, which lie in [0, 1].
    """
    found = {}
    for name in names:
        group = name.partition("/")[0]
        known = _of_group(group)
        of_group = declared.get(group, known.margin if known and known.margin else SHARE_MARGIN)
        of_metric = of_group / 100 if name.endswith(AREA) else of_group
        found[name] = declared.get(name.replace("acc/val", "acc/test"), of_metric)
    return found


def changed_margins(names: Iterable[str], declared: Mapping[str, float]) -> dict[str, float]:
    """Return the margins that differ from the defaults, by metric; see `margins`."""
    own = margins(names, declared)
    defaults = margins(own, {})
    return {name: margin for name, margin in own.items() if margin != defaults[name]}


def largest_margin(name: str) -> float:
    """Return what a margin must be below: half of the scale in percent, or 1.

    Two models may differ by so much that no one would call them alike.

    Args:
        name: of a metric, or of a group (`acc`).
    """
    metric = metric_named(name if "/" in name else f"{name}/")
    return 50.0 if metric is None or metric.unit in PERCENT else 1.0


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
