"""The files of a finished study: summary, leaderboard, pictures, report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed.plan.plan import Plan
from distributed.runtime.text import one_line
from mixunlearn.atomic import replacing
from mixunlearn.errors import CorruptError
from report.leaderboard import leaderboard
from report.report_data import ReportData


def publish(plan: Plan) -> None:
    """Copy the study's results to its shared folder."""
    assert plan.shared
    folder = plan.study_folder
    for root in folder.results:
        for path in [root] if root.is_file() else sorted(root.rglob("*.*")):
            name = path.name if path == folder.published else path.relative_to(plan.folder)
            plan.shared.write(str(name), path.read_bytes())


def write_report(plan: Plan, report_data: ReportData) -> None:
    """Write summary, leaderboard, pictures and report.html into the study's folder."""
    # Not above: Matplotlib takes seconds, which every start of a sweep would wait for.
    from report.page import write_page  # noqa: PLC0415
    from report.plots.by_trial import gap_by_trial  # noqa: PLC0415
    from report.plots.strips import metrics_against_references  # noqa: PLC0415

    folder = plan.study_folder
    gap_by_trial(
        report_data.rows,
        objective=report_data.objective,
        path=folder.plots / "gap_by_trial.png",
        band=report_data.band,
        original=report_data.original,
    )
    metrics_against_references(report_data.summary, folder.plots / "metrics_against_references.png")
    write_json(report_data.summary, folder.summary)
    write_json(leaderboard(report_data), folder.leaderboard)
    write_page([report_data], folder.report)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write plain data as a JSON file; if that fails, an old file stays."""
    with replacing(path) as temporary:
        # NaN is not JSON: browsers would refuse the whole file.
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_summary(plan: Plan) -> dict[str, Any]:
    """Return the summary of a study; empty if there is none yet.

    Raises:
        CorruptError: it is damaged.
    """
    path = plan.study_folder.summary
    if not path.exists():
        return {}
    try:
        # `dict` also refuses what is JSON, but no mapping.
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        remedy = f"write it anew: mixunlearn sweep {plan.study_folder.experiment}"
        raise CorruptError(f"{path} is damaged ({one_line(error)}); {remedy}") from error
