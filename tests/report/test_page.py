"""report.html, as text and in a real browser."""

import base64
import gzip
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from report.interactive import figures
from report.page import page, write_page
from report.report_data import PARAMS, Axis, Importance, Mixtures, ReportData, Share

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

EVIL = "</script><img src=x onerror=\"document.title='evil'\">{{ 7*7 }}'&"
QUESTIONS = [
    "What won, and by how much?",
    "Can I trust it?",
    "Which hyperparameters mattered?",
    "How did the search go?",
    "What does the generator do?",
    "Which trial is which?",
    "How do I reproduce this?",
]
FILTERS = {
    "state=failed": {"9"},
    "STATE=complete lr<5e-5": {"0", "2", "3", "5"},
    "different steps>=0": set[str](),
    "epochs=2 pairing=different": {"1", "7", "13"},
    "loss is nan": {"9"},
}
REFUSED = {
    "nothing<3 epochs=2 pairing=different": "Left out: nothing<3. There is no column “nothing”.",
    "epochs=2 pairing=different lr<abc": "Left out: lr<abc. “abc” is not a number.",
    "epochs=2 lr< pairing=different": "Left out: lr<. A value is missing after “<”.",
}


def row(number: int, *, evil: str = "") -> dict[str, Any]:
    """A trial; every tenth failed, and the best is number 7."""
    failed = number % 10 == 9
    return {
        "study": f"small-1234abcd{evil}",
        "trial": number,
        "trial_id": f"{number:08x}",
        "method": "mixunlearn",
        "state": "failed" if failed else "pruned" if number % 3 == 1 else "complete",
        "epochs": 1 + number % 6,
        "seconds": 10.0 + number / 7,
        "params/lr": 1e-5 * 1.37**number if number < 20 else 1e-3,
        "params/pairing": ("any", f"different{evil}")[number % 2],
        "params/steps": None if number % 4 else number,
        "acc/val": None if failed else 90.0 + number % 8,
        "mia/asr": None if failed else 50.0 + number,
        "gap/avg": None if failed else 1.0 + abs(number - 7) / 3,
        "z/mia/asr": None if failed else 0.5,
        "mlflow_run_id": f"{number:032x}",
        "error": f"RuntimeError: loss is nan{evil}" if failed else None,
    }


def mixtures(evil: str = "") -> Mixtures:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    masks = rng.random((2, 8, 8)).astype(np.float32)
    return Mixtures(
        forget=images,
        retain=images,
        mixed=images,
        masks=masks,
        lams=np.array([0.1, 0.9], np.float32),
        forget_classes=["0", f"0{evil}"],
        retain_classes=["1", "2"],
        mean_masks=masks,
        mean_classes=["1", "2"],
    )


def report_data(summary: dict[str, Any], trials: int = 16, *, evil: str = "") -> ReportData:
    rows = [row(number, evil=evil) for number in range(trials)]
    name = f"small-1234abcd{evil}"
    return ReportData(
        summary={**summary, "study": name, "name": f"small{evil}"},
        rows=rows,
        curves={
            each["trial"]: {epoch: each["gap/avg"] + 1 / epoch for epoch in range(1, 4)}
            for each in rows
            if each["gap/avg"] is not None
        },
        ended=list(range(trials)),
        axes={
            "lr": Axis(low=1e-6, high=1e-2, log=True, default=1e-4),
            "pairing": Axis(options=("any", f"different{evil}"), default="any"),
            "steps": Axis(low=0, high=100, default=8),
        },
        objective="gap/avg",
        own=(0.4, 0.6, 0.9),
        original=50.0,
        importance=Importance(
            shares={
                name: Share(mean=mean, low=mean / 2, high=min(1.0, 2 * mean))
                for name, mean in {"lr": 0.6, "pairing": 0.3, "steps": 0.1}.items()
            },
            trials=trials,
            method=f"PED-ANOVA{evil}",
            warning=f"few trials{evil}",
        ),
        mixtures=mixtures(evil),
        experiment=f"name: small\n# {evil}\n",
        facts={f"code{evil}": f"0123abcd{evil}"},
        commands={f"resume{evil}": f"mixunlearn sweep '{evil}'"},
        warnings=[f"Only 2 references{evil}"],
        links={3: "http://127.0.0.1:5000/#/runs/3", 4: "javascript:alert(1)"},
        citations=[f"Peng et al.{evil}", ""],
    )


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and the text of headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() and re.match("<h[1-6]", self.get_starttag_text() or ""):
            level, text = self.headings.pop()
            self.headings.append((level, text + data.strip()))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def unpacked(html: str, name: str) -> Any:
    """The data that the page contains under this id."""
    (found,) = re.findall(f'<script type="application/gzip" id="{name}">([^<]*)</script>', html)
    return json.loads(gzip.decompress(base64.b64decode(found)))


