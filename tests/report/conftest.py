"""An invented result of a sweep, in the format that `sweep --json` prints."""

import statistics
from typing import Any

import pytest

GAP_METRICS = ("acc/train_forget", "acc/test_retain", "acc/test_forget", "mia/asr")


def distribution(*values: float) -> dict[str, Any]:
    sd = statistics.stdev(values) if len(values) > 1 else None
    mean = statistics.fmean(values)
    return {"mean": mean, "sd": sd, "n": len(values), "values": list(values)}


REFERENCES = {
    "acc/train_forget": distribution(0.0, 0.0, 0.0),
    "acc/test_retain": distribution(98.2, 97.9, 98.0),
    "acc/test_forget": distribution(0.0, 0.0, 0.0),
    "mia/asr": distribution(37.2, 39.8, 41.1),
    "div/js": distribution(0.012, 0.015, 0.013),
    "gap/avg": distribution(0.31, 0.42, 0.66),
}


def evaluation(*values: float, seconds: float | None = None) -> dict[str, Any]:
    """Values of the gap metrics and div/js, with gaps and z as the sweep computes them."""
    result: dict[str, Any] = dict(zip((*GAP_METRICS, "div/js"), values, strict=True))
    for metric, value in list(result.items()):
        mean, sd = REFERENCES[metric]["mean"], REFERENCES[metric]["sd"]
        result[f"gap/{metric}"] = abs(value - mean)
        result[f"z/{metric}"] = (value - mean) / sd if sd else None
    result["gap/avg"] = statistics.fmean(result[f"gap/{metric}"] for metric in GAP_METRICS)
    if seconds:
        result |= {"time/unlearn_s": seconds, "time/ratio_to_retrain": seconds / 24}
    return result


def configuration(trial: int, asr: float, **params: object) -> dict[str, Any]:
    settings = {"lr": 1.23456e-4, "omega": 1.0, "gen_interval": 4, "pairing": "any", **params}
    values = evaluation(0.0, 97.8, 0.0, asr, 0.018, seconds=4.2 + trial)
    cost = {"state": "complete", "epochs": 6, "seconds": 12.0 + trial}
    return {**values, **cost, "trial": trial, "params": settings}


@pytest.fixture
def summary() -> dict[str, Any]:
    return invented_summary()


def invented_summary() -> dict[str, Any]:
    asr = {11: 38.4, 7: 39.3, 14: 40.2, 3: 41.1, 9: 42.0}
    return {
        "study": "3f2a91bc",
        "name": "mnist-class",
        "folder": "runs/studies/3f2a91bc",
        "tracking_uri": "sqlite:///runs/mlflow.db",
        "gap_metrics": list(GAP_METRICS),
        "metrics": [*GAP_METRICS, "div/js"],
        "references": dict(REFERENCES),
        "original": evaluation(99.8, 97.9, 99.2, 91.3, 0.62),
        "default": configuration(0, 44.1),
        "best": [configuration(trial, asr[trial], omega=0.1 * trial) for trial in asr],
        "spread": {
            "trial": 11,
            "seeds": 3,
            "acc/test_retain": distribution(97.8, 97.5, 97.7),
            "mia/asr": distribution(38.4, 41.7, 43.9),
            "gap/avg": distribution(0.8, 1.3, 1.1),
        },
        "verdict": {
            "state": "better than doing nothing, not equivalent",
            "reasons": ["2 of 4 metrics within the margins", "smaller", "it took long"],
        },
        "trials": {"complete": 9, "pruned": 6, "failed": 1},
        "seconds": 260.4,
    }


@pytest.fixture
def five_references(summary: dict[str, Any]) -> dict[str, Any]:
    """The same result with five references, of the same mean and spread."""
    references = {name: {**each, "n": 5} for name, each in summary["references"].items()}
    return {**summary, "references": references}
