"""Commands on an existing study: `sync`, `rerun`, `report`, `export`."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributed.cli.completion import study_names
from distributed.cli.options import (
    DONE,
    FAILED,
    Address,
    Home,
    Json,
    Outcome,
    Places,
    Unused,
    Verbose,
    home_folder,
    open_session,
    run_command,
    showing,
)
from distributed.cli.show import console, print_comparison
from mixunlearn.errors import InputError
from mixunlearn.wording import counted

if TYPE_CHECKING:
    from distributed.plan.plan import Plan

# Why no file can be written at a place; a full disk is no bad input and has another exit code.
UNSUITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
}


def sync(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="A study's name, or how it begins; `list` shows them.",
            autocompletion=study_names,
        ),
    ],
    from_table: Annotated[
        bool,
        typer.Option("--from-table", help="First make a lost record anew from trials.parquet."),
    ] = False,
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Make runs again that were deleted in MLflow.")
    ] = False,
    settings: Places = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be rebuilt; write nothing.")
    ] = False,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Rebuild trials.parquet and the MLflow runs from the record of a study.

    If the record itself is lost, --from-table makes it anew from trials.parquet. The epochs
    before a trial's last one are then lost.
    A run that somebody has deleted in MLflow stays deleted, unless --recreate asks for a new one.
    """

    def command() -> Outcome:
        from distributed.plan.make import find_study
        from distributed.search.sweep import sync as write

        plan = find_study(study, settings or [], home_folder(home), tracks=True, reading=dry_run)
        if dry_run:
            return _foreseen(plan)
        with open_session(None) as session:  # starts no Ray
            trials, problems = write(plan, session, from_table=from_table, recreate=recreate)
        console().print(
            f"{plan.study}: {counted(trials, 'trial')} written to trials.parquet and MLflow"
        )
        result = {"study": plan.study, "trials": trials, "problems": problems}
        return Outcome(result=result, code=FAILED if problems else DONE)

    run_command(command, as_json=as_json, verbose=verbose)


def _foreseen(plan: "Plan") -> Outcome:
    """Print what `sync` would write, and where."""
    from contextlib import closing

    from distributed.runtime.text import redact
    from distributed.search.session import open_study

    with closing(open_study(plan)) as study:
        trials = len(study.rows())
    places = [str(plan.study_folder.trials), redact(plan.tracking_uri)]
    line = f"{plan.study}: {counted(trials, 'trial')} would be written to {' and '.join(places)}"
    console().print(line, soft_wrap=True, markup=False)
    return Outcome(result={"study": plan.study, "trials": trials, "places": places})


