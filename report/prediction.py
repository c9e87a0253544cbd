"""What proxies predict of the next request, as terminals and pages show it."""

from collections.abc import Mapping
from typing import Any

from mixunlearn.evidence.prediction import Prediction, predict_from
from mixunlearn.wording import counted
from report.notation import ABSENT, signed, three_digits
from report.verdict import with_unit


def prediction_of(summary: Mapping[str, Any]) -> Prediction | None:
    """Return what the proxies of a study predict; `None` if there are none, or no margins.

    Args:
        summary: the study's.
    """
    proxies, verdict = summary.get("proxies"), summary.get("verdict") or {}
    margins = {name: each["margin"] for name, each in (verdict.get("metrics") or {}).items()}
    if not proxies or not margins:
        return None
    return predict_from(proxies, margins)


def prediction_line(summary: Mapping[str, Any]) -> str:
    """Return the prediction in a sentence; empty if there is none.

    Args:
        summary: the study's.
    """
    found = prediction_of(summary)
    if found is None:
        return ""
    proxies = summary["proxies"]
    size = counted(proxies["images"], "image")
    asked = f"a random one of the same kind and size ({proxies['kind']}, {size})"
    return (
        f"{asked}: {found.state} ({counted(found.proxies, 'proxy')}; {'; '.join(found.reasons)})."
    )


def predicted_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return one row of text for each metric of the prediction; none if there is none.

    Args:
        summary: the study's.
    """
    found = prediction_of(summary)
    metrics = summary["proxies"]["metrics"] if found else {}
    if found is None or not metrics:  # all proxies diverged
        return []
    return [
        {
            "metric": with_unit(each.metric),
            "bias": signed(each.bias),
            "interval": f"{signed(each.low)} to {signed(each.high)}"
            if each.state != "unknown"
            else ABSENT,
            "margin": f"±{three_digits(each.margin)}",
            "state": each.state,
            "each": ", ".join(signed(value) for value in metrics[each.metric]["differences"]),
        }
        for each in found.metrics
    ]
