"""Notices through a webhook, in Slack's format."""

import html
import json
import os
import re
import ssl
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from distributed.nightly.notices.delivery import WEBHOOK, RefusedError, is_final
from distributed.runtime.text import cut, one_line
from mixunlearn.errors import InputError

TIMEOUT_S = 10.0  # of each wait for the server
TEXT_LENGTH = 3000  # characters; Slack accepts 40,000, too many to read
SERVER_ERROR = 500  # HTTP codes from 500 may be temporary
# Below 500, but the server asks for another attempt.
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
# Printable ASCII: urllib refuses spaces and line breaks, with an error that quotes the address.
_WEB_ADDRESS = re.compile(r"https?://[!-~]+", re.IGNORECASE)


def webhook_address() -> str:
    """Return the address of the webhook. It is a secret: no error contains a part of it.

    Raises:
        InputError: there is no address, or it is not valid.
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
        # urllib takes `user:password@host` for the name of a host.
        named = parts.hostname and parts.username is None and parts.port != 0
    except ValueError:  # brackets without IPv6, a port that is not a number
        return False
    return bool(named and _WEB_ADDRESS.fullmatch(address))


def post(text: str) -> str:
    """Post a text to the webhook; return "sent".

    Raises:
        InputError: the address is missing or unusable.
        RefusedError: the server does not answer, or refuses.
    """
    address = webhook_address()
    host = urlsplit(address).hostname
    # Escaped, so that Slack reads nothing in it as a link or as a mention of the whole channel.
    content = {"text": html.escape(cut(text, TEXT_LENGTH), quote=False)}
    headers = {"Content-Type": "application/json", "User-Agent": "mixunlearn"}
    request = urllib.request.Request(address, json.dumps(content).encode(), headers, method="POST")
    try:
        _opener().open(request, timeout=TIMEOUT_S).close()
    # Before OSError, of which it is a subclass.
    except HTTPError as error:
        error.close()
        final = error.code < SERVER_ERROR and error.code not in PASSING
        raise RefusedError(f"{host} answers {_status(error.code)}", final=final) from error
    except (OSError, HTTPException) as error:
        cause = _cause(error)
        # An HTTPException quotes what the server sent, in any length: only its type is reported.
        known = one_line(cause) if isinstance(cause, OSError) else type(cause).__name__
        raise RefusedError(f"{host}: {known}", final=is_final(cause)) from error
    return "sent"


def _cause(error: Exception) -> Exception:
    """Return the original error, without the URLError that urllib may have wrapped around it."""
    reason = error.reason if isinstance(error, URLError) else error
    return reason if isinstance(reason, Exception) else error


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https only, through the proxies of the environment.

    No redirect is followed: the text would not be sent with it, and "sent" would not be true.
    """
    # Not `build_opener`: it adds redirects, `file:` and `ftp:`.
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
    """Return a code in our own words: the server's words may repeat the address."""
    known = [status for status in HTTPStatus if status == code]
    words = f"{code} {known[0].phrase}" if known else str(code)
    moved = HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST
    return f"{words}; put its new address into {WEBHOOK}" if moved else words
