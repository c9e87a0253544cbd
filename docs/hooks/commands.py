"""Adds all commands and their options to their page, from the program itself."""

from collections.abc import Iterator

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from typer.core import TyperCommand, TyperGroup

from distributed.cli.app import app

PLACE = "reference/commands.md"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page's text; that of the commands with a section for each."""
    if page.file.src_uri != PLACE:
        return markdown
    return "\n\n".join([markdown, *sections()])


def sections() -> Iterator[str]:
    """Yield a section for each command, in the order of `--help`."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        assert isinstance(command, TyperCommand)
        if not command.hidden:
            yield "\n\n".join(_section(name, command))


def _section(name: str, command: TyperCommand) -> Iterator[str]:
    """Yield the parts of a command's section."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## `mixunlearn {name}`"
    yield f"```text\nmixunlearn {name} {usage}\n```"
    yield _escaped(command.help or "")
    rows = [_row(*record) for each in command.params if (record := each.get_help_record(context))]
    if rows:
        yield "\n".join(["| option | |", "|---|---|", *rows])


def _row(names: str, text: str) -> str:
    """Return the table's row of an option, or of an argument that says what it is."""
    return f"| `{names}` | {_escaped(' '.join(text.split()))} |"


def _escaped(text: str) -> str:
    """Return plain text as Markdown that shows it as it is."""
    for character in "\\*_<>[]|":
        text = text.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return text