# --- as text ---------------------------------------------------------------------------------


def test_its_sections_are_the_reviewers_questions(summary: dict[str, Any]) -> None:
    headings = Elements(page([report_data(summary)], Path())).headings
    assert [text for level, text in headings if level == 2] == QUESTIONS
    assert all(below - above <= 1 for (above, _), (below, _) in pairwise(headings))


def test_the_verdict_is_a_word_with_reasons_and_a_table(summary: dict[str, Any]) -> None:
    html = page([report_data(summary)], Path())
    assert said(html) == ["Better than doing nothing, not equivalent", "Trial 11 of 16."]
    reasons = re.findall("<dt>([^<]*)</dt><dd>([^<]*)</dd></div>", html)
    assert reasons == [
        ("Metrics", "2 of 4 metrics within the margins."),
        ("Doing nothing", "Smaller."),
        ("Cost", "It took long."),
    ]
    assert 'class="verdict partly"' in html
    for shown in ("98.03 ± 0.15 (3)", "Δ 51.9", "trial 11 again", "fresh seeds"):
        assert shown in html


def said(html: str) -> list[str]:
    """The paragraphs of the verdict."""
    box = html.partition('<div class="verdict')[2].partition("</div>")[0]
    return re.findall("<p[^>]*>([^<]*)</p>", box)


def test_z_is_shown_only_with_enough_references(
    summary: dict[str, Any], five_references: dict[str, Any]
) -> None:
    assert "z +26.2" not in page([report_data(summary)], Path())
    assert "Δ 51.9, z +26.2" in page([report_data(five_references)], Path())


@pytest.mark.parametrize(
    ("state", "style"),
    [
        ("equivalent to retraining", "within"),
        ("better than doing nothing, not equivalent", "partly"),
        ("no better than doing nothing", "beyond"),
        ("harmful (utility lost)", "beyond"),
        ("undecided", ""),
    ],
)
def test_only_equivalence_is_green(summary: dict[str, Any], state: str, style: str) -> None:
    summary["verdict"]["state"] = state
    html = page([report_data(summary)], Path())
    assert said(html) == [state[0].upper() + state[1:], "Trial 11 of 16."]
    assert f'class="verdict {style}"' in html


def test_a_study_of_an_earlier_version_has_no_verdict(summary: dict[str, Any]) -> None:
    del summary["verdict"]
    html = page([report_data(summary)], Path())
    assert "judged by an earlier version: run its sweep again" in html
    assert 'class="verdict "' in html


def test_the_default_is_listed_once(summary: dict[str, Any]) -> None:
    names = '<th scope="row">(default|best 1)<small>([^<]*)</small>'
    html = page([report_data(summary)], Path())
    assert re.findall(names, html) == [("default", "trial 0"), ("best 1", "trial 11")]
    summary["default"] = {**summary["best"][0]}
    html = page([report_data(summary)], Path())
    assert re.findall(names, html) == [("best 1", "trial 11, the default")]
    figure = figures(report_data(summary))["against_references"].figure
    assert figure
    assert "best = default" in figure.layout.yaxis.ticktext
    assert not any(text.startswith("default") for text in figure.layout.yaxis.ticktext)


