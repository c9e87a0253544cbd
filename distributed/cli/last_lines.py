"""The last lines of a command: the verdict, where to look, and what to type next."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed.cli.show import console

if TYPE_CHECKING:
    from distributed.study.folder import StudyFolder

DECIDING = 5  # references with which most verdicts decide: docs/evidence.md


def print_last(lines: Mapping[str, str]) -> None:
    """Print names with their values, one a line; those without a value are left out."""
    for name, value in lines.items():
        if value:
            # Soft wrap: a path or a command that is broken into lines cannot be copied.
            console().print(f"{name:<9}{value}", soft_wrap=True, markup=False)


def print_result(files: "StudyFolder", home: Path, summary: Mapping[str, Any]) -> None:
    """Print what a sweep has found in one line, its report, its best model, and the next step."""
    from report.verdict import sentence

    best = next(iter(summary.get("best") or ()), None)
    model = best and files.model(best["trial"])
    print_last({
        "MLflow": f"mixunlearn ui{at_home(home)}",
        "verdict": sentence(summary),
        "report": str(files.report),
        "model": str(model) if model and model.is_dir() else "",
        "next": next_command(files, home, summary),
    })  # fmt: skip


def next_command(files: "StudyFolder", home: Path, summary: Mapping[str, Any]) -> str:
    """Return the command that makes the most of a result, or most probably makes it a better one.

    docs/faq.md has the same advice in words.
    """
    from mixunlearn.evidence.states import EQUIVALENT, UNDECIDED

    # The study's own file: it has all settings that were given on the command line.
    sweep = f"mixunlearn sweep {shlex.quote(str(files.experiment))}"
    trials = sum(summary["trials"].values())
    if summary["trials"]["failed"]:
        return f"{sweep} --retry-failed{at_home(home)}"
    state = (summary.get("verdict") or {}).get("state")
    if state == EQUIVALENT:
        return f"mixunlearn evidence {files.path.name}{at_home(home)}"
    if state == UNDECIDED:
        return f"{sweep} {_more_models(summary)}{at_home(home)}"
    return f"{sweep} --trials {2 * trials}{at_home(home)}"


def _more_models(summary: Mapping[str, Any]) -> str:
    """Return the settings that give a verdict more to go by; fewer than `LEAST` decide nothing."""
    from mixunlearn.evidence.equivalence import LEAST

    originals, references = (
        max(int(each["n"]) for each in summary[kind].values())
        for kind in ("originals", "references")
    )
    if references < LEAST:
        more = max(2 * originals, DECIDING)
        return f"--set references.originals={more} --set references.seeds={DECIDING}"
    return f"--set references.originals={max(2 * originals, LEAST)}"


def at_home(home: Path) -> str:
    """Return the option that a command needs to find the home; empty for the default one."""
    return "" if home == Path("runs") else f" --home {shlex.quote(str(home))}"
