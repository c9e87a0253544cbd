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
TEXT_LENGTH = 3000  # Slack takes 40,000 characters, readers do not
SERVER_ERROR = 500  # HTTP's codes from here on may pass
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_WEB_ADDRESS = re.compile(r"https?://[!-~]+", re.IGNORECASE)


def webhook_address() -> str:
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
    # What Slack would take for a link, or for a call to everybody in the channel, is escaped.
    content = {"text": html.escape(cut(text, TEXT_LENGTH), quote=False)}
    headers = {"Content-Type": "application/json", "User-Agent": "mixunlearn"}
    request = urllib.request.Request(address, json.dumps(content).encode(), headers, method="POST")
    try:
        _opener().open(request, timeout=TIMEOUT_S).close()
    except HTTPError as error:
        error.close()
        final = error.code < SERVER_ERROR and error.code not in PASSING
        raise RefusedError(f"{host} answers {_status(error.code)}", final=final) from error
    except (OSError, HTTPException) as error:
        cause = _cause(error)
        # What is no answer in HTTP is quoted by the error, in any length.
        known = one_line(cause) if isinstance(cause, OSError) else type(cause).__name__
        raise RefusedError(f"{host}: {known}", final=is_final(cause)) from error
    return "sent"


def _cause(error: Exception) -> Exception:
    """Return the error that urllib may have put another one around."""
    reason = error.reason if isinstance(error, URLError) else error
    return reason if isinstance(reason, Exception) else error


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone, through the proxies of the environment.

    No redirect is followed: the text would not go with it, and "sent" would not be true.
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
    """Return a code in words of ours: the server's may repeat the address."""
    known = [status for status in HTTPStatus if status == code]
    words = f"{code} {known[0].phrase}" if known else str(code)
    moved = HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST
    return f"{words}; put its new address into {WEBHOOK}" if moved else words
