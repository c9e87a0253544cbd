"""The card of an unlearned model: what it forgot, how near it is to retraining, its limits."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixunlearn.wording import counted
from report.notation import (
    ABSENT,
    difference,
    markdown_table,
    markdown_text,
    mean_and_sd,
    score,
    three_digits,
    unit,
)
from report.own import CAPTION, HEADING
from report.own import rows as own_rows
from report.report_data import ReportData, rerun_command
from report.verdict import BESIDE, has_scores, headline

LIMITS = (
    "Only these metrics were measured, on the data named here. Close in these metrics does not "
    "mean equal: another metric may show a difference.",
    "`mia/asr` is one membership attack. Other attacks may find more.",
    "A small gap is evidence, not a guarantee. It does not prove erasure in a legal sense.",
    "A gap is relative to retrained references. Their number and their spread show how much of "
    "it is chance.",
)
USE = """\
```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{name}@candidate")  # or @champion, or this folder
probabilities = model.predict(pixels)  # uint8 (n, channels, height, width) -> float32 (n, classes)
```

The weights alone, without MLflow, for any device:

```python
import json
from pathlib import Path
from safetensors.numpy import load_file
from mixunlearn.problem import Architecture

architecture = Architecture(**json.loads(Path("architecture.json").read_text()))
model = architecture.load(load_file("model.safetensors")).eval()  # [0, 1] -> logits
```"""


def model_card(report_data: ReportData) -> str:
    """Return the card of a study's best trial as Markdown, without paths of this machine.

    Args:
        report_data: data of a study with a verdict and at least one trial that did not fail.
    """
    best = report_data.summary["best"][0]
    name, trial = str(report_data.summary["name"]), int(best["trial"])
    sections = {
        f"{markdown_text(name)}, trial {trial}: an unlearned classifier": _opening(report_data),
        "How near it is to retraining": _nearness(report_data, best),
        "How near the recipe comes to your own model": _own(report_data.summary),
        "Limits": _list([*LIMITS, *map(markdown_text, report_data.warnings)]),
        "What was forgotten, and how": markdown_table(("", ""), _provenance(report_data, best)),
        "Hyperparameters": markdown_table(("name", "value"), _parameters(best)),
        "Use": USE.format(name=name),
        "Reproduce": f"```\n{rerun_command(report_data, trial)}\n```",
        "Sources": _list([markdown_text(text) for text in report_data.citations if text]),
    }
    marks = ["#"] + ["##"] * (len(sections) - 1)
    filled = zip(marks, sections.items(), strict=True)
    return "\n".join(f"{mark} {title}\n\n{text}\n" for mark, (title, text) in filled if text)


def _opening(report_data: ReportData) -> str:
    forgotten = markdown_text(report_data.facts.get("forget set", "part of its training images"))
    verdict = markdown_text(headline(report_data.summary))
    return f"Made to forget {forgotten}. Its configuration, run under fresh seeds: **{verdict}**"


def _provenance(report_data: ReportData, best: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "study", markdown_text(report_data.study)
    yield "trial", f"{best['trial']}, {counted(best['epochs'], 'epoch')}"
    for name, value in report_data.facts.items():
        yield markdown_text(name), markdown_text(value)


def _parameters(best: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = {name: value for name, value in best["params"].items() if value is not None}
    return [(markdown_text(name), markdown_text(str(value))) for name, value in given.items()]


def _nearness(report_data: ReportData, best: Mapping[str, Any]) -> str:
    summary = report_data.summary
    heading = ("on test", "unit", "this model", "gap", "z", "fresh seeds", "references", "original")
    table = markdown_table(heading, [_metric(name, summary, best) for name in _metrics(summary)])
    return (
        "On `test`, which the search did not use. The gap is the distance to the references' "
        "mean; z is the signed distance in their sd; a distribution is mean ± sd (n).\n\n" + table
    )


def _own(summary: Mapping[str, Any]) -> str:
    found = list(own_rows(summary))
    return f"{CAPTION}\n\n{markdown_table(HEADING, found)}" if found else ""


def _metrics(summary: Mapping[str, Any]) -> list[str]:
    known = {*summary["best"][0], *summary["spread"]}
    return [*summary["gap_metrics"], *(name for name in BESIDE if name in known)]


def _metric(name: str, summary: Mapping[str, Any], best: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"`{name}`",
        unit(name),
        three_digits(best.get(name)),
        difference(best.get(f"gap/{name}")),
        score(best.get(f"z/{name}")) if has_scores(summary) else ABSENT,
        mean_and_sd(summary["spread"].get(name)),
        mean_and_sd(summary["references"].get(name)),
        three_digits(summary["original"].get(name)),
    )


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
