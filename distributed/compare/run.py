"""Runs the missing studies of a comparison, one after the other, and makes its tables."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distributed.compare.cells import Cell, Plans
from distributed.config.comparison import Comparison
from distributed.plan.plan import Plan
from distributed.runtime.count import Count
from distributed.runtime.signals import Interrupted
from distributed.search.outputs import read_summary
from distributed.search.runs import own_run
from distributed.search.session import Session
from distributed.search.sweep import run_sweep
from distributed.study.folder import study_folder
from distributed.study.trials_table import read_trials
from distributed.tracking.tags import COMPARISON, PARENT
from distributed.tracking.tracker import Tracker
from mixunlearn.atomic import replacing
from mixunlearn.errors import MixUnlearnError
from report.comparison import Table, tables
from report.comparison_page import latex, write_comparison
from report.places import relative
from report.runs import CellResult, run_rows

COMPARISON_PAGE, TABLE, LATEX = "comparison.html", "comparison.parquet", "comparison.tex"
RUNS = "comparison_runs.parquet"
TO_COME = "to come"


def done(plan: Plan) -> bool:
    """Return whether a study has a summary of all the trials that its plan asks for."""
    trials: Mapping[str, int] = read_summary(plan).get("trials", {})
    # Not "there is a summary": after the budget was raised, finished studies lack trials.
    return sum(trials.values()) >= plan.trials


def missing(cells: Sequence[Cell], plans: Plans) -> list[Cell]:
    """Return the cells whose studies are still to be run."""
    return [cell for cell in cells if cell.experiment and not done(plans.of(cell))]


def run_comparison(
    comparison: Comparison,
    cells: Sequence[Cell],
    shown: Sequence[Cell],
    plans: Plans,
    session: Session,
) -> dict[str, str]:
    """Run the missing studies; return those that failed to run, with the reasons.

    Args:
        comparison: the comparison to which they belong.
        cells: cells to run; those without an experiment are skipped.
        shown: cells in the tables: all of the comparison, whichever are run now.
        plans: plans of the cells.
        session: the session of the command.

    Raises:
        Interrupted: a stop was requested; the tables show all results so far.
    """
    wanted = [cell for cell in cells if cell.experiment]
    to_run = missing(wanted, plans)
    count = Count(len(wanted), len(wanted) - len(to_run))
    failures: dict[str, str] = {}
    folder = folder_of(comparison, plans.home)
    folder.mkdir(parents=True, exist_ok=True)
    with tracked(plans.of(wanted[0]), folder, session) as (tracker, tags):
        try:
            for cell in to_run:
                session.stop.check()
                session.progress.head(_announced(cell, count))
                # Ray starts only once: `part` closes the study and its lock, but not Ray.
                plan = session.connect(plans.of(cell), "starting Ray")
                try:
                    # A part for each study: its lock is released before the next study begins.
                    with session.part() as part:
                        run_sweep(plan, part, part_of=tags)
                except MixUnlearnError as error:
                    # An error of one study must not stop the others; the same command retries it.
                    failures[cell.title] = str(error)
                    session.progress.say(f"{cell.title}: {error}")
                count.finish()
        # Written here, because closing the tracker may take a minute, and a second signal ends all.
        except Interrupted:
            write_results(comparison.name, results(shown, plans, failures), folder)
            raise
        found = results(shown, plans, failures)
        write_results(comparison.name, found, folder)
        for name in (COMPARISON_PAGE, TABLE, RUNS, LATEX):
            tracker.log_artifact(None, folder / name)
        tracker.finish_study("failed" if failures else "complete", distances(tables(found)))
    return failures


def _announced(cell: Cell, count: Count) -> str:
    """Return which cell is next, and how long all that are left are going to take."""
    left = f", about {count.left()}" if count.left() else ""
    return f"cell {count.done + 1} of {count.total}: {cell.title}{left}"


@contextmanager
def tracked(
    plan: Plan, folder: Path, session: Session
) -> Iterator[tuple[Tracker, Mapping[str, str]]]:
    """Open the comparison's own run in MLflow; give its tracker and the tags for its studies.

    Args:
        plan: plan of any of the studies, which all use the same MLflow.
        folder: folder of the comparison.
        session: the session of the command.
    """
    name, tags = plan.experiment.name, {COMPARISON: plan.experiment.name}
    with own_run(
        plan.experiment.tracking,
        plan.home,
        experiment=name,
        title=f"comparison {name}",
        tags=tags,
        about="",
        folder=folder,
        session=session,
    ) as (tracker, parent):
        # While MLflow does not answer there is no parent: the tag alone connects the studies.
        yield tracker, {**tags, **({PARENT: parent} if parent else {})}


def results(
    cells: Sequence[Cell], plans: Plans, failures: Mapping[str, str] | None = None
) -> list[CellResult]:
    """Return the results of each cell so far."""
    return [_result(cell, plans, (failures or {}).get(cell.title, "")) for cell in cells]


def folder_of(comparison: Comparison, home: Path) -> Path:
    """Return the folder of a comparison's own results."""
    return home / "comparisons" / comparison.name


