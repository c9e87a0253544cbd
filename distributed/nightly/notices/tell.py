"""Sends the notices of a night: composes the message, delivers it to file, mail and webhook."""

from functools import partial
from pathlib import Path

from distributed.config.notices import Notices
from distributed.nightly.notices.delivery import Attempt, deliver
from distributed.nightly.notices.file import append
from distributed.nightly.notices.mail import new_message_id, password_of, send
from distributed.nightly.notices.webhook import post, webhook_address
from distributed.runtime.text import cut, redact

SUBJECT_LENGTH = 200


def check(notices: Notices) -> None:
    """Check that the required environment variables are set; send nothing.

    Raises:
        InputError: a password or an address is missing, or must not be used like this.
    """
    if notices.mail and notices.mail.user is not None:
        password_of(notices.mail)
    if notices.webhook:
        webhook_address()


def tell(notices: Notices, *, subject: str, text: str, home: Path) -> list[str]:
    """Send a notice to file, mail and webhook. Errors are reported, never raised.

    Takes at most a minute and a half, if no server answers. A message may still arrive after its
    time limit.

    Args:
        notices: who is notified.
        subject: headline, one line.
        text: the message, of any length; passwords in addresses are removed.
        home: folder that the file's name is relative to.

    Returns:
        One line per channel: "webhook: sent", "mail: not sent: connection refused".
    """
    subject, text = cut(" ".join(_clean(subject).split()), SUBJECT_LENGTH), _clean(text).strip()
    attempts: dict[str, Attempt] = {}
    if notices.file is not None:
        attempts["file"] = partial(append, home, notices.file, f"## {subject}\n\n{text}\n\n")
    if notices.mail:
        # One id for all attempts, so that a mail that arrives twice is recognised as one.
        identity = new_message_id(notices.mail)
        attempts["mail"] = partial(send, notices.mail, subject, text, identity)
    if notices.webhook:
        attempts["webhook"] = partial(post, f"{subject}\n{text}")
    return [f"{name}: {deliver(attempt)}" for name, attempt in attempts.items()]


def _clean(text: str) -> str:
    """Return text that can be written and sent: no passwords, no lone surrogates."""
    # A lone surrogate, as in a file name that is not UTF-8, cannot be encoded by any channel.
    return redact(text.encode(errors="replace").decode())