def test_it_links_to_the_model_to_mlflow_and_to_the_documentation(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "studies" / "small"
    run = "http://127.0.0.1:5000/#/runs/1"
    commands = {"MLflow's pages": "mixunlearn ui"}
    one = replace(
        report_data(summary), model=folder / "model" / "trial-11", run=run, commands=commands
    )
    links = Elements(page([one], folder)).named("a")
    addresses = [str(link["href"]) for link in links if not str(link["href"]).startswith("#")]
    assert addresses[:2] == ["model/trial-11", run]
    assert (folder / addresses[2]).resolve().name in {"review.md", "review.html"}
    assert Path(os.path.normpath(folder / addresses[2])).is_file()
    one = replace(one, run="sqlite:///runs/mlflow.db")
    html = page([one], tmp_path)
    assert '<a href="studies/small/model/trial-11"' in html
    assert "The study in MLflow: <code>mixunlearn ui</code>" in html


def test_no_text_becomes_markup(summary: dict[str, Any]) -> None:
    both = report_data(summary, evil=EVIL), report_data(summary)
    html, harmless = (page([each], Path()) for each in both)
    assert "<img src=x" not in html
    assert "{{ 7*7 }}" in html
    counted = [[tag for tag, _ in Elements(each).found] for each in (html, harmless)]
    assert counted[0] == counted[1]


def test_a_browser_may_run_its_own_scripts_alone(summary: dict[str, Any]) -> None:
    elements = Elements(page([report_data(summary)], Path()))
    (policy,) = (meta["content"] for meta in elements.named("meta") if "http-equiv" in meta)
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]
    scripts = [script.get("type") for script in elements.named("script")]
    assert scripts.count(None) == 1
    assert set(scripts) == {None, "application/gzip"}
    assert not any("src" in script for script in elements.named("script"))
    assert all(str(image["src"]).startswith("data:") for image in elements.named("img"))


def test_every_anchor_is_there_once(summary: dict[str, Any]) -> None:
    one = report_data(summary)
    elements = Elements(page([one, one], Path()))
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {str(link["href"]) for link in elements.named("a")}
    assert {link.removeprefix("#") for link in wanted if link.startswith("#")} <= set(ids)
    assert {box["data-figure"] for _, box in elements.found if "data-figure" in box} <= set(ids)


def test_several_studies_stand_side_by_side(summary: dict[str, Any]) -> None:
    other = report_data({**summary, "spread": None, "default": None, "seconds": 12.0}, trials=5)
    html = page([report_data(summary), other], Path())
    headings = Elements(html).headings
    assert [text for level, text in headings if level == 3] == [*QUESTIONS, *QUESTIONS]
    table = html.partition("Studies side by side</h2>")[2].partition("</table>")[0]
    lines = (re.findall(r"<td[^>]*>([^<]*)", line) for line in table.split("<tr>")[2:])
    (state, *first), (_, *second) = lines
    assert state == "Better than doing nothing, not equivalent"
    measured = ["0.46 ± 0.18 (3)", "62.8"]
    assert first == ["mixunlearn", "16", "0.30", "1.07 ± 0.25 (3)", *measured, "1.24", "260"]
    assert second == ["mixunlearn", "5", "0.30", "–", *measured, "–", "12.0"]


def test_what_proxies_predict_is_a_sentence_and_a_table(summary: dict[str, Any]) -> None:
    assert "The next request" not in page([report_data(summary)], Path())
    names = summary["gap_metrics"]
    summary["verdict"]["metrics"] = {name: {"margin": 2.0} for name in names}
    same = {"differences": [0.1, -0.2, 0.1], "resolution": 0.1}
    far = {"differences": [9.0, 9.5, 9.25], "resolution": 0.1}
    summary["proxies"] = {
        "images": 37,
        "kind": "ids",
        "metrics": {name: far if name == "mia/asr" else same for name in names},
    }
    html = page([report_data(summary)], Path())
    said = "The next request: a random one of the same kind and size (ids, 37 images): no"
    assert said in html
    assert "3 proxies; 3 of 4 metrics predicted within the margins; predicted outside" in html
    assert "+9.00, +9.50, +9.25" in html
    assert html.count('<td class="text">within</td>') == 3
    assert html.count('<td class="text">outside</td>') == 1


