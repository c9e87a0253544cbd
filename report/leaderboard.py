"""The trials of a study as a table, best first."""

from typing import Any

from report.report_data import ReportData, hyperparameters, rerun_command
from report.verdict import metrics, verdict_of

ROWS = 200  # at most


def leaderboard(report_data: ReportData) -> dict[str, list[Any]]:
    """Return the best trials, then those that failed, in the format of an MLflow table.

    The most important columns come first: MLflow's pages show only as many columns as fit.

    Returns:
        "columns": rank and trial; the verdict in words, of the trial that was judged; the objective
        on `val`; metrics on `test` of the trials that were measured there, the objective first;
        state and epochs; hyperparameters; run in MLflow and the command to run it again. "data":
        a list for each of at most `ROWS` trials, null for missing values.
    """
    ranked = report_data.ranked()
    others = [row for row in report_data.rows if report_data.value(row) is None]
    tested = {best["trial"]: best for best in report_data.summary.get("best") or []}
    names = sorted(metrics(report_data.summary), key=lambda name: name != report_data.objective)
    given = list(dict.fromkeys(name for row in report_data.rows for name in hyperparameters(row)))
    data = []
    for rank, row in enumerate([*ranked, *others][:ROWS], start=1):
        test, params = tested.get(row["trial"], {}), hyperparameters(row)
        data.append(
            [
                rank if rank <= len(ranked) else None,
                row["trial"],
                verdict_of(report_data.summary, row["trial"]),
                report_data.value(row),
                *(test.get(name) for name in names),
                *(row["state"], row["epochs"]),
                *(params.get(name) for name in given),
                row.get("mlflow_run_id"),
                rerun_command(report_data, row["trial"]),
            ]
        )
    columns = [
        *("rank", "trial", "verdict", f"{report_data.objective} on val"),
        *(f"{name} on test" for name in names),
        *("state", "epochs"),
        *given,
        *("mlflow_run_id", "command"),
    ]
    return {"columns": columns, "data": data}
