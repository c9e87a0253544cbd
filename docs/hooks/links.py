"""Makes links that lead out of `docs/` work on the site, and refuses what other hosts would serve.

The pages are read in the checkout as well, so they link to `../experiments` or
`../CONTRIBUTING.md` as they lie there. On the site, each such target is a page made here: the text
of a file, or a list of what a folder holds.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# Markdown beside the folder of the pages that is a page of the site.
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "sh", ".md": "markdown", ".toml": "toml"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)(?=[)#])")
OTHER_HOSTS = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\ssrc="?(?:https?:)?//[^>]*>'
    r'|<link\b(?![^>]*rel="?canonical)[^>]*\shref="?(?:https?:)?//[^>]*>'
)
CODE_IN_TABLE = re.compile(r"`[^`\n]*\\\|[^`\n]*`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside `docs/`, and one for each file or folder that a page links to."""
    for source, target in PAGES.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, target, content=_in_docs(text)))
    for path in sorted({path for file in files.documentation_pages() for path in _outside(file)}):
        files.append(File.generated(config, _place(path), content=_shown(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links out of `docs/` into links to the pages made for them."""
    here = page.file.src_uri

    def moved(found: re.Match[str]) -> str:
        path = _path(here, found[1])
        if path is None:
            return found[1]
        return posixpath.relpath(_place(path), posixpath.dirname(here) or ".")

    # GitHub needs a backslash before a bar in a table's code; here it would be shown.
    plain = CODE_IN_TABLE.sub(lambda code: code[0].replace("\\|", "|"), markdown)
    return LINK.sub(moved, plain)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load something from another host.

    Raises:
        PluginError: it would; the message names the page and the tag.
    """
    if found := OTHER_HOSTS.search(output):
        raise PluginError(f"{page.file.src_uri}: {found[0]} loads from another host; remove it")
    return output


def _in_docs(text: str) -> str:
    """Return Markdown from beside `docs/` as it would be written in it."""
    return LINK.sub(
        lambda found: (
            found[1].removeprefix("docs/") if found[1].startswith("docs/") else f"../{found[1]}"
        ),
        text,
    )


def _outside(file: File) -> Iterator[str]:
    """Yield the paths, relative to the checkout, that a page links to outside of `docs/`."""
    for target in LINK.findall(file.content_string):
        path = _path(file.src_uri, target)
        if path is not None and path not in PAGES:
            yield path


def _path(here: str, target: str) -> str | None:
    """Return what a link leads to, relative to the checkout; `None` if it is in `docs/`."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(here), target))
    if path.startswith("docs/"):
        return None
    if path.startswith("..") or not (ROOT / path).exists():
        raise PluginError(f"{here}: {target} does not exist; correct the link")
    return path


def _place(path: str) -> str:
    return PAGES.get(path, f"source/{path}.md")


def _shown(path: str) -> str:
    """Return a page, which the search leaves out, with the text of a file or a folder's list."""
    head = f"---\nsearch: {{exclude: true}}\n---\n# `{path}`\n\n"
    there = ROOT / path
    if there.is_dir():
        return head + "In the checkout, this folder holds:\n\n" + _listed(there)
    return f"{head}````{LANGUAGES.get(there.suffix, 'text')}\n{there.read_text()}\n````\n"


def _listed(folder: Path) -> str:
    """Return a table of a folder's files, each with its first line of text."""
    rows = ["| file | |", "|---|---|"]
    for file in sorted(folder.iterdir()):
        if file.suffix in LANGUAGES:
            first = file.read_text().partition("\n")[0].strip('#" ').replace("|", "\\|")
            rows.append(f"| `{file.name}` | {first} |")
    return "\n".join(rows) + "\n"
