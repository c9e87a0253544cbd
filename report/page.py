"""A study, or several side by side, as one HTML file that needs no network: `report.html`.

Large parts (Plotly, figures, tables of trials) are gzipped; the browser decompresses them when it
needs them. The template escapes text. Data are in base64, which cannot close an element. The page's
content security policy lets a browser run only the scripts of this module, whatever a name or an
error message contains.
"""

import base64
import gzip
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import plotly
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mixunlearn.atomic import replacing
from mixunlearn.evidence.states import EQUIVALENT, UNDECIDED
from mixunlearn.metrics.table import RELATIVE
from mixunlearn.plain import finite
from mixunlearn.wording import counted
from report.interactive import DARK, LIGHT, Panel, figures
from report.notation import ABSENT, mean_and_sd, three_digits, unit
from report.own import CAPTION, HEADING
from report.own import rows as own_rows
from report.plots.drawing import DPI
from report.plots.generator import generator_figure
from report.prediction import predicted_rows, prediction_line
from report.report_data import PARAMS, Mixtures, ReportData, rerun_command
from report.verdict import configurations, headline, metrics, sample, state, with_unit

HERE = Path(__file__).parent
HEIGHT = 450  # pixels; of a figure without a height of its own
DIGITS = 6  # significant digits in the table of trials; an export has all digits
LEADING = ("trial", "state", "epochs", "seconds")  # columns, before the objective
APART = ("study", "trial_id", "method", "mlflow_run_id", "error", *LEADING)
PAGES = ("http://", "https://")
ATTACK = (
    "mia/asr is the success of a membership attack in percent: LAF's attacker on equal numbers of "
    "plain images, mean of 5 draws; 50 is chance. LAF's own code asks about unequal numbers and "
    "crops members at random, so its numbers, and those of other attacks, cannot be compared."
)
PHASES = "The search used only val. The verdict is on test, which shares no image with val."
STYLES = {EQUIVALENT: "within", UNDECIDED: ""}  # of a verdict; any other is "beyond"
# The question that each figure answers; the figures not named here show how the search went.
QUESTIONS = {
    "won": ("against_references",),
    "mattered": ("importance", "parallel_coordinates", "slices", "contour"),
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A panel, ready for the template; `data` is empty if there is no figure.

    Args:
        id: prefix of the ids of its elements.
        title, caption: as in the panel.
        data: the figure, packed (gzip, then base64).
        height: height of the figure in pixels.
        webgl: whether it uses WebGL contexts, of which a browser has few.
    """

    id: str
    title: str
    caption: str
    data: str
    height: int
    webgl: bool


def write_page(studies: Sequence[ReportData], path: Path) -> None:
    """Write one page about one or more studies; a reader sees the old page or the new one.

    Args:
        studies: report data of at least one study.
        path: the file; its folder is created if missing.

    Raises:
        OSError: the file cannot be written.
    """
    content = page(studies).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def page(studies: Sequence[ReportData]) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        # A misspelt name in the template is an error, not an empty place.
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    script = (HERE / "page.js").read_text("utf-8")
    sections = [_study(each, f"study-{number}") for number, each in enumerate(studies, start=1)]
    title, subtitle = _title(sections)
    return environment.get_template("page.html.j2").render(
        title=title,
        subtitle=subtitle,
        studies=sections,
        policy=_policy(_plotly()[0], script),
        style=Markup((HERE / "page.css").read_text("utf-8")),
        script=Markup(script),
        plotly=_plotly()[1],
        themes=_packed(json.dumps({"light": LIGHT, "dark": DARK})),
    )


@cache
def _plotly() -> tuple[str, str]:
    """Return Plotly's script, plain and packed."""
    # From the installed package: a page must not need the network.
    source = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text("utf-8")
    return source, _packed(source)


def _policy(*scripts: str) -> str:
    """Return the content security policy of the page: run these scripts, load nothing.

    Plotly needs three exceptions: it sets styles by attribute, it compiles code for WebGL at run
    time (`unsafe-eval`, which injected markup cannot use), and it makes downloads from images in
    memory.
    """
    # By digest: an attribute or a script that a name smuggles in has another one.
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()) for each in scripts)
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _packed(text: str) -> str:
    # Without a time in it, equal data give equal pages.
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _title(studies: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    if len(studies) == 1:
        return f"Unlearning: {studies[0]['title']}", f"study {studies[0]['name']}"
    return f"Unlearning: {len(studies)} studies", ", ".join(study["name"] for study in studies)


# --- a study --------------------------------------------------------------------------------


def _study(report_data: ReportData, anchor: str) -> dict[str, Any]:
    """Return what the template shows of a study."""
    summary = report_data.summary
    columns = _columns(report_data)
    return {
        "id": anchor,
        "name": report_data.study,
        "title": summary.get("name") or report_data.study,
        "method": next((str(row.get("method") or ABSENT) for row in report_data.rows), ABSENT),
        "beside": _beside(report_data),
        **_verdict(report_data),
        "warnings": [*report_data.warnings, *filter(None, [report_data.importance.warning])],
        "notes": _notes(report_data),
        "samples": _samples(summary),
        "prediction": prediction_line(summary),
        "predicted": predicted_rows(summary),
        "own": list(own_rows(summary)),
        "own_heading": HEADING,
        "own_caption": CAPTION,
        "panels": _panels(report_data, anchor),
        "picture": report_data.mixtures and _picture(report_data.mixtures),
        "picture_words": report_data.mixtures and _picture_words(report_data.mixtures),
        "images_command": f"mixunlearn report {report_data.study}{report_data.home} --show-images",
        "objective": report_data.objective,
        "rows": _packed(json.dumps(_table(report_data, columns), separators=(",", ":"))),
        "hidden_columns": any(
            name.startswith(RELATIVE) for row in report_data.rows[:1] for name in row
        ),
        "export": f"mixunlearn export {report_data.study} --format csv{report_data.home}",
        "commands": report_data.commands,
        "facts": report_data.facts,
        "experiment": report_data.experiment,
        "citations": [citation for citation in report_data.citations if citation],
    }


def _beside(report_data: ReportData) -> list[str]:
    """Return the cells of a study in the table of all studies."""
    summary = report_data.summary
    best: Mapping[str, Any] = next(iter(summary.get("best") or []), {})
    spread, references = summary.get("spread") or {}, summary.get("references") or {}
    original, default = summary.get("original") or {}, summary.get("default") or {}
    return [
        str(len(report_data.rows)),
        three_digits(best.get("gap/avg")),
        mean_and_sd(spread.get("gap/avg")),
        mean_and_sd(references.get("gap/avg")),
        three_digits(original.get("gap/avg")),
        three_digits(default.get("gap/avg")),
        three_digits(summary.get("seconds")),
    ]


def _verdict(report_data: ReportData) -> dict[str, Any]:
    summary = report_data.summary
    shown = metrics(summary)
    judged = state(summary)
    return {
        "headline": headline(summary),
        "judgement": STYLES.get(judged, "beyond") if judged else "",
        "metrics": [_heading(metric) for metric in shown],
        "configurations": [
            {
                "name": each.name,
                "detail": each.detail,
                "style": {"references": "reference", "best 1": "winner"}.get(each.name, ""),
                "cells": [each.cell(metric) for metric in shown],
            }
            for each in (configurations(summary) if shown else ())
        ],
    }


def _heading(metric: str) -> dict[str, Any]:
    """Return a metric's name in parts, between which a line may break, and its unit."""
    return {"parts": re.findall(r"[^/_]+(?:/|_s$|_)?", metric), "unit": unit(metric)}


def _notes(report_data: ReportData) -> list[str]:
    """Return what a reader must know about the numbers."""
    states = [str(row["state"]) for row in report_data.rows]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    notes = [f"Trials: {len(states)} ({counted}).", PHASES]
    if report_data.own:
        own = ", ".join(three_digits(value) for value in sorted(report_data.own))
        notes.append(
            f"On val, {report_data.objective} of each reference against the others: {own}."
        )
    if any("mia/asr" in row for row in report_data.rows):
        notes.append(ATTACK)
    return notes


def _samples(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the scores of references and fresh seeds, one row per metric."""
    references, spread = summary.get("references") or {}, summary.get("spread") or {}
    return [
        {
            "metric": with_unit(metric),
            "references": mean_and_sd(references.get(metric)),
            "each_reference": ", ".join(sample(references.get(metric))),
            "again": mean_and_sd(spread.get(metric)),
            "each_again": ", ".join(sample(spread.get(metric))),
        }
        for metric in metrics(summary)
    ]


# --- figures --------------------------------------------------------------------------------


def _panels(report_data: ReportData, anchor: str) -> dict[str, list[Chart]]:
    """Return the charts by the question they answer."""
    panels = figures(report_data)
    answered = {name for names in QUESTIONS.values() for name in names}
    asked = {**QUESTIONS, "search": [name for name in panels if name not in answered]}
    return {
        question: [_chart(panels[name], f"{anchor}-{name}") for name in names]
        for question, names in asked.items()
    }


def _chart(panel: Panel, anchor: str) -> Chart:
    figure = panel.figure
    return Chart(
        id=anchor,
        title=panel.title,
        caption=panel.caption,
        data="" if figure is None else _packed(figure.to_json()),
        height=(figure and figure.layout.height) or HEIGHT,
        webgl=figure is not None and any(_uses_webgl(trace.type) for trace in figure.data),
    )


def _uses_webgl(kind: str) -> bool:
    return kind.endswith("gl") or kind in {"parcoords", "splom"}


def _picture(mixtures: Mixtures) -> str:
    stream = io.BytesIO()
    generator_figure(mixtures).savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return base64.b64encode(stream.getvalue()).decode()


def _picture_words(mixtures: Mixtures) -> str:
    return (
        f"{counted(len(mixtures.lams), 'pair')} of a forget and a retain image, one column per "
        f"pair, with the mask that the best trial's generator makes for them at λ, and the "
        f"mixture. Below: its mean mask by class of the retain image. A mask is the share of the "
        f"forget image in a pixel."
    )


# --- the table of trials --------------------------------------------------------------------


def _columns(report_data: ReportData) -> list[str]:
    """Return the columns to show: not those that follow from others or are shown elsewhere."""
    names = dict.fromkeys(name for row in report_data.rows for name in row)
    known = [name for name in names if name not in APART and name != report_data.objective]
    params = sorted(
        (name for name in known if name.startswith(PARAMS)),
        key=lambda name: (
            name.removeprefix(PARAMS) not in report_data.axes
        ),  # what varies comes first
    )
    measured = [name for name in known if not name.startswith((PARAMS, *RELATIVE))]
    errors = ["error"] if any(row.get("error") for row in report_data.rows) else []
    return [*LEADING, report_data.objective, *params, *measured, *errors]


def _table(report_data: ReportData, columns: Sequence[str]) -> dict[str, Any]:
    """Return the trials column by column, as page.js reads them."""
    # A tracking address may be a file or a database, which no page should link to.
    links = {trial: url for trial, url in report_data.links.items() if url.startswith(PAGES)}
    return {
        "columns": [_column(report_data, name) for name in columns],
        "links": [links.get(row["trial"]) for row in report_data.rows],
        "commands": [rerun_command(report_data, row["trial"]) for row in report_data.rows],
    }


def _column(report_data: ReportData, name: str) -> dict[str, Any]:
    values = [_cell(row.get(name)) for row in report_data.rows]
    short = name.removeprefix(PARAMS)
    return {
        "name": short,
        "label": "error" if name == "error" else with_unit(short) if short == name else short,
        "text": any(isinstance(value, str) for value in values),
        "wide": name == "error",
        "first": name == report_data.objective,
        "values": values,
    }


def _cell(value: object) -> object:
    """Return a value as the page shows it: numbers rounded, everything else as text.

    A missing or non-finite value becomes `None`; a boolean becomes a word, unlike in `plain`.
    """
    # First, because a bool is an int.
    if isinstance(value, bool) or value is None:
        return None if value is None else str(value)
    if isinstance(value, int | float):
        number = finite(value)
        if number is None or isinstance(value, int):
            return None if number is None else value
        return float(f"{number:.{DIGITS}g}")
    return str(value)