def write_results(name: str, found: Sequence[CellResult], folder: Path) -> None:
    """Write the comparison's page, tables and LaTeX into its folder; replaces each as a whole."""
    for file, rows in ((TABLE, [row(result) for result in found]), (RUNS, [*run_rows(found)])):
        with replacing(folder / file) as temporary:
            pq.write_table(table_of(rows), temporary)
    made = tables(found)
    with replacing(folder / LATEX) as temporary:
        temporary.write_text(latex(name, made))
    with replacing(folder / COMPARISON_PAGE) as temporary:
        write_comparison(name, made, found, temporary, _pages(found, folder))


def _pages(found: Sequence[CellResult], folder: Path) -> dict[str, str]:
    """Return the address of each study's page, or of its folder, seen from a comparison's page."""
    home = folder.parents[1]
    studies = [study_folder(home, each.study) for each in found if each.study]
    return {
        each.path.name: relative(each.report, folder)
        if each.report.is_file()
        else f"{relative(each.path, folder)}/"
        for each in studies
    }


def row(result: CellResult) -> dict[str, Any]:
    """Return a cell as a row of comparison.parquet: its winner under fresh seeds, on `test`."""
    spread = result.summary.get("spread") or {}
    means = {name: each["mean"] for name, each in spread.items() if isinstance(each, dict)}
    sds = {f"sd/{name}": each["sd"] for name, each in spread.items() if isinstance(each, dict)}
    default = (result.summary.get("default") or {}).get("gap/avg")
    return {
        "data": result.data,
        "task": result.task,
        "labels": result.labels,
        "method": result.method,
        "seed": result.seed,
        "study": result.study,
        "absent": result.absent,
        "trials": len(result.rows),
        # pyarrow infers types from values: without rows, 0 would make a column of integers.
        "tuning_s": float(sum(each["seconds"] or 0 for each in result.rows)),
        "default/gap/avg": default,
        **means,
        **sds,
    }


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as a table with each column that any of them has; missing values are null."""
    # pyarrow would take the columns of the first row alone, which may be that of an empty cell.
    names = dict.fromkeys(name for each in rows for name in each)
    return pa.table({name: [each.get(name) for each in rows] for name in names})


def distances(made: Sequence[Table]) -> dict[str, float]:
    """Return each method's distance on each problem, as metrics of the comparison's run."""
    return {
        f"distance/{'/'.join(table.problem)}/{each.method}": each.distance.value
        for table in made
        for each in table.standings
        if each.distance
    }


def groups(made: Sequence[Table]) -> dict[str, str]:
    """Return the letters of each method on each problem; who shares one is not told apart."""
    return {
        f"{'/'.join(table.problem)}/{each.method}": each.group
        for table in made
        for each in table.standings
        if each.distance
    }


def _result(cell: Cell, plans: Plans, failure: str) -> CellResult:
    empty = CellResult(
        data=cell.data,
        task=cell.task,
        labels=cell.labels,
        method=cell.method,
        seed=cell.seed,
        absent=f"n/a: {cell.incompatible}",
    )
    if cell.experiment is None:
        return empty
    plan = plans.of(cell)
    summary = read_summary(plan)
    table = plan.study_folder.trials
    rows = read_trials(table) if table.exists() else []
    absent = failure or ("" if summary else TO_COME)
    return replace(empty, study=plan.study, summary=summary, rows=rows, absent=absent)
