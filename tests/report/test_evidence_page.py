"""The page of `mixunlearn evidence`, on invented evidence."""

import io
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mixunlearn.evidence.states import BETTER, EQUIVALENT, HARMFUL, NO_BETTER, STATES, UNDECIDED
from report.evidence import headline, limits, page, warnings, write_evidence
from report.evidence_figures import biases_figure, by_example_figure
from report.evidence_table import HEADINGS, rows, terminal_table
from report.notation import ABSENT

EVIL = "<img src=x onerror=alert(1)> $x [b]{{ 7*7 }}"
MARGINS = {"acc/train_forget": 2.0, "acc/test_retain": 2.0, "acc/test_forget": 2.0, "mia/asr": 5.0}
REASONS = ["3 of 4 metrics within the margins", "the distance is smaller", "it took 0.43"]


def measured(value: float | None, spread: float | None = 1.0, **more: Any) -> dict[str, Any]:
    """A number with its interval; without a spread, the interval is unknown."""
    ends: dict[str, float | None] = {"low": None, "high": None}
    if value is not None and spread is not None:
        ends = {"low": value - spread, "high": value + spread}
    return {"value": value, **ends, **more}


def on_a_set(state: str, bias: float | None, spread: float | None = 1.0) -> dict[str, Any]:
    """What is known of a method on a forget set; its biases are the same in all metrics."""
    metric = measured(bias, spread, margin=2.0, p=0.0004, state="undecided")
    raw = {"unlearned": 3.0, "retrained": 2.0, "p": 0.2, "unit": "pp"}
    names = (*MARGINS, "mia/svc_confidence", "relearn/retain", "relearn/forget", "probe/forget")
    area = {"auc": measured(0.54, 0.02), "excess_auc": measured(0.04, 0.03)}
    rates = {"tpr_1": measured(2.0), "excess_tpr_1": measured(1.0)}
    verdict = {
        "state": state,
        "reasons": REASONS,
        "metrics": dict.fromkeys(MARGINS, metric),
        "improvements": {},
    }
    return {
        "verdict": verdict if state else {},
        "measures": {name: measured(bias, spread, **raw) for name in (*names, "near/acc")},
        "per_example": {"forget": {**area, **rates}, "retain": {**area, **rates}},
        "contest": {"score": 0.15, "ceiling": 0.21},
        "tow": {"value": 0.97, "own": 0.98},
        "klom": None,
    }


def method(name: str, state: str, bias: float | None = 1.0, **changes: Any) -> dict[str, Any]:
    return {
        "method": name,
        "study": "mnist-class-1a2b",
        "trial": 7,
        "parameters": {"lr": 1e-3},
        "epochs": 6,
        "state": state,
        "group": "a",
        "distance": measured(0.8, 0.5),
        "cost": 0.43,
        "sets": {"B": on_a_set(state, bias), "C": on_a_set(state, bias and 2 * bias)},
        **changes,
    }


NOTHING = method(
    *("doing nothing", "", 97.0), study="", trial=None, parameters={}, epochs=None, cost=None
)


def evidence(*contenders: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    known = contenders or (method("mixunlearn", BETTER),)
    return {
        "name": "mnist-class",
        "profile": "quick",
        "command": "mixunlearn evidence experiments/mnist_class.yaml",
        "data": "mnist5k, digest 0f1e2d3c",
        "model": "cnn",
        "labels": "aware",
        "tuned_on": "all 400 training images of class 0",
        "originals": 5,
        "references": 5,
        "looks": 1,
        "left_out": [],
        "forget_sets": [
            {"name": "B", "words": "all 401 images of class 1", "images": 401, "key": "ab12cd34"},
            {"name": "C", "words": "all 399 images of class 2", "images": 399, "key": "cd34ab12"},
        ],
        "margins": MARGINS,
        "methods": [*known, NOTHING],
        **changes,
    }


SCOPE = "on 2 forget sets that no search has seen (5 originals, 5 references)"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (EQUIVALENT, f"m is equivalent to retraining, {SCOPE}."),
        (BETTER, f"m is better than doing nothing, not equivalent to retraining, {SCOPE}."),
        (NO_BETTER, f"m is no better than doing nothing, {SCOPE}."),
        (HARMFUL, f"m is harmful: utility is lost, {SCOPE}."),
        (UNDECIDED, f"The verdict on m is undecided, {SCOPE}."),
    ],
)
def test_the_first_line_is_the_verdict_on_a_single_method(state: str, said: str) -> None:
    assert headline(evidence(method("m", state))) == said


