"""What MLflow's page of an experiment shows of a study: which runs, columns and charts.

MLflow keeps views that somebody has shared as tags of the experiment. This is one of them: without
it, columns and charts are in alphabetical order, from `acc/` on.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from distributed.tracking.names import allowed
from distributed.tracking.tags import STATE, STUDY

VIEW = "mlflow.sharedViewState."  # tag of an experiment; the rest of its name is the view's key
TRIALS, VERDICT = "gap: distance to retraining, on val", "verdict: the winner, on test"


def saved_view(
    study: str, gaps: Sequence[str], verdict: Sequence[str], hyperparameters: Iterable[str]
) -> str:
    """Return the value of the tag that shows a study's trials, the best first.

    Args:
        study: name of the study.
        gaps: metrics of trials, the most important first.
        verdict: metrics of the study's run, the most important first.
        hyperparameters: those that get a column.
    """
    columns = [
        "attributes.`Description`",  # why a trial was pruned or failed
        *(f"metrics.`{allowed(name)}`" for name in gaps),
        *(f"params.`{allowed(name)}`" for name in hyperparameters),
        f"tags.`{STATE}`",
    ]
    state = {
        "searchFilter": of_study(study),
        "orderByKey": f"metrics.`{gaps[0]}`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": columns,
        "compareRunSections": [_section(TRIALS), _section(VERDICT)],
        "compareRunCharts": [
            *(_chart("LINE", name, TRIALS) for name in gaps),
            *(_chart("BAR", name, VERDICT) for name in verdict),
        ],
        # Otherwise MLflow sorts the sections by their names.
        "isAccordionReordered": True,
    }
    # MLflow's form of a long state; the value of a tag has at most 5,000 characters.
    packed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)
    return f"deflate;{base64.b64encode(packed).decode()}"


def of_study(study: str) -> str:
    """Return the filter that leaves the runs of a study."""
    return f"tags.`{STUDY}` = '{study}'"


def _section(name: str) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": True, "isReordered": True}


def _chart(kind: str, metric: str, section: str) -> dict[str, Any]:
    """Return a chart with the fields that MLflow's page needs; it fills in the others."""
    line = {
        "lineSmoothness": 0,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "selectedXAxisMetricKey": "",
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
    return {
        "uuid": f"{section} {metric}",
        "type": kind,
        "metricSectionId": section,
        "metricKey": allowed(metric),
        "displayName": allowed(metric),
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": False,
        **(line if kind == "LINE" else {}),
    }
