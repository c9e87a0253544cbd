"""Notices by mail."""

import contextlib
import os
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from distributed.config.notices import Mail
from distributed.nightly.notices.delivery import PASSWORD, RefusedError, scrubbed
from distributed.runtime.text import cut, redact
from mixunlearn.errors import InputError

TIMEOUT_S = 10.0  # of each wait for the server
TLS_PORT = 465  # encrypted from the first byte; other ports begin unencrypted
ANSWER_LENGTH = 120  # characters of the server's answer that are reported
FINAL = 500  # SMTP codes from 500 are final


def password_of(mail: Mail) -> str:
    """Return the password of the mail's user.

    Raises:
        InputError: there is no password, or it must not be sent.
    """
    password = os.environ.get(PASSWORD, "")
    if not password:
        raise InputError("tell.mail.user", mail.user, f"set {PASSWORD}, or leave user out")
    # smtplib encodes both as ASCII, and a control character could end the command.
    if not f"{mail.user}{password}".isascii() or not password.isprintable():
        raise InputError("tell.mail.user", mail.user, f"it and {PASSWORD} must be a line of ASCII")
    if not mail.starttls and mail.port != TLS_PORT:
        remedy = f"{PASSWORD} would be sent unencrypted; set this to true, or leave user out"
        raise InputError("tell.mail.starttls", mail.starttls, remedy)
    return password


def new_message_id(mail: Mail) -> str:
    """Return a fresh `Message-ID` in the sender's domain."""
    # Without a domain it would look up this machine's name, and tell it to everybody.
    return make_msgid(domain=mail.sender.rpartition("@")[2])


def send(mail: Mail, subject: str, text: str, identity: str) -> str:
    """Send a mail and return who gets it; one refused address does not stop the others.

    Raises:
        RefusedError: the server refuses it for all recipients.
        OSError: the server cannot be reached.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = mail.sender, ", ".join(mail.to), subject
    message["Date"], message["Message-ID"] = formatdate(localtime=True), identity
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic reply
    message.set_content(text)
    try:
        with _session(mail) as session:
            refused = session.send_message(message, mail.sender, mail.to)
    except smtplib.SMTPException as error:
        raise _refusal(error) from error
    sent_to = ", ".join(address for address in mail.to if address not in refused)
    return f"{sent_to}; not sent: {_refusals(refused)}" if refused else sent_to


@contextlib.contextmanager
def _session(mail: Mail) -> Iterator[smtplib.SMTP]:
    """Open a session with a mail server, encrypted and logged in as the plan says."""
    # Without this context, smtplib does not check certificates.
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if mail.port == TLS_PORT:
        server = smtplib.SMTP_SSL(mail.host, mail.port, timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S)
    # Not smtplib's own `with`: it raises if QUIT is answered oddly, though the mail is sent.
    with contextlib.closing(server):
        if mail.starttls and mail.port != TLS_PORT:
            server.starttls(context=context)
        if mail.user is not None:
            server.login(mail.user, password_of(mail))
        yield server
        with contextlib.suppress(OSError):  # the mail is sent: errors do not matter now
            server.quit()


def _refusal(error: smtplib.SMTPException) -> RefusedError:
    """Return a server's error, reworded where it may repeat the password."""
    match error:
        # Before its base class, SMTPResponseException, whose case quotes the server.
        case smtplib.SMTPAuthenticationError():
            reason, final = f"user or {PASSWORD} is refused", error.smtp_code >= FINAL
        case smtplib.SMTPRecipientsRefused():
            codes = [code for code, _ in error.recipients.values()]
            # Nobody got it yet; one temporary refusal is worth another attempt.
            reason, final = _refusals(error.recipients), min(codes) >= FINAL
        case smtplib.SMTPResponseException():
            reason = _answer(error.smtp_code, error.smtp_error)
            final = error.smtp_code >= FINAL
        case _:  # the server disconnected, or it does not support a command
            reason, final = str(error), not isinstance(error, smtplib.SMTPServerDisconnected)
    return RefusedError(reason, final=final)


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address}: {_answer(*answer)}" for address, answer in refused.items())


def _answer(code: int, said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    # Secrets are removed before the text is cut: half a password would not be found.
    return cut(" ".join(scrubbed(redact(f"{code} {text}")).split()), ANSWER_LENGTH)
