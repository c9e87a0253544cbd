"""The code on the site's pages runs, and the pages say what the program is.

A block of `sh` or `python` runs in the order of its page, in a folder that has `examples` and
`experiments`. A block with `title="FILE"` is written to that file. `<!-- not run: WHY -->` above a
block leaves it out.
"""

import dataclasses
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import pytest

import mixunlearn
from distributed.cli.app import COMMANDS
from tests.warm import PARENT
from tests.worker import COMMAND

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*map(DOCS.joinpath, ("index.md", "start.md", "choose.md", "faq.md"))]
PAGES += sorted(DOCS.glob("tutorials/*.md"))
FENCE = re.compile(
    r'^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<text>.*?)^```$",
    re.M | re.S,
)
CODE = {"sh", "python"}
OTHER = {"yaml", "toml", "text"}
QUESTIONS = {
    "How do I unlearn from the model I have?": "tutorials/forget_37_images.md",
    "Is the result good enough?": "faq.md",
    "How do I reuse a configuration?": "faq.md",
    "Which method first?": "choose.md",
    "How do I call it from Python?": "python.md",
}


class Block(NamedTuple):
    why: str | None
    language: str
    title: str | None
    text: str

    @property
    def runs(self) -> bool:
        return self.language in CODE and self.why is None and self.title is None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = [Block(**match.groupdict()) for match in FENCE.finditer(text)]
    assert len(found) * 2 == len(re.findall(r"^```", text, re.M)), f"{page}: a fence is not read"
    return found


def commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


class Shell:
    """A folder like the checkout, in which a page's blocks run one after another."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = self.root = folder
        shutil.copytree(ROOT / "examples", folder / "examples")
        (folder / "experiments").symlink_to(ROOT / "experiments")
        self.environment = {
            **os.environ,
            "MIXUNLEARN_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, block: Block) -> None:
        if block.title:
            (self.folder / block.title).write_text(block.text)
        elif block.language == "python":
            (self.root / "block.py").write_text(block.text)
            self.fork([str(self.root / "block.py")])
        else:
            for words in commands(block.text):
                self.command(words)

    def command(self, words: list[str]) -> None:
        if words[0] == "cd":
            self.folder /= words[1]
        elif words[0] == "mixunlearn":
            self.fork([COMMAND, *words[1:]])
        elif words[0] == "python":
            self.fork([str(self.folder / words[1]), *words[2:]])
        else:
            subprocess.run(words, cwd=self.folder, check=True, capture_output=True)

    def fork(self, words: list[str]) -> None:
        path = f"{self.folder}{os.pathsep}{ROOT}"
        environment = {**self.environment, "PYTHONPATH": path}
        log = self.root / "log"
        with log.open("w") as file:
            process = PARENT.fork(words, file.fileno(), file.fileno(), environment, self.folder)
            code = process.wait()
        assert code == 0, f"{shlex.join(words)} ended with {code}: {log.read_text()[-2000:]}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")  # one for all, so that data are imported once


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, home: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path, home)
    for block in blocks(page):
        if block.runs or block.title:
            shell.run(block)


def test_every_block_is_run_or_says_why_not(record_property: Callable[[str, object], None]) -> None:
    found = [block for page in PAGES for block in blocks(page)]
    assert {block.language for block in found} <= CODE | OTHER
    assert all(block.language in CODE for block in found if block.why)
    run = sum(block.runs or block.title is not None for block in found)
    left_out = sum(block.why is not None for block in found)
    record_property("code blocks run, not run", (run, left_out))
    assert run > left_out


def test_a_question_of_a_newcomer_is_a_heading_of_one_page() -> None:
    for question, page in QUESTIONS.items():
        lines = (DOCS / page).read_text().splitlines()
        said = [line for line in lines if line.lstrip("# ") == question and line.startswith("#")]
        assert said, f"{page} has no heading {question!r}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.browser
@pytest.mark.parametrize(("question", "page"), QUESTIONS.items())
def test_a_search_finds_the_answer_and_asks_no_other_host(
    question: str, page: str, site: str, browser: "Browser"
) -> None:
    view = browser.new_page()
    asked: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.goto(f"{site}/index.html")
    view.keyboard.press("/")
    view.locator("input.md-search__input").fill(question)
    found = view.locator("a.md-search-result__link").first
    found.wait_for(state="visible")
    address = found.get_attribute("href") or ""
    assert page.replace(".md", ".html") in address
    assert all(url.startswith((site, "data:", "blob:")) for url in asked)
    view.close()


def hook(name: str) -> ModuleType:
    pytest.importorskip("mkdocs")
    place = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_each_hyperparameter_has_a_meaning_on_the_page() -> None:
    text = "\n".join(hook("hyperparameters").sections())
    for name, method in mixunlearn.METHODS.items():
        _, _, after = text.partition(f"## `{name}`\n")
        section = after.partition("\n## ")[0]
        for field in dataclasses.fields(method):
            assert re.search(rf"^\| `{field.name}` \| \S+", section, re.M), f"{name}: {field}"


def test_each_command_is_on_the_page_of_commands() -> None:
    text = "\n".join(hook("commands").sections())
    assert re.findall(r"^## `mixunlearn (\S+)`$", text, re.M) == list(COMMANDS)
    assert "| `--dry-run` | " in text


def test_each_public_name_is_on_the_page_of_the_library() -> None:
    text = (DOCS / "reference/api.md").read_text()
    named = re.findall(r"^::: mixunlearn\.(\w+)$", text, re.M)
    assert sorted(named) == sorted([*mixunlearn.__all__, "testing"])


def test_a_link_out_of_the_pages_leads_to_a_page_of_the_site() -> None:
    links = hook("links")
    assert links._path("sweep.md", "../experiments") == "experiments"
    assert links._path("tutorials/a.md", "../sweep.md") is None
    assert links._place("CONTRIBUTING.md") == "contributing.md"
    text = "[a](docs/sweep.md#x) [b](examples) [c](https://example.org)"
    assert links._in_docs(text) == "[a](sweep.md#x) [b](../examples) [c](https://example.org)"
    with pytest.raises(links.PluginError, match="nowhere"):
        links._path("sweep.md", "../nowhere")


@pytest.mark.parametrize(
    ("tag", "refused"),
    [
        ('<script src="https://example.org/a.js">', True),
        ('<link rel="stylesheet" href="//example.org/a.css">', True),
        ('<script src="assets/a.js">', False),
        ('<a href="https://example.org">', False),
    ],
)
def test_pages_load_nothing_from_other_hosts(tag: str, refused: bool) -> None:
    assert bool(hook("links").OTHER_HOSTS.search(tag)) is refused
