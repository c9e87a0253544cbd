"""Who is told of a night: a file, by mail, through a webhook; none of them can spoil the night."""

import contextlib
import html
import json
import os
import queue
import re
import smtplib
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from distributed.addresses import cut, one_line, redact
from distributed.experiment import Section
from mixunlearn.errors import InputError

PASSWORD = "MIXUNLEARN_SMTP_PASSWORD"  # names of environment variables
WEBHOOK = "MIXUNLEARN_WEBHOOK"

TIMEOUT_S = 10.0  # of each wait for a server
PAUSES_S = (1.0, 4.0)  # before the second try and the third
LIMIT_S = 30.0  # of one notice, tries and all: a server may answer a byte at a time
TLS_PORT = 465  # encrypted from the first byte; other ports begin in the clear
WEBHOOK_LENGTH = 3000  # Slack takes 40,000 characters, readers do not
SUBJECT_LENGTH = 200
ANSWER_LENGTH = 120  # of a mail server
SHORTEST_SECRET = 4  # a shorter piece of an address gives nothing away
SERVER_ERROR = 500  # HTTP's codes from here on may pass; SMTP's are final from here on
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

_ADDRESS = re.compile(r"[\w.!#$%&'*+/=^{|}~-]+@[A-Za-z0-9][A-Za-z0-9.-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_WEB_ADDRESS = re.compile(r"https?://[!-~]+", re.IGNORECASE)

When: TypeAlias = Literal["news", "always"]
Attempt: TypeAlias = Callable[[], str]  # returns what was done, raises what kept it from that


def _address(text: str) -> str:
    """Check an address: what has a newline in it would be more than one line of a mail's head."""
    if not _ADDRESS.fullmatch(text):
        raise PydanticCustomError("address", "must be an address like ann@example.org, in ASCII")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise PydanticCustomError("host", "must be a host like mail.example.org; port has its key")
    return text


def _line(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise PydanticCustomError("line", "must be one line of text, and not empty")
    return text


Address: TypeAlias = Annotated[str, Field(max_length=254), AfterValidator(_address)]
Line: TypeAlias = Annotated[str, AfterValidator(_line)]


class Mail(Section):
    """A mail server, and between whom; the password is in `MIXUNLEARN_SMTP_PASSWORD`.

    Args:
        host, port: of the server; port 465 is encrypted from the start, others with `starttls`.
        sender: the key `from`.
        to: whom it goes to.
        user: who logs in with the password; null: nobody does.
        starttls: whether to encrypt; a server that cannot is then told nothing.
    """

    host: Annotated[str, AfterValidator(_host)]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    sender: Address = Field(alias="from")
    to: Annotated[list[Address], Field(min_length=1, max_length=50)]
    user: Line | None = None
    starttls: bool = True


class Notices(Section):
    """Who is told of a night, and of which.

    Args:
        when: "news": see `due`; "always": of every night.
        file: that is appended to, relative to the home.
        mail: through which server, and to whom.
        webhook: whether to tell the address in `MIXUNLEARN_WEBHOOK`, in the way of Slack.
    """

    when: When = "news"
    file: Line | None = None
    mail: Mail | None = None
    webhook: bool | None = None


def due(when: When, now: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Return whether a night is to be told of.

    There is news if the night failed or regressed, or if the verdict on it, or on one of its
    experiments, is another than the night before. A night that failed has no verdict, so that
    the first one after it is news as well.

    Args:
        when: of the notices.
        now: record of the night.
        before: record of the night before; `None`: there was none.
    """
    if when == "always" or now["state"] == "failed" or now["verdict"] == "regressed":
        return True
    return before is None or _verdicts(now) != _verdicts(before)


def _verdicts(night: Mapping[str, Any]) -> dict[str | None, str | None]:
    """Return the verdict on a night, under None, and on each of its experiments."""
    if night["state"] == "failed":
        return {}
    return {None: night["verdict"]} | {
        each["name"]: each["verdict"] for each in night["experiments"]
    }


def check(notices: Notices) -> None:
    """Check that what the environment must hold is there; sends nothing.

    Raises:
        InputError: a password or an address is missing, or must not be used like this.
    """
    if notices.mail and notices.mail.user is not None:
        _password(notices.mail)
    if notices.webhook:
        _webhook()


def tell(notices: Notices, *, subject: str, text: str, home: Path) -> list[str]:
    """Tell all of them: file, mail, webhook. What goes wrong is said, and never raised.

    Takes a minute if no server answers. Who was given up may still be told late.

    Args:
        notices: who.
        subject: headline, one line.
        text: what there is to say, of any length; passwords within addresses are left out.
        home: folder that the file's name is relative to.

    Returns:
        A line each: "webhook: told", "mail: not told: connection refused".
    """
    subject, text = cut(" ".join(_clean(subject).split()), SUBJECT_LENGTH), _clean(text).strip()
    attempts: dict[str, Attempt] = {}
    if notices.file is not None:
        entry = f"## {subject}\n\n{text}\n\n"
        attempts["file"] = partial(_append, home, notices.file, entry)
    if notices.mail:
        # Made once, so that a mail that was sent twice is seen to be one.
        identity = make_msgid(domain=notices.mail.sender.rpartition("@")[2])
        attempts["mail"] = partial(_send, notices.mail, subject, text, identity)
    if notices.webhook:
        attempts["webhook"] = partial(_post, f"{subject}\n{text}")
    return [f"{name}: {_outcome(attempt)}" for name, attempt in attempts.items()]


def _clean(text: str) -> str:
    """Return text that can be written and sent: no passwords, no halves of characters."""
    return redact(text.encode(errors="replace").decode())


# --- secrets ---------------------------------------------------------------------------------


def _password(mail: Mail) -> str:
    """Return the password of the mail's user.

    Raises:
        InputError: there is none, or it must not be sent.
    """
    password = os.environ.get(PASSWORD, "")
    if not password:
        raise InputError("tell.mail.user", mail.user, f"set {PASSWORD}, or leave user out")
    if not f"{mail.user}{password}".isascii() or not password.isprintable():
        raise InputError("tell.mail.user", mail.user, f"it and {PASSWORD} must be a line of ASCII")
    if not mail.starttls and mail.port != TLS_PORT:
        remedy = f"{PASSWORD} would go in the clear; set this to true, or leave user out"
        raise InputError("tell.mail.starttls", mail.starttls, remedy)
    return password


def _webhook() -> str:
    """Return the address of the webhook. No error holds a piece of it: it is a secret.

    Raises:
        InputError: there is none, or it is no address.
    """
    address = os.environ.get(WEBHOOK, "")
    if not address:
        raise InputError("tell.webhook", True, f"set {WEBHOOK} to its address, or this to false")
    if not _usable(address):
        raise InputError("tell.webhook", True, f"{WEBHOOK} must be like https://HOST/PATH")
    return address


def _usable(address: str) -> bool:
    try:
        parts = urlsplit(address)
        named = parts.hostname and parts.username is None and parts.port != 0
    except ValueError:  # brackets around no IPv6, a port that is no number
        return False
    return bool(named and _WEB_ADDRESS.fullmatch(address))


def _scrubbed(reason: str) -> str:
    """Return a reason without password and without the webhook's path: servers repeat things."""
    _, *pieces = re.split(r"[/?&=#:@]+", os.environ.get(WEBHOOK, "").partition("://")[2])
    for secret in (os.environ.get(PASSWORD, ""), *pieces):
        if len(secret) >= SHORTEST_SECRET:
            reason = reason.replace(secret, "***")
    return reason


# --- trying ----------------------------------------------------------------------------------


class _RefusedError(Exception):
    """Somebody did not take a notice.

    Args:
        reason: in a few words.
        final: whether another try will end like this one.
    """

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.final = final


def _outcome(attempt: Attempt) -> str:
    """Return what came of an attempt, in one line."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    # In a thread, because time-outs are of one wait each, and of none for a host's address.
    thread = threading.Thread(target=lambda: answers.put(_tried(attempt, PAUSES_S)), daemon=True)
    try:
        thread.start()
        return answers.get(timeout=LIMIT_S)
    except queue.Empty:
        return f"not told: no end within {LIMIT_S:g} seconds"
    except RuntimeError as error:  # no thread is to be had
        return f"not told: {one_line(error)}"


def _tried(attempt: Attempt, pauses: Sequence[float]) -> str:
    """Return what came of an attempt and of those after a pause each."""
    try:
        return attempt()
    except Exception as error:
        if not pauses or _final(error):
            return f"not told: {_scrubbed(one_line(error))}"
    time.sleep(pauses[0])
    return _tried(attempt, pauses[1:])


def _final(error: Exception) -> bool:
    if isinstance(error, _RefusedError):
        return error.final
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    return not isinstance(error, OSError | HTTPException)


# --- file ------------------------------------------------------------------------------------


def _append(home: Path, name: str, entry: str) -> str:
    """Append to a file and return its name."""
    path = home / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(entry)
    except OSError as error:  # final: a disk is not free again in seconds, and half may be there
        reason = (error.strerror or str(error)).lower()
        raise _RefusedError(f"{name}: {reason}", final=True) from error
    return name


# --- mail ------------------------------------------------------------------------------------


def _send(mail: Mail, subject: str, text: str, identity: str) -> str:
    """Send a mail and return who has it; one address that is refused does not stop the others."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = mail.sender, ", ".join(mail.to), subject
    message["Date"], message["Message-ID"] = formatdate(localtime=True), identity
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answers it
    message.set_content(text)
    try:
        with _session(mail) as session:
            refused = session.send_message(message, mail.sender, mail.to)
    except smtplib.SMTPException as error:
        raise _refusal(error) from error
    told = ", ".join(address for address in mail.to if address not in refused)
    return f"{told}; not told: {_refusals(refused)}" if refused else told


@contextlib.contextmanager
def _session(mail: Mail) -> Iterator[smtplib.SMTP]:
    """Use a mail server, encrypted and logged in to as the plan says."""
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if mail.port == TLS_PORT:
        server = smtplib.SMTP_SSL(mail.host, mail.port, timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S)
    with contextlib.closing(server):
        if mail.starttls and mail.port != TLS_PORT:
            server.starttls(context=context)
        if mail.user is not None:
            server.login(mail.user, _password(mail))
        yield server
        with contextlib.suppress(OSError):  # the mail is sent; how they part does not matter
            server.quit()


def _refusal(error: smtplib.SMTPException) -> _RefusedError:
    """Return what a mail server said, in our words where it may repeat the password."""
    match error:
        case smtplib.SMTPAuthenticationError():
            reason, final = f"user or {PASSWORD} is refused", error.smtp_code >= SERVER_ERROR
        case smtplib.SMTPRecipientsRefused():
            codes = [code for code, _ in error.recipients.values()]
            reason, final = _refusals(error.recipients), min(codes) >= SERVER_ERROR
        case smtplib.SMTPResponseException():
            reason = _answer(error.smtp_code, error.smtp_error)
            final = error.smtp_code >= SERVER_ERROR
        case _:  # the server went away, or it cannot do what is asked of it
            reason, final = str(error), not isinstance(error, smtplib.SMTPServerDisconnected)
    return _RefusedError(reason, final=final)


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address}: {_answer(*answer)}" for address, answer in refused.items())


def _answer(code: int, said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    # Before it is cut: half a password is no longer found.
    return cut(" ".join(_scrubbed(redact(f"{code} {text}")).split()), ANSWER_LENGTH)


# --- webhook ---------------------------------------------------------------------------------


def _post(text: str) -> str:
    """Post a text to the webhook and return that it was told."""
    address = _webhook()
    host = urlsplit(address).hostname
    # What Slack would take for a link, or for a call to everybody in the channel, is escaped.
    content = {"text": html.escape(cut(text, WEBHOOK_LENGTH), quote=False)}
    headers = {"Content-Type": "application/json", "User-Agent": "mixunlearn"}
    request = urllib.request.Request(address, json.dumps(content).encode(), headers, method="POST")
    try:
        _opener().open(request, timeout=TIMEOUT_S).close()
    except HTTPError as error:
        error.close()
        final = error.code < SERVER_ERROR and error.code not in PASSING
        raise _RefusedError(f"{host} answers {_status(error.code)}", final=final) from error
    except (OSError, HTTPException) as error:
        cause = _cause(error)
        # What is no answer in HTTP is quoted by the error, in any length.
        known = one_line(cause) if isinstance(cause, OSError) else type(cause).__name__
        raise _RefusedError(f"{host}: {known}", final=_final(cause)) from error
    return "told"


def _cause(error: Exception) -> Exception:
    """Return the error that urllib may have put another one around."""
    reason = error.reason if isinstance(error, URLError) else error
    return reason if isinstance(reason, Exception) else error


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens web addresses, through the proxies of the environment, and no others.

    No redirect is followed: the text would not go with it, and "told" would not be true.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _status(code: int) -> str:
    """Return a code in words; those of the server may repeat the address."""
    known = [status for status in HTTPStatus if status == code]
    words = f"{code} {known[0].phrase}" if known else str(code)
    moved = HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST
    return f"{words}; put its new address into {WEBHOOK}" if moved else words