@pytest.mark.parametrize("trials", [0, 1, 16])
def test_without_a_verdict_it_says_so(trials: int) -> None:
    empty = ReportData(
        summary={"study": "small-1234abcd"},
        rows=[row(number) for number in range(trials)],
        curves={},
        ended=[],
        axes={},
        objective="gap/avg",
    )
    html = page([empty], Path())
    assert "There is no verdict yet" in html
    assert "No images are shown: they may have to be forgotten" in html
    assert len(unpacked(html, "study-1-rows")["commands"]) == trials


def test_if_all_trials_failed_it_says_so(summary: dict[str, Any]) -> None:
    failed = [{**row(9), "trial": number} for number in range(3)]
    none = report_data({**summary, "best": [], "spread": [], "default": None})
    html = page([replace(none, rows=failed, curves={}, mixtures=None)], Path())
    assert "No trial has a result." in html


def test_the_table_of_trials_holds_plain_values(summary: dict[str, Any]) -> None:
    rows = [{**row(number), "gap/avg": math.inf, PARAMS + "real": True} for number in range(6)]
    table = unpacked(page([replace(report_data(summary), rows=rows)], Path()), "study-1-rows")
    columns = {column["name"]: column for column in table["columns"]}
    assert columns["gap/avg"]["values"] == [None] * 6
    assert columns["real"]["values"] == ["True"] * 6
    assert columns["seconds"]["values"][1] == 10.1429
    assert not {"z/mia/asr", "study", "error"} & columns.keys()
    assert table["links"] == [None, None, None, "http://127.0.0.1:5000/#/runs/3", None, None]
    assert table["commands"][2] == "mixunlearn rerun small-1234abcd/2"


def test_a_page_that_cannot_be_written_leaves_nothing(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    target = tmp_path / "report.html"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        write_page([report_data(summary)], target)
    assert list(tmp_path.iterdir()) == [target]


# --- in a browser ----------------------------------------------------------------------------


@dataclass(kw_only=True)
class Reader:
    """A browser that opens pages and records errors and requests to the network."""

    browser: "Browser"
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: Path, **look: Any) -> "Page":
        page = self.browser.new_page(**look)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".trials tbody tr")
        return page

    def _hear(self, message: "ConsoleMessage") -> None:
        if message.type in {"error", "warning"} and "GL Driver Message" not in message.text:
            self.complaints.append(message.text)


@pytest.fixture
def reader(browser: "Browser") -> Iterator[Reader]:
    reader = Reader(browser=browser)
    yield reader
    assert reader.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in reader.requests)
    for context in browser.contexts:
        context.close()


