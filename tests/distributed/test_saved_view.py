import base64
import json
import zlib
from typing import Any

from distributed.tracking.saved_view import saved_view

LIMIT = 5000  # of a tag of an experiment, in MLflow


def opened(text: str) -> dict[str, Any]:
    """Return the state as MLflow's page reads it."""
    kind, _, packed = text.partition(";")
    assert kind == "deflate"
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_a_view_shows_one_study_and_the_most_important_metrics_first() -> None:
    gaps, verdict = ["gap/avg", "gap/mia/asr"], ["best/gap/avg", "bias/mia/asr"]
    state = opened(saved_view("class-1", gaps, verdict, ["lr", "what?"]))
    assert state["searchFilter"] == "tags.`mixunlearn.study` = 'class-1'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`gap/avg`", True)
    assert state["selectedColumns"] == [
        "attributes.`Description`",
        "metrics.`gap/avg`",
        "metrics.`gap/mia/asr`",
        "params.`lr`",
        "params.`what_3f_`",  # as in the runs, see `allowed`
        "tags.`mixunlearn.state`",
    ]
    charts = state["compareRunCharts"]
    assert [chart["metricKey"] for chart in charts] == [*gaps, *verdict]
    assert [chart["type"] for chart in charts] == ["LINE", "LINE", "BAR", "BAR"]
    sections = [section["uuid"] for section in state["compareRunSections"]]
    assert list(dict.fromkeys(chart["metricSectionId"] for chart in charts)) == sections
    assert len({chart["uuid"] for chart in charts}) == len(charts)


def test_a_view_with_many_metrics_is_not_too_long_for_mlflow() -> None:
    gaps, verdict = ([f"{kind}/acc/a_long_name_{n}" for n in range(12)] for kind in ("gap", "bias"))
    assert len(saved_view("s" * 200, gaps, verdict, ["a_long_hyperparameter"] * 4)) < LIMIT
