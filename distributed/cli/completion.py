"""Words that a shell completes: names of presets and of studies."""

import os
from pathlib import Path

import typer


def preset_names(incomplete: str) -> list[str]:
    """Return the presets of experiments that begin so, for a shell that completes a word."""
    from distributed.config.presets import presets

    return [name for name in presets("") if name.startswith(incomplete)]


def study_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the studies of the home that begin so, for a shell that completes a word."""
    from distributed.study.folder import begun_studies

    home = context.params.get("home") or os.environ.get("MIXUNLEARN_HOME") or "runs"
    names = [folder.path.name for folder in begun_studies(Path(home).expanduser())]
    return [name for name in names if name.startswith(incomplete)]
