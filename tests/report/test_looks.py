"""How all pages look in a real browser: on a desk, on a phone, in the dark and on paper."""

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from PIL import Image

from report.comparison import tables
from report.comparison_page import write_comparison
from report.evidence import write_evidence
from report.nightly.page import NIGHT_PAGE, write_night
from report.page import write_page
from tests.report import test_comparison, test_evidence_page, test_nightly_page, test_page
from tests.report.conftest import invented_summary

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PAGES = ("report", "comparison", "evidence", "night")
PATIENCE_MS = 300_000  # software draws WebGL here, on a machine that may be busy
CHARTS = 6  # of the invented study: it has no gaps for "Forgetting against retaining"
# What is wider than its box and neither scrolls with a cue nor is cut on purpose.
CLIPPED = """() => [...document.body.querySelectorAll("*")].filter((box) => {
  const style = getComputedStyle(box);
  if (box.closest("svg, .chart, .skip, script") || style.display.startsWith("inline")) return false;
  if (box.scrollWidth <= box.clientWidth + 1 || style.overflowX === "visible") return false;
  return !style.backgroundAttachment.includes("local");
}).map((box) => box.outerHTML.slice(0, 100))"""
INKS = """() => [...document.querySelectorAll(".drawing svg *")].flatMap((part) => {
  const { fill, stroke } = getComputedStyle(part);
  return part.getBBox ? [fill, stroke] : [];
})"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page of each kind, with invented contents."""
    folder = tmp_path_factory.mktemp("pages")
    files = {name: folder / f"{name}.html" for name in PAGES} | {"night": folder / NIGHT_PAGE}
    write_page([test_page.report_data(invented_summary())], files["report"])
    results = test_comparison.invented_results()
    write_comparison("small", tables(results), results, files["comparison"], {})
    write_evidence(test_evidence_page.evidence(), files["evidence"])
    write_night([test_nightly_page.night(day) for day in range(3)], folder)
    return files


@pytest.fixture(scope="module")
def pages(browser: "Browser", files: dict[str, Path]) -> Iterator[dict[str, "Page"]]:
    """All pages, each opened once."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    pages = {name: context.new_page() for name in files}
    for name, page in pages.items():
        page.goto(files[name].as_uri())
    yield pages
    context.close()


@pytest.fixture
def page(request: pytest.FixtureRequest, pages: dict[str, "Page"]) -> "Page":
    """One of the pages, as wide as a desk allows, in the light, at its beginning."""
    page = pages[request.param]
    page.bring_to_front()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(media="screen", color_scheme="light")
    page.evaluate("scrollTo(0, 0)")
    return page


every_page = pytest.mark.parametrize("page", PAGES, indirect=True)
the_report = pytest.mark.parametrize("page", ["report"], indirect=True)


@every_page
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_clipped_without_a_cue(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CLIPPED) == []


@the_report
def test_a_shade_says_that_there_is_more(page: "Page") -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    box = page.locator(".scroll").first
    lightness = [edge(box.screenshot())]
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    lightness.append(edge(box.screenshot()))
    assert lightness[0] < lightness[1] - 20


def edge(picture: bytes) -> float:
    """The mean lightness at the right edge, above the border's rounded corners."""
    image = Image.open(io.BytesIO(picture)).convert("L")
    strip = image.crop((image.width - 4, image.height - 60, image.width - 2, image.height - 20))
    return sum(strip.tobytes()) / (strip.width * strip.height)


@every_page
@pytest.mark.parametrize("width", [1280, 400])
def test_the_verdict_is_on_the_first_screen(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    word = page.locator("h1.verdict, .verdict .state").first
    colours = [
        each.evaluate("each => getComputedStyle(each).color")
        for each in (word, page.locator("body"))
    ]
    assert colours[0] != colours[1]
    ends = [box_of(each) for each in (word, page.locator(".verdict").first)]
    assert max(ends) <= 800
    if page.locator(".verdict dl").count():
        assert page.locator(".verdict dt").all_inner_texts()[-1] == "Cost"


def box_of(found: Any) -> float:
    """The lower end of an element."""
    box = found.bounding_box()
    return float(box["y"] + box["height"])


@every_page
def test_the_contents_stay(page: "Page") -> None:
    contents = page.locator(".contents").first
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert page.evaluate("scrollY") > 0
    box = contents.bounding_box()
    assert box
    assert box["y"] == pytest.approx(0, abs=1)
    for link in contents.get_by_role("link").all():
        assert page.locator(str(link.get_attribute("href"))).count() == 1


@pytest.mark.parametrize("page", ["comparison", "evidence", "night"], indirect=True)
def test_figures_have_the_ink_of_the_page(page: "Page") -> None:
    schemes: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        text = page.locator("body").evaluate("body => getComputedStyle(body).color")
        inks = page.evaluate(INKS)
        assert text in inks
        assert not {"rgb(0, 0, 0)", "rgb(34, 34, 34)"} & set(inks) - {text}


@the_report
def test_all_charts_are_on_paper(page: "Page", tmp_path: Path) -> None:
    page.emulate_media(color_scheme="dark")
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert page.locator(".paper").count() == 0  # they are gone when it is printed
    content = (tmp_path / "report.pdf").read_bytes()
    assert 7 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12
    check_no_page_is_blank(tmp_path / "report.pdf")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    panels = page.locator(".paper").all()
    assert len(panels) == page.locator(".chart").count() > CHARTS - 1
    for panel in panels:
        image = Image.open(io.BytesIO(panel.screenshot())).convert("L")
        assert sum(image.histogram()[:250]) > 0.01 * image.width * image.height
    page.evaluate("dispatchEvent(new Event('afterprint'))")


def check_no_page_is_blank(path: Path) -> None:
    """Look at the pages of a PDF, where Poppler is installed: at least a hundredth has ink."""
    if not (program := shutil.which("pdftoppm")):
        return
    subprocess.run([program, "-r", "30", "-gray", str(path), str(path.with_suffix(""))], check=True)
    for file in path.parent.glob("*.pgm"):
        image = Image.open(file)
        assert sum(image.histogram()[:230]) > 0.003 * image.width * image.height, file.name