def rerun(
    trial: Annotated[
        str,
        typer.Argument(metavar="RUN_ID|STUDY/TRIAL", help="An MLflow run, or a study and a trial."),
    ],
    settings: Places = None,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Run a trial again from its MLflow run or its study, and compare the metrics.

    Exit code 1: the result differs by more than the references differ from each other.
    """

    def command() -> Outcome:
        from distributed.rerun.rerun import repeat

        with open_session(address) as session:
            found = repeat(trial, settings or [], home_folder(home), session)
        print_comparison(found)
        return Outcome(result=found.as_json(), code=DONE if found.confirmed else FAILED)

    run_command(command, as_json=as_json, verbose=verbose)


def write_report(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY",
            help="Names, or how they begin; `list` shows them.",
            autocompletion=study_names,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file [report.html in the study's folder; for several, in HOME].",
        ),
    ] = None,
    show_images: Annotated[
        bool,
        typer.Option(
            "--show-images", help="Show images, also some to be forgotten [in report-images.html]."
        ),
    ] = False,
    settings: Places = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write a page about one study, or several side by side: one file that needs no network."""

    def command() -> Outcome:
        with showing("writing the report"):
            where = home_folder(home)
            path, file, names = _page_of(
                studies, settings or [], where, output, show_images=show_images
            )
        console().print(str(path), soft_wrap=True)
        size = file.stat().st_size
        return Outcome(result={"path": str(path), "bytes": size, "studies": names})

    run_command(command, as_json=as_json, verbose=verbose)


def _page_of(
    studies: Sequence[str],
    settings: Sequence[str],
    home: Path,
    output: Path | None,
    *,
    show_images: bool,
) -> tuple[Path, Path, list[str]]:
    """Write the page about studies; return its path as it is said, the file, and the studies."""
    from distributed.plan.make import find_study
    from distributed.search.sweep import report_data_of
    from distributed.study.folder import REPORT, REPORT_WITH_IMAGES, full_name
    from report.page import write_page

    # Each once, in the given order.
    names = list(dict.fromkeys(full_name(home, each) for each in studies))
    plans = [find_study(name, settings, home, reading=True) for name in names]
    # Another file: a study's report.html is sent to MLflow.
    usual = REPORT_WITH_IMAGES if show_images else REPORT
    path = output or (plans[0].folder if len(plans) == 1 else home) / usual
    file = _file(path)
    found = [report_data_of(plan, show_images=show_images) for plan in plans]
    with _writing(path):
        write_page(found, file)
    return path, file, names


def write_export(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="A study's name, or how it begins; `list` shows them.",
            autocompletion=study_names,
        ),
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv, json, latex or parquet.")
    ] = "csv",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file [standard output].")
    ] = None,
    settings: Places = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Export all trials of a study as csv, json or parquet, or its verdict as a LaTeX table."""

    def command() -> Outcome:
        from distributed.plan.make import find_study
        from report.export import require_format

        # Before anything is read: a mistake costs no time.
        require_format(form, file=output is not None)
        plan = find_study(study, settings or [], home_folder(home), reading=True)
        content, trials = _exported(plan, form)
        if output is None:
            _put(content)
        else:
            _replace(output, content)
            console().print(str(output), soft_wrap=True)
        path = output and str(output)
        result = {"study": plan.study, "format": form, "trials": trials, "path": path}
        return Outcome(result={**result, "bytes": len(content)})

    run_command(command, as_json=as_json, verbose=verbose)


def _exported(plan: "Plan", form: str) -> tuple[bytes, int]:
    """Return a study in the given format, and its number of trials."""
    from contextlib import closing

    from distributed.search.outputs import read_summary
    from distributed.search.session import open_study
    from distributed.study.trials_table import RUN_ID, known_run_ids, trials_table
    from report.export import export

    # The record has no ids of MLflow: only the table keeps them.
    runs = known_run_ids(plan.study_folder.trials)
    with closing(open_study(plan)) as study:
        rows = [{**row, RUN_ID: runs.get(row["trial"])} for row in study.rows()]
    summary = {"study": plan.study, **read_summary(plan)}
    return export(trials_table(rows), summary, form), len(rows)


def _put(content: bytes) -> None:
    """Write to standard output; a reader such as `head` may close it early."""
    try:
        # As bytes: neither the terminal's encoding nor its line ends may change an export.
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output again at exit, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replace(path: Path, content: bytes) -> None:
    """Replace a file as a whole; if that fails, the old file stays."""
    from mixunlearn.atomic import replacing

    with _writing(path), replacing(_file(path)) as temporary:
        temporary.write_bytes(content)


def _file(path: Path) -> Path:
    """Return the file that the user means, past all links.

    Raises:
        InputError: no file can be there, or something else is.
    """
    try:
        with _writing(path):
            file = path.expanduser().resolve()
            taken = file.exists() and not file.is_file()
    except RuntimeError as error:  # no such user, or links that lead in a circle
        raise _refused(path, error) from error
    # A rename would replace a device such as /dev/null, for everybody on this machine.
    if taken:
        raise _refused(path, "Is a directory" if file.is_dir() else "Not a regular file")
    return file


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Explain why a file cannot be written where the user wants it."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUITABLE:
            raise
        raise _refused(path, error.strerror) from error


def _refused(path: Path, reason: object) -> InputError:
    return InputError("--output", str(path), f"cannot be written ({reason}); choose another file")