@pytest.fixture
def file(summary: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    write_page([report_data(summary)], path)
    return path


def shown(page: "Page", column: int) -> list[str]:
    return page.locator(f".trials tbody tr > :nth-child({column})").all_inner_texts()


def draw_all(page: "Page") -> None:
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for()
        assert "WebGL is not supported" not in chart.inner_text()


@pytest.mark.browser
def test_the_table_of_trials_answers(reader: Reader, file: Path) -> None:
    page = reader.open(file)
    check_sorting(page)
    check_filter(page)
    check_copying(page)
    links = page.locator(".trials tbody a").all()
    assert [link.get_attribute("href") for link in links] == ["http://127.0.0.1:5000/#/runs/3"]


def check_sorting(page: "Page") -> None:
    """A click on a heading sorts, and missing values come last."""
    assert shown(page, 1)[0] == "7"  # the best comes first
    assert page.locator("th[aria-sort]").inner_text().startswith("gap/avg")
    for order in ("ascending", "descending"):
        page.get_by_role("button", name="steps").click()
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == order
        *found, last = shown(page, 8)
        assert last == "–"
        numbers = [int(text) for text in found if text != "–"]
        assert numbers == sorted(numbers, reverse=order == "descending")
        assert len(numbers) == 4
    page.get_by_role("button", name="state").press("Enter")
    assert shown(page, 2) == sorted(shown(page, 2))


def check_filter(page: "Page") -> None:
    """The typed text compares columns, or is searched for."""
    for typed, trials in FILTERS.items():
        page.get_by_label("Show only trials that match").fill(typed)
        assert set(shown(page, 1)) == trials, typed
        count = page.locator(".count").inner_text()
        some = f"1–{len(trials)} of {len(trials)} trials"
        assert count.startswith(some if trials else "no trial matches")
        assert count.endswith("16 in all")
    field = page.get_by_label("Show only trials that match")
    for typed, reason in REFUSED.items():
        field.fill(typed)
        assert page.get_by_role("alert").inner_text() == reason
        assert field.get_attribute("aria-invalid") == "true"
        assert set(shown(page, 1)) == {"1", "7", "13"}
    field.fill("")
    assert page.locator(".refused").inner_text() == ""
    assert field.get_attribute("aria-invalid") == "false"


def check_copying(page: "Page") -> None:
    page.get_by_role("button", name="Copy the command for trial 7", exact=True).click()
    field = page.get_by_label("Show only trials that match")
    field.focus()
    page.keyboard.press("ControlOrMeta+V")
    assert field.input_value() == "mixunlearn rerun small-1234abcd/7"
    field.fill("")


@pytest.mark.browser
def test_many_trials_are_shown_by_the_hundred(
    reader: Reader, summary: dict[str, Any], tmp_path: Path
) -> None:
    many = replace(report_data(summary, 250), curves={}, axes={}, mixtures=None)
    write_page([many], tmp_path / "many.html")
    page = reader.open(tmp_path / "many.html")
    assert page.locator(".count").inner_text() == "1–100 of 250 trials"
    after, before = (page.get_by_role("button", name=name) for name in ("next", "previous"))
    assert before.is_disabled()
    after.click()
    after.click()
    assert page.locator(".count").inner_text() == "201–250 of 250 trials"
    assert len(shown(page, 1)) == 50
    assert after.is_disabled()


@pytest.mark.browser
def test_no_name_does_any_harm(reader: Reader, summary: dict[str, Any], tmp_path: Path) -> None:
    write_page([report_data(summary, evil=EVIL)], tmp_path / "evil.html")
    page = reader.open(tmp_path / "evil.html")
    draw_all(page)
    assert page.title() == f"Unlearning: small{EVIL}"
    assert page.locator("[onerror]").count() == 0
    assert page.locator("img").count() == 1
    assert "different" + EVIL in shown(page, 7)


COLOURS = """() => {
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const worded = [...document.body.querySelectorAll("*")].filter((element) =>
    !element.disabled && element.tagName !== "SCRIPT" && element.checkVisibility() &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return worded.map((element) => {
    const style = getComputedStyle(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    return [element.outerHTML.slice(0, 80), colour, behind(element)];
  });
}"""


def contrast(first: str, second: str) -> float:
    """The ratio of two colours' luminances, as WCAG defines it."""

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.browser
def test_charts_and_text_are_legible_in_the_light_and_in_the_dark(
    reader: Reader, file: Path
) -> None:
    page = reader.open(file, color_scheme="light")
    draw_all(page)
    before = page.locator(".chart text").first.evaluate("text => getComputedStyle(text).fill")
    check_contrast(page)
    page.emulate_media(color_scheme="dark")
    page.locator(f".chart text:not([style*='{before}'])").first.wait_for()
    check_contrast(page)


def check_contrast(page: "Page") -> None:
    found = page.evaluate(COLOURS)
    assert len(found) > 200
    assert [each for each in found if contrast(*each[1:]) < 4.5] == []


@pytest.mark.browser
def test_only_boxes_scroll_sideways(reader: Reader, file: Path) -> None:
    page = reader.open(file, viewport={"width": 400, "height": 800})
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.browser
def test_without_scripts_the_rest_is_there(browser: "Browser", file: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(file.as_uri())
    assert "need JavaScript" in page.locator("noscript").inner_text()
    assert page.get_by_text("Better than doing nothing, not equivalent").is_visible()
    page.close()
