"""How often a study was judged on `test`.

Originals can be added and trials can go on within one study, so an undecided verdict may be made
again with other models until one passes. Its error is stated for a single look.
"""

from collections.abc import Mapping
from typing import Any


def with_looks(summary: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary whose verdict counts the looks at `test`.

    Its `looks` is the number of sets of models that verdicts of the study were about: this one and
    others; `earlier` lists the others with their states. The same models again are no new look.

    Args:
        summary: the results of a sweep.
        earlier: those that they replace; empty if there are none.
    """
    if not summary.get("verdict"):
        return dict(summary)
    now = _look(summary)
    others = [look for look in _looks(earlier) if _models(look) != _models(now)]
    counted = {"looks": len(others) + 1, "earlier": others}
    return {**summary, "verdict": {**summary["verdict"], **counted}}


def _looks(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return all looks that a summary knows of, its own one last."""
    verdict = summary.get("verdict")
    return [*verdict.get("earlier", ()), _look(summary)] if verdict else []


def _look(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": summary["verdict"]["state"],
        "trial": summary["spread"]["trial"],
        **{kind: _count(summary[kind]) for kind in ("originals", "references")},
    }


def _models(look: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in look.items() if name != "state"}


def _count(distributions: Mapping[str, Any]) -> int:
    return max(int(each["n"]) for each in distributions.values())
