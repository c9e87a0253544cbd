"""The card of a model that a request has changed: what it forgot, what is known of the result."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mixunlearn.wording import counted
from report.notation import (
    ABSENT,
    difference,
    markdown_table,
    markdown_text,
    mean_and_sd,
    signed,
    three_digits,
    unit,
)

UNVERIFIED = "unverified"
LIMITS = (
    "Only these metrics were measured, on the data named here. Another metric, or another attack "
    "than `mia/asr`, may show more.",
    "None of this proves erasure in a legal sense.",
)


def card(
    record: Mapping[str, Any],
    *,
    words: str,
    margins: Mapping[str, float],
    reasons: Sequence[str],
    command: str,
) -> str:
    """Return the card as Markdown; it names no image and no id.

    Args:
        record: the deletion record as plain data.
        words: what was forgotten.
        margins: metric of the verdict -> largest bias that counts as equivalent.
        reasons: of the prediction; empty if there is none.
        command: the command that carried the request out.
    """
    sections = {
        f"{markdown_text(record['request'])}: a model that was made to forget": _opening(
            record, words
        ),
        "What is known of the result": _result(record, margins, reasons),
        "Limits": _list(LIMITS),
        "How": markdown_table(("", ""), _provenance(record)),
        "Hyperparameters": markdown_table(
            ("name", "value"),
            [
                (markdown_text(name), markdown_text(str(value)))
                for name, value in record["configuration"]["hyperparameters"].items()
            ],
        ),
        "Use": (
            "The weights have the keys of the file that was given: load them as that one, for "
            "example `model.load_state_dict(safetensors.torch.load_file('model.safetensors'))`."
        ),
        "Reproduce": f"```\n{command}\n```",
    }
    marks = ["#"] + ["##"] * (len(sections) - 1)
    filled = zip(marks, sections.items(), strict=True)
    return "\n".join(f"{mark} {title}\n\n{text}\n" for mark, (title, text) in filled if text)


def headline(record: Mapping[str, Any]) -> str:
    """Return what is known of the result in one sentence; no green word without a test."""
    verdict, prediction = record["verdict"], record["prediction"]
    if verdict["state"] != UNVERIFIED:
        return f"compared with retrained models: {verdict['state']}"
    if prediction is None:
        return "unverified: nothing retrained says how near it is to retraining"
    proxies = counted(prediction["proxies"], "proxy request")
    return f"unverified; {prediction['state']}, by {proxies}"


def rows(record: Mapping[str, Any], margins: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Return the table of the metrics: before, after, retrained, predicted bias, margin.

    First those of the verdict, then those on unseen images near to the forget set; the record has
    more.
    """
    before, after, retrained = (record["measured"][key] for key in ("before", "after", "retrained"))
    predicted = (record["prediction"] or {}).get("metrics", {})
    return [
        (
            name,
            unit(name),
            three_digits(before.get(name)),
            three_digits(after[name]),
            _spread(retrained.get(name, ())),
            _interval(predicted.get(name)),
            difference(margins[name]) if name in margins else ABSENT,
        )
        for name in (*margins, *NEAR)
        if name in after
    ]


NEAR = ("near/acc", "near/class")
HEADING = ("metric", "unit", "before", "after", "retrained", "predicted bias", "margin")


def costs(record: Mapping[str, Any]) -> str:
    """Return in one sentence what unlearning took, and what retraining takes."""
    seconds, retraining = record["seconds"], record["retraining_seconds"]
    took = f"unlearning took {three_digits(seconds)} s"
    if not retraining:
        return f"{took}; how long retraining takes is not known"
    ratio = seconds / retraining
    said = f"{took}, one retraining {three_digits(retraining)} s: {three_digits(ratio)} of it"
    return f"{said}; retraining is cheaper" if ratio > 1 else said


def _opening(record: Mapping[str, Any], words: str) -> str:
    state = markdown_text(headline(record))
    return f"Made to forget {markdown_text(words)}. **{state[:1].upper()}{state[1:]}.**"


def _result(
    record: Mapping[str, Any],
    margins: Mapping[str, float],
    reasons: Sequence[str],
) -> str:
    verdict = record["verdict"]
    said = [*verdict["reasons"], *(f"prediction: {reason}" for reason in reasons), costs(record)]
    cells = [(f"`{name}`", *others) for name, *others in rows(record, margins)]
    table = markdown_table(HEADING, cells)
    about = (
        "Measured on all images of the forget set, on retained ones, and on images that no model "
        "was trained on. `before` is the model that was given, `after` the one that was written. "
        "A bias is unlearned − retrained; the predicted interval holds for 90 % of random requests "
        "of the same size and kind."
    )
    return "\n\n".join((_list([markdown_text(each) for each in said]), about, table))


def _provenance(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    configuration, code = record["configuration"], record["code"]
    yield "method", markdown_text(configuration["method"])
    yield "configuration from", markdown_text(configuration["from"])
    if configuration["chosen"]:
        yield "chosen because", markdown_text(configuration["chosen"])
    yield "epochs", str(configuration["epochs"])
    yield "model", markdown_text(record["model"]["name"])
    yield "weights before", record["model"]["before"]
    yield "weights after", record["model"]["after"]
    yield "data", markdown_text(f"{record['data']['source']}, digest {record['data']['digest']}")
    yield "record", f"number {record['number']}, digest {record['digest']}"
    yield "finished", record["finished"]
    yield "code", markdown_text(f"{code['version']} ({code['commit']}), on {code['device']}")


def _spread(values: Sequence[float]) -> str:
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    found = {"mean": float(np.mean(values)), "sd": sd, "n": len(values)} if values else None
    return mean_and_sd(found)


def _interval(predicted: Mapping[str, Any] | None) -> str:
    if predicted is None or predicted["bias"] is None:
        return ABSENT
    low, high = predicted["low"], predicted["high"]
    if low is None or high is None:
        return signed(predicted["bias"])
    bias, *ends = (signed(each) for each in (predicted["bias"], low, high))
    return f"{bias} ({' to '.join(ends)})"


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
