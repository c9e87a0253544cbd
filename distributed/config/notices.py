"""Who is notified of a night: the keys under `tell` in a nightly plan."""

import re
from pathlib import PurePath
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from distributed.config.section import Section

_ADDRESS = re.compile(r"[\w.!#$%&'*+/=^{|}~-]+@[A-Za-z0-9][A-Za-z0-9.-]*", re.ASCII)
# A name or an IPv4 address, or an IPv6 address.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")

When: TypeAlias = Literal["news", "always"]


def _address(text: str) -> str:
    """Check an address: a newline in it would add lines to the header of a mail."""
    if not _ADDRESS.fullmatch(text):
        raise PydanticCustomError("address", "must be an address like ann@example.org, in ASCII")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise PydanticCustomError(
            "host", "must be a host like mail.example.org; the port has a key"
        )
    return text


def _line(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise PydanticCustomError("line", "must be one line of text, and not empty")
    return text


def _page(text: str) -> str:
    """Check the name of the file: a plan must not append to files elsewhere, or to a database."""
    path = PurePath(_line(text))
    if path.is_absolute() or ".." in path.parts or path.suffix not in {".md", ".txt"}:
        raise PydanticCustomError(
            "page", "must be a file in the home, as nights.md or told/nights.txt, without .."
        )
    return text


# RFC 5321 allows 256 characters, with the angle brackets around an address.
Address: TypeAlias = Annotated[str, Field(max_length=254), AfterValidator(_address)]
Line: TypeAlias = Annotated[str, AfterValidator(_line)]


class Mail(Section):
    """A mail server, the sender and the recipients; `MIXUNLEARN_SMTP_PASSWORD` is the password.

    Args:
        host, port: of the server; port 465 is encrypted from the start, others with `starttls`.
        sender: the key `from`.
        to: the recipients.
        user: name to log in with, together with the password; null: no login.
        starttls: whether to encrypt; nothing is sent to a server that cannot.
    """

    host: Annotated[str, AfterValidator(_host)]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    sender: Address = Field(alias="from")
    to: Annotated[list[Address], Field(min_length=1, max_length=50)]
    user: Line | None = None
    starttls: bool = True


class Notices(Section):
    """Who is notified, and of which nights.

    Args:
        when: "news": see `distributed.nightly.notices.news`; "always": every night.
        file: a file in the home that each notice is appended to; its name ends in .md or .txt.
        mail: through which server, and to whom.
        webhook: whether to post to the address in `MIXUNLEARN_WEBHOOK`, in Slack's format.
    """

    when: When = "news"
    file: Annotated[str, AfterValidator(_page)] | None = None
    mail: Mail | None = None
    webhook: bool | None = None
