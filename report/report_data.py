"""The plain data of a study from which pages, plots and MLflow's texts are made.

Shape suffixes: B pairs, K classes, H W pixels, C channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mixunlearn.plain import finite

Row: TypeAlias = Mapping[str, Any]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Masks: TypeAlias = npt.NDArray[np.float32]

PARAMS = "params/"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How a hyperparameter varies.

    Args:
        low, high: bounds of a number; `None` for a choice.
        log: whether it is sampled uniformly in its logarithm.
        options: values of a choice; empty for a number.
        default: the published value or the first guess.
        unit: unit of the value; empty for a pure number.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    options: tuple[Any, ...] = ()
    default: Any = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much of the objective's variation a hyperparameter explains, in [0, 1].

    Args:
        mean: mean over resamples of the trials.
        low, high: 5th and 95th percentile over the same resamples.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Which hyperparameters mattered.

    Args:
        shares: by hyperparameter, most important first; empty if they are unknown.
        trials: number of trials that they were computed from.
        method: how they were computed, for the caption.
        warning: why not to rely on it; empty if there were enough trials.
    """

    shares: Mapping[str, Share] = field(default_factory=dict)
    trials: int = 0
    method: str = ""
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class Mixtures:
    """What the winner's generator does, for a few pairs and on average.

    Args:
        forget: images, uint8, shape (B, H, W, C) with C = 1 or 3.
        retain: images paired with them, same shape.
        mixed: `M_f ⊙ forget + M_r ⊙ retain`, same shape.
        masks: M_f, the share of the forget image in each pixel, in [0, 1], shape (B, H, W).
        lams: λ of each pair, in (0, 1), shape (B,).
        forget_classes, retain_classes: names, one per pair.
        mean_masks: mean of M_f over many pairs by class of the retain image, shape (K, H, W).
        mean_classes: names of these K classes.
    """

    forget: Pixels
    retain: Pixels
    mixed: Pixels
    masks: Masks
    lams: npt.NDArray[np.float32]
    forget_classes: Sequence[str]
    retain_classes: Sequence[str]
    mean_masks: Masks
    mean_classes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """A study, ready to be shown. The search used `val`; it did not use `test`.

    Args:
        summary: as in summary.json, all metrics on `test`; empty while there is no verdict yet.
        rows: finished trials as in trials.parquet, by number, all metrics on `val`.
        curves: the objective on `val` by trial and epoch.
        ended: numbers of the finished trials in the order in which they ended.
        axes: hyperparameters that vary, by name without `params/`.
        objective: the metric that was minimised, for example `gap/avg`.
        own: the objective of each reference against the others, on `val`; empty if unknown.
        original: the objective of the untouched original, on `val`.
        importance: which hyperparameters mattered.
        mixtures: what the winner's generator does, if it has one.
        experiment: the resolved experiment as YAML.
        facts: about data, forget set, code, hardware and packages, for display, in order.
        commands: command lines by purpose, in order: "resume", "report", "export", "ui".
        home: option that commands need to find the study, ` --home DIR`; empty for the default.
        warnings: cautions about the result, one sentence each.
        links: MLflow page of a trial's run, by number; empty if MLflow has no pages.
        run: MLflow page of the study's run; empty if MLflow has no pages.
        model: folder of the best trial's model.
        citations: citations of methods and attacks that were used.
    """

    summary: Mapping[str, Any]
    rows: Sequence[Row]
    curves: Mapping[int, Mapping[int, float]]
    ended: Sequence[int]
    axes: Mapping[str, Axis]
    objective: str
    own: Sequence[float] = ()
    original: float | None = None
    importance: Importance = field(default_factory=Importance)
    mixtures: Mixtures | None = None
    experiment: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    home: str = ""
    warnings: Sequence[str] = ()
    links: Mapping[int, str] = field(default_factory=dict)
    run: str = ""
    model: Path | None = None
    citations: Sequence[str] = ()

    @property
    def study(self) -> str:
        """The study's name."""
        return str(self.summary.get("study") or self.rows[0]["study"])

    @property
    def band(self) -> tuple[float, float] | None:
        """Lowest and highest objective of the references against each other."""
        return (min(self.own), max(self.own)) if self.own else None

    def ranked(self) -> list[Row]:
        """Return the trials that did not fail, best first."""
        usable = [row for row in self.rows if self.value(row) is not None]
        return sorted(usable, key=lambda row: (self.value(row), row["trial"]))

    def value(self, row: Row) -> float | None:
        """Return a trial's objective; `None` if it failed."""
        # A failed trial may have finished epochs: their values are no result.
        return None if row["state"] == "failed" else finite(row.get(self.objective))


def hyperparameters(row: Row) -> dict[str, Any]:
    """Return a row's hyperparameters, without those that the trial does not have."""
    found = {name: row[name] for name in row if name.startswith(PARAMS)}
    return {name.removeprefix(PARAMS): value for name, value in found.items() if value is not None}


def rerun_command(report_data: ReportData, trial: int) -> str:
    """Return the command that runs a trial again and compares the numbers."""
    return f"mixunlearn rerun {report_data.study}/{trial}{report_data.home}"