@pytest.mark.parametrize("state", STATES)
def test_the_colour_of_success_belongs_to_equivalence_alone(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("report.evidence._picture", lambda *_: "")  # drawing takes a second
    html = page(evidence(method("m", state)), Path())
    assert headline(evidence(method("m", state))) in html
    assert ('class="verdict within"' in html) == (state == EQUIVALENT)
    assert ('class="winner"' in html) == (state == EQUIVALENT)


def test_the_first_line_is_the_best_verdict_of_several_methods() -> None:
    good, bad = method("good", EQUIVALENT), method("bad", HARMFUL)
    better, unsure = method("better", BETTER), method("unsure", UNDECIDED)
    assert headline(evidence(bad, good)) == f"good is equivalent to retraining, {SCOPE}."
    two = evidence(good, bad, method("too", EQUIVALENT))
    assert headline(two) == f"good, too are equivalent to retraining, {SCOPE}."
    none = f"No method is shown to be equivalent to retraining, {SCOPE}; "
    best = "better is better than doing nothing, not equivalent to retraining."
    assert headline(evidence(bad, better, unsure)) == none + best
    assert headline(evidence(bad, unsure)) == f"{none}the verdict on unsure is undecided."


def test_without_a_result_there_is_no_verdict() -> None:
    absent = method("m", "", absent="all trials failed", sets={})
    assert headline(evidence(absent)) == "There is no verdict on m: all trials failed."
    assert headline(evidence(absent, absent)) == "There is no verdict on any method."
    assert warnings(evidence(absent)) == ["No result of m: all trials failed."]
    html = page(evidence(absent, methods=[absent]), Path())
    assert html.count("There is no figure") == 3
    assert "no result" in html


def test_looks_and_what_is_left_out_come_first() -> None:
    left_out = ["class 3: the study mnist-class-1a2b has searched on it"]
    first, second = warnings(evidence(looks=3, left_out=left_out))
    assert "looked at test 3 times" in first
    assert second == f"Left out: {left_out[0]}."
    assert not warnings(evidence())


def test_each_cell_shows_what_speaks_most_against_a_method() -> None:
    other = on_a_set(EQUIVALENT, 3.0)
    other["per_example"]["forget"]["excess_auc"] = measured(0.2, 0.1)
    other["contest"] = {"score": 0.1, "ceiling": 0.2}
    sets = {"B": on_a_set(BETTER, -1.0), "C": other}
    row, nothing = rows(evidence(method("m", BETTER, sets=sets, cost=1.7)))
    cells = {name: (cell.text, cell.below) for name, cell in zip(HEADINGS, row.cells, strict=True)}
    assert cells == {
        "state": (BETTER, f"B: {BETTER}; C: {EQUIVALENT}"),
        "group": ("a", ""),
        "distance (pp)": ("0.80", "0.30 to 1.30"),
        # Of acc/train_forget, acc/test_… all alike: a bias of 3 with a margin of 2.
        "farthest bias (margins)": ("+1.5", "acc/train_forget, C"),
        "attack by example": ("+0.20", "+0.10 to +0.30, C"),
        "contest score": ("0.10", "of 0.20, C"),
        "relearning (pp)": ("+3.00", "+2.00 to +4.00, C"),
        "probe (pp)": ("+3.00", "+2.00 to +4.00, C"),
        "time / retraining": ("1.70", "slower than retraining"),
    }
    # Doing nothing has no verdict, but its measures are known.
    assert nothing.cells[3].text == "+97.0"
    assert nothing.cells[-1].text == ABSENT


def test_unknown_numbers_are_a_dash() -> None:
    empty = on_a_set(UNDECIDED, None)
    unknown: dict[str, Any] = {
        "verdict": {},
        "measures": {},
        "per_example": {},
        "contest": None,
        "klom": None,
    }
    sets = {"B": empty, "C": {**unknown, "tow": {"value": None, "own": None}}}
    bare = method(
        *("m", UNDECIDED), sets=sets, cost=None, group="", distance=None, trial=None, epochs=None
    )
    empty["per_example"] = {"forget": {"auc": measured(None)}, "retain": {}}
    empty["contest"] = {"score": None, "ceiling": None}
    found = evidence(bare, originals=None, looks=None, methods=[bare])
    assert [cell.text for cell in rows(found)[0].cells] == [UNDECIDED, *[ABSENT] * 8]
    html = page(found, Path())
    assert "None" not in html
    assert "nan" not in html
    assert biases_figure(found, "B") is None
    assert by_example_figure(found) is None


class Elements(HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_names_are_text_and_nothing_is_loaded() -> None:
    evil = method(EVIL, BETTER, parameters={EVIL: EVIL}, absent=EVIL)
    sets = [{"name": "B", "words": EVIL, "images": 1, "key": EVIL}]
    html = page(evidence(evil, name=EVIL, command=EVIL, left_out=[EVIL], forget_sets=sets), Path())
    elements = Elements(html).found
    assert "script" not in {tag for tag, _ in elements}
    assert not [each for _, each in elements if any(name.startswith("on") for name in each)]
    for tag, attributes in elements:
        for name in ("src", "href"):
            source = attributes.get(name)
            ours = ("data:", "#", "docs/", "site/")  # the docs as pages, if they were built
            assert source is None or source.startswith(ours), (tag, source)
    assert "<img src=x" not in html
    assert "7*7" in html  # not computed
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")


@pytest.mark.parametrize("count", [1, 18])
def test_all_methods_and_forget_sets_are_there(count: int, tmp_path: Path) -> None:
    made = [method(f"method {n}", STATES[n % 5], n / 4) for n in range(count)]
    found = evidence(*made)
    path = tmp_path / "new" / "evidence.html"
    write_evidence(found, path)
    html = path.read_text()
    for each in made:
        for name in ("B", "C"):
            assert f"{each['method']} on forget set {name}: {each['state']}" in html
    assert html.count("<svg ") == 3
    for words in ("Trial 7 of the study mnist-class-1a2b, 6 epochs, lr = 0.001.", *REASONS):
        assert words[1:] in html
    for text in ("ab12cd34", found["command"], "evidence.parquet", "accuracy on unseen images"):
        assert text in html
    figure = biases_figure(found, "B")
    assert figure
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [*(each["method"] for each in made), "doing nothing"]
    # Doing nothing is off the scale: 97 pp are 48.5 margins.
    assert [text.get_text() for text in figure.axes[0].texts] == ["+48.5"]


def test_the_limits_name_margins_forget_sets_and_models() -> None:
    said = " ".join(limits(evidence()))
    assert "no certificate" in said
    assert "mia/asr ±5" in said
    assert "other than B, C" in said
    assert "5 originals, 5 references" in said


def test_a_terminal_shows_a_row_for_each_method() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal_table(evidence(method("m [b]", BETTER, cost=2.0))))
    text = console.export_text()
    assert "m [b]" in text
    assert "doing nothing" in text
    assert "+1.0 (acc/train_forget, C)" in text
    assert "2.00 (slower than retraining)" in text
