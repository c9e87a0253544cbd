"""What the examinations of many models show about one method on one forget set."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mixunlearn.evidence.contest import forgetting
from mixunlearn.evidence.equivalence import LEAST, biases
from mixunlearn.evidence.examination import CONTROL, EXPOSED, Examined
from mixunlearn.evidence.klom import FEWEST, klom
from mixunlearn.evidence.likelihood import Sample, per_example
from mixunlearn.evidence.logit_margins import LogitMargins
from mixunlearn.evidence.tow import Standing, mean_tow, own_tow
from mixunlearn.evidence.verdict import judge
from mixunlearn.metrics.table import margins as default_margins
from mixunlearn.metrics.table import metric_named
from mixunlearn.plain import plain


def findings(
    unlearned: Sequence[Examined],
    untouched: Sequence[Examined],
    retrained: Sequence[Examined],
    margins: Mapping[str, float],
    *,
    cost: float | None,
    seed: int,
) -> dict[str, Any]:
    """Return verdict, biases of all measures and evidence by example, as plain data for JSON.

    Args:
        unlearned: one model for each original.
        untouched: the same originals, in the same order.
        retrained: models retrained without the forget set.
        margins: metric -> margin, of the metrics that the verdict is about.
        cost: time of unlearning, in times of retraining; `None` for the untouched originals
            themselves, about which there is no verdict.
        seed: of bootstraps and simulations.
    """
    verdict = {}
    if cost is not None:
        own, before, wanted = (
            {name: values(name, models) for name in margins}
            for models in (unlearned, untouched, retrained)
        )
        found = judge(own, before, wanted, margins, cost=cost)
        verdict = found.as_plain()
    own_UN, retrained_RN = _margins(unlearned, "forget"), _margins(retrained, "forget")
    fewest = min(len(unlearned), len(retrained))
    enough = fewest >= LEAST
    found_plain: dict[str, Any] = plain(
        {
            "verdict": verdict,
            "measures": measures(unlearned, retrained),
            "per_example": by_example(unlearned, retrained, seed) if enough else {},
            "contest": _contest(own_UN, retrained_RN, seed) if enough else None,
            "tow": _tow(unlearned, retrained),
            "klom": asdict(klom(own_UN, retrained_RN)) if fewest >= FEWEST else None,
        }
    )
    return found_plain


def values(metric: str, models: Sequence[Examined]) -> list[float]:
    """Return a metric of each model."""
    return [each.metrics[metric] for each in models]


def measures(
    unlearned: Sequence[Examined], retrained: Sequence[Examined]
) -> dict[str, dict[str, Any]]:
    """Return the means of all metrics that all models have, and their bias with 90 % interval."""
    every = [each.metrics.keys() for each in (*unlearned, *retrained)]
    names = [name for name in every[0] if all(name in each for each in every)]
    own, theirs = ({name: values(name, each) for name in names} for each in (unlearned, retrained))
    return {
        bias.metric: {
            "unlearned": float(np.mean(own[bias.metric])),
            "retrained": float(np.mean(theirs[bias.metric])),
            "value": bias.value,
            "low": bias.low,
            "high": bias.high,
            "p": bias.p,
            "unit": _unit(bias.metric),
        }
        # The margins play no part here: only those of the verdict were declared.
        for bias in biases(own, theirs, default_margins(names, {}))
    }


def by_example(
    unlearned: Sequence[Examined], retrained: Sequence[Examined], seed: int
) -> dict[str, dict[str, Any]]:
    """Return the evidence by example on forgotten and on retained images; see `per_example`."""
    control = _sample(unlearned, retrained, CONTROL)
    found = {
        part: per_example(_sample(unlearned, retrained, part), control, seed) for part in EXPOSED
    }
    return {
        part: {name: asdict(estimate) for name, estimate in each.items()}
        for part, each in found.items()
    }


def _contest(unlearned_UN: LogitMargins, retrained_RN: LogitMargins, seed: int) -> dict[str, float]:
    found = forgetting(unlearned_UN, retrained_RN, seed)
    return {"score": found.score, "ceiling": found.ceiling}


def _tow(unlearned: Sequence[Examined], retrained: Sequence[Examined]) -> dict[str, float | None]:
    own, theirs = ([_standing(each) for each in models] for models in (unlearned, retrained))
    return {
        "value": float(np.mean([mean_tow(each, theirs) for each in own])),
        "own": own_tow(theirs) if len(theirs) > 1 else None,
    }


def _standing(model: Examined) -> Standing:
    return Standing(
        forget=model.metrics["acc/train_forget"],
        retain=model.metrics["acc/train_retain"],
        held_out=model.metrics["acc/test"],
    )


def _sample(unlearned: Sequence[Examined], retrained: Sequence[Examined], part: str) -> Sample:
    return Sample(unlearned_UN=_margins(unlearned, part), retrained_RN=_margins(retrained, part))


def _margins(models: Sequence[Examined], part: str) -> LogitMargins:
    return np.stack([each.margins[part] for each in models]).astype(np.float64)


def _unit(metric: str) -> str:
    known = metric_named(metric)
    unit = known.unit if known else ""
    return "pp" if unit == "%" else unit
