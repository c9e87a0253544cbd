"""How pages are made from templates: text is escaped, and our own style is the same in all."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def render(template: str, /, **values: object) -> str:
    """Return a page as HTML.

    Args:
        template: path of the template in this folder.
        values: what it shows; `style` is there already.
    """
    # Our own file: escaping would break it.
    style = Markup((HERE / "page.css").read_text("utf-8"))
    return _environment().get_template(template).render(style=style, **values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        # A misspelt name in the template is an error, not an empty place.
        undefined=StrictUndefined,
        trim_blocks=True,
    )
