"""Adds all hyperparameters to their page, from the search spaces and the methods' docstrings."""

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from mixunlearn.methods import METHODS, Method
from search_spaces import SPACES, Choice, Space
from search_spaces.space import AnyParameter

PLACE = "reference/hyperparameters.md"
STAGES = ("first", "last")  # stand for the stages of a model, which has names of its own
ARGUMENTS = re.compile(r"^Args:\n((?:    .*\n?|\n(?=    ))*)", re.M)
ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.M)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page's text; that of the hyperparameters with a section for each method."""
    if page.file.src_uri != PLACE:
        return markdown
    return "\n\n".join([markdown, *sections()])


def sections() -> Iterator[str]:
    """Yield a section for each method."""
    for name in METHODS:
        space = SPACES[name](STAGES, STAGES[-1])
        yield "\n\n".join(_section(name, METHODS[name], space))


def _section(name: str, method: type[Method], space: Space) -> Iterator[str]:
    """Yield the parts of a method's section."""
    yield f"## `{name}`"
    yield _text(method).partition("\n\n")[0]
    yield _facts(method)
    if not space:
        yield "It has no hyperparameters."
        return
    meanings = _meanings(method)
    rows = [_row(key, meanings[key], parameter) for key, parameter in space.items()]
    head = "| | meaning | default | a search tries | allowed | source |"
    yield "\n".join([head, "|---|---|---|---|---|---|", *rows])
    for values in space.published({}):
        changed = [
            f"`{key}: {_plain(value)}`"
            for key, value in values.items()
            if value != space[key].default
        ]
        yield f"The authors' own configuration, a search's second trial: {', '.join(changed)}."


def _row(name: str, meaning: str, parameter: AnyParameter) -> str:
    """Return a hyperparameter's row of the table."""
    tried = "held" if parameter.fixed else _tried(parameter)
    when = [f"only if {key} is {_any_of(values)}" for key, values in parameter.when.items()]
    default = "; ".join([_plain(parameter.default), *when])
    cells = (meaning, default, tried, _allowed(parameter), parameter.source)
    return " | ".join([f"| `{name}`", *map(_cell, cells)]) + " |"


def _meanings(method: type[Method]) -> Mapping[str, str]:
    """Return what each hyperparameter means, from the docstrings of the class and its bases."""
    blocks = [block for each in method.__mro__ for block in ARGUMENTS.findall(_text(each))]
    found: dict[str, str] = {}
    for name, meaning in ARGUMENT.findall("\n".join(reversed(blocks))):
        found[name] = " ".join(meaning.split())  # a class comes after its bases
    return found


def _text(kind: type) -> str:
    """Return the docstring of a class, not of its bases."""
    return inspect.cleandoc(vars(kind).get("__doc__") or "")


def _facts(method: type[Method]) -> str:
    """Return what a method needs, and its source."""
    facts = [
        "Needs labels" if method.needs_labels else "Works with and without labels",
        *(["forgets whole classes only"] if method.whole_classes else []),
        *(["acts in one step"] if method.ceiling == 1 else []),
        f"an epoch is a pass over D_{'f' if method.passes_over == 'forget' else 'r'}",
    ]
    _, _, source = " ".join(_text(method).split()).partition("Source: ")
    return f"*{'; '.join(facts)}.*" + (f" Source: {source}" if source else "")


def _tried(parameter: AnyParameter) -> str:
    """Return the values that a search may draw."""
    if isinstance(parameter, Choice):
        return _any_of(parameter.options)
    return f"{parameter.low:g} to {parameter.high:g}" + (", log" if parameter.log else "")


def _allowed(parameter: AnyParameter) -> str:
    """Return the values that `search.space` may ask for."""
    if isinstance(parameter, Choice):
        return _any_of(parameter.options)
    least, most = parameter.limits
    if math.isinf(most):
        return f"> {least:g}" if parameter.log and not least else f"≥ {least:g}"
    return f"{least:g} to {most:g}"


def _any_of(values: Sequence[object]) -> str:
    return " or ".join(map(_plain, values))


def _plain(value: object) -> str:
    """Return a value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    """Return text without what would end a cell of a table, or begin a tag."""
    return text.replace("|", "&#124;").replace("<", "&lt;")
