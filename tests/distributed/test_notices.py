"""Notices to real servers on this machine: what arrives, what is retried, what stays secret."""

import base64
import datetime
import ipaddress
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from distributed.config.errors import REMEDIES
from distributed.config.notices import Notices
from distributed.nightly.notices import delivery, webhook
from distributed.nightly.notices import mail as mail_channel
from distributed.nightly.notices.delivery import PASSWORD, WEBHOOK
from distributed.nightly.notices.news import due
from distributed.nightly.notices.tell import check, tell
from distributed.nightly.records import NightRecord, NightState, PartRecord
from mixunlearn.errors import InputError
from mixunlearn.metrics.nights import Word

SECRET = "T0SECRET/B0SECRET"
HUNTER = "hunter2-hunter2"
TO = "c@d.example"
HANGS = 0  # used in place of a status
CLOSES = -1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses; nothing of this machine's environment."""
    monkeypatch.setattr(delivery, "PAUSES_S", (0.0, 0.0))
    for name in (PASSWORD, WEBHOOK, "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1 that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def serve(server: socketserver.BaseServer) -> None:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()


# --- a web server that answers as the test says


class Web(ThreadingHTTPServer):
    """Answers with the next of its statuses, the last one repeatedly."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.statuses = [200]
        self.headers: dict[str, str] = {}
        self.heard: list[tuple[str, str, Any]] = []  # verb, path, content
        self.released = threading.Event()
        self._certificate = certificate

    def encrypt(self) -> None:
        self.socket = server_side(self._certificate).wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: the tests disconnect on purpose."""


class Visit(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        web = self.server
        assert isinstance(web, Web)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        web.heard.append((self.command, self.path, json.loads(body)))
        status = web.statuses.pop(0) if len(web.statuses) > 1 else web.statuses[0]
        if status == HANGS:
            web.released.wait()
            self.send_error(404)  # final, so that an abandoned request does not reach another test
        elif status == CLOSES:
            self.wfile.write(f"what is {self.path}?\r\n".encode())
        else:
            self.send_response(status, f"not at {self.path}")  # servers do repeat addresses
            for name, value in web.headers.items():
                self.send_header(name, value)
            self.end_headers()

    def do_GET(self) -> None:  # the target of a redirect
        assert isinstance(self.server, Web)
        self.server.heard.append(("GET", self.path, None))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> Iterator[Web]:
    with Web(certificate) as server:
        monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}/services/{SECRET}")
        serve(server)
        yield server
        server.released.set()
        server.shutdown()


def post_to(tmp_path: Path, text: str = "All is well.") -> str:
    (line,) = tell(Notices(webhook=True), subject="digits: improved", text=text, home=tmp_path)
    assert "SECRET" not in line
    assert "\n" not in line
    return line


def test_a_webhook_gets_the_notice(web: Web, tmp_path: Path) -> None:
    assert post_to(tmp_path) == "webhook: sent"
    said = {"text": "digits: improved\nAll is well."}
    assert web.heard == [("POST", f"/services/{SECRET}", said)]


def test_a_text_is_cut_and_calls_nobody(web: Web, tmp_path: Path) -> None:
    post_to(tmp_path, "<!channel> & " + "x" * 5000)
    text = web.heard[0][2]["text"]
    assert "&lt;!channel&gt; &amp; xxx" in text
    assert text.endswith("x…")
    assert len(text) < 3100


def test_passwords_within_a_text_are_left_out(web: Web, tmp_path: Path) -> None:
    post_to(tmp_path, f"postgresql://ann:{HUNTER}@host/name is down \udcff")
    assert web.heard[0][2]["text"].endswith("postgresql://ann:***@host/name is down ?")


@pytest.mark.parametrize("first", [500, 503, 408, 429, CLOSES])
def test_what_may_pass_is_tried_again(web: Web, tmp_path: Path, first: int) -> None:
    web.statuses = [first, 200]
    assert post_to(tmp_path) == "webhook: sent"
    assert len(web.heard) == 2


def test_three_tries_are_enough(web: Web, tmp_path: Path) -> None:
    web.statuses = [500]
    line = "webhook: not sent: 127.0.0.1 answers 500 Internal Server Error"
    assert post_to(tmp_path) == line
    assert len(web.heard) == 3


@pytest.mark.parametrize(("status", "name"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_what_cannot_change_is_not_tried_again(
    web: Web, tmp_path: Path, status: int, name: str
) -> None:
    web.statuses = [status]
    assert post_to(tmp_path) == f"webhook: not sent: 127.0.0.1 answers {name}"
    assert len(web.heard) == 1


@pytest.mark.parametrize("place", ["/elsewhere", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_no_redirect_is_followed(web: Web, tmp_path: Path, place: str) -> None:
    web.statuses, web.headers = [302], {"Location": place}
    line = post_to(tmp_path)
    assert line.startswith("webhook: not sent: 127.0.0.1 answers 302 Found; put its new address")
    assert [verb for verb, *_ in web.heard] == ["POST"]


def test_a_server_that_hangs_is_given_up(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.05)
    web.statuses = [HANGS]
    assert post_to(tmp_path) == "webhook: not sent: 127.0.0.1: timed out"


def test_a_notice_takes_its_time_and_no_more(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time-out of one wait does not help: a server may send a byte now and then."""
    monkeypatch.setattr(delivery, "LIMIT_S", 0.05)
    web.statuses = [HANGS]
    assert post_to(tmp_path) == "webhook: not sent: not finished within 0.05 seconds"


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Visit) as server:
        port = server.server_address[1]
    monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{port}/{SECRET}")
    assert post_to(tmp_path) == "webhook: not sent: 127.0.0.1: Connection refused"


def test_what_is_no_answer_is_not_repeated(web: Web, tmp_path: Path) -> None:
    web.statuses = [CLOSES]
    assert post_to(tmp_path) == "webhook: not sent: 127.0.0.1: BadStatusLine"


def test_a_certificate_is_looked_at(
    web: Web, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.encrypt()
    address = f"https://127.0.0.1:{web.server_port}/{SECRET}"
    monkeypatch.setenv(WEBHOOK, address)
    assert "certificate verify failed" in post_to(tmp_path)
    assert not web.heard
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert post_to(tmp_path) == "webhook: sent"


# --- a mail server that answers as the test says


class Post(socketserver.ThreadingTCPServer):
    """A minimal mail server; `answers` replace the usual ones, once each."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.context = context
        self.offers = ["STARTTLS"]
        self.answers: dict[str, list[str]] = {}
        self.heard: list[str] = []  # verbs; an asterisk means encrypted
        self.users: list[str] = []
        self.mails: list[tuple[list[str], EmailMessage]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: the tests disconnect on purpose."""

    def mail(self, **more: Any) -> Notices:
        address = {"host": "127.0.0.1", "port": self.server_address[1]}
        own = {"from": "a@b.example", "to": [TO], **address, **more}
        return Notices.model_validate({"mail": own})


class Conversation(socketserver.StreamRequestHandler):
    server: Post

    def handle(self) -> None:
        self.secure, self.to = False, list[str]()
        if not self.answer("CONNECT", "220 here").startswith("220"):
            return
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            self.server.heard.append(verb + "*" * self.secure)
            if verb == "QUIT" or not self.take(verb, rest):
                break

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the encrypted socket, which the server does not know

    def take(self, verb: str, rest: str) -> bool:
        match verb:
            case "EHLO":
                offers = [each for each in self.server.offers if each != "STARTTLS"]
                offers += ["AUTH PLAIN"] if self.secure else self.server.offers
                said = self.answer(verb, "\r\n".join(["250-here", *map("250-{}".format, offers)]))
                self.say("250 SIZE") if said.startswith("250-") else None
            case "STARTTLS":
                self.answer(verb, "220 go on")
                self.request = self.server.context.wrap_socket(self.request, server_side=True)
                self.setup()
                self.secure = True
            case "AUTH":
                user = base64.b64decode(rest.partition(" ")[2]).decode()
                self.server.users.append(user)
                self.answer(verb, "235 welcome")
            case "RCPT":
                if self.answer(verb, "250 ok").startswith("250"):
                    self.to.append(rest.partition("<")[2].rstrip(">"))
            case "DATA":
                self.answer(verb, "354 go on")
                self.keep()
                self.answer("MAILED", "250 taken")
            case _:
                return self.answer(verb, "250 ok")[:3] != "421"
        return True

    def keep(self) -> None:
        lines = list(iter(self.rfile.readline, b".\r\n"))
        content = b"\n".join(line.rstrip(b"\r\n").removeprefix(b".") for line in lines)
        mail = message_from_bytes(content, _class=EmailMessage, policy=policy.default)
        self.server.mails.append((self.to, mail))

    def answer(self, verb: str, usual: str) -> str:
        planned = self.server.answers.get(verb, [])
        answer = planned.pop(0) if planned else usual
        self.say(answer)
        return answer

    def say(self, answer: str) -> None:
        self.wfile.write(f"{answer}\r\n".encode())


@pytest.fixture
def post(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    monkeypatch.setattr(socket, "getfqdn", lambda: "here.example")  # does not ask a name server
    with Post(server_side(certificate)) as server:
        serve(server)
        yield server
        server.shutdown()


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


def sent_by_mail(who: Notices, tmp_path: Path, subject: str = "digits: improved") -> str:
    (line,) = tell(who, subject=subject, text="Alles gut, für heute.\n.\nJa.", home=tmp_path)
    assert HUNTER not in line
    assert "\n" not in line
    return line


def test_a_mail_arrives(post: Post, tmp_path: Path) -> None:
    who = post.mail(starttls=False, to=[TO, "e@f.example"])
    assert sent_by_mail(who, tmp_path) == "mail: c@d.example, e@f.example"
    ((to, mail),) = post.mails
    assert to == [TO, "e@f.example"]
    assert (mail["From"], mail["To"]) == ("a@b.example", "c@d.example, e@f.example")
    assert mail["Subject"] == "digits: improved"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@b.example>")
    assert mail.get_content().rstrip() == "Alles gut, für heute.\n.\nJa."


@pytest.mark.usefixtures("trusted")
def test_a_password_is_sent_encrypted(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, HUNTER)
    assert sent_by_mail(post.mail(user="ann"), tmp_path) == f"mail: {TO}"
    assert post.users == [f"\0ann\0{HUNTER}"]
    assert post.heard[:4] == ["EHLO", "STARTTLS", "EHLO*", "AUTH*"]


def test_a_server_that_cannot_encrypt_is_sent_nothing(post: Post, tmp_path: Path) -> None:
    post.offers = []
    line = sent_by_mail(post.mail(), tmp_path)
    assert line == "mail: not sent: STARTTLS extension not supported by server."
    assert "MAIL" not in post.heard
    assert post.heard.count("EHLO") == 1


def test_a_mail_server_of_unknown_name_is_sent_nothing(post: Post, tmp_path: Path) -> None:
    assert "certificate verify failed" in sent_by_mail(post.mail(), tmp_path)
    assert post.heard.count("STARTTLS") == 1


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.usefixtures("trusted")
def test_a_port_that_is_encrypted_from_the_start(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.setattr(mail_channel, "TLS_PORT", post.server_address[1])
    if encrypted:
        post.socket = post.context.wrap_socket(post.socket, server_side=True)
    line = sent_by_mail(post.mail(), tmp_path)
    assert (line == f"mail: {TO}") == encrypted
    assert bool(post.mails) == encrypted


@pytest.mark.parametrize("verb", ["CONNECT", "MAIL", "RCPT", "MAILED"])
def test_a_mail_server_that_is_busy_is_asked_again(post: Post, tmp_path: Path, verb: str) -> None:
    post.answers = {verb: ["421 busy"]}
    assert sent_by_mail(post.mail(starttls=False), tmp_path) == f"mail: {TO}"
    assert len({mail["Message-ID"] for _, mail in post.mails}) == 1


def test_a_mail_server_that_stays_busy_is_asked_three_times(post: Post, tmp_path: Path) -> None:
    post.answers = {"MAIL": ["450 later"] * 9}
    assert sent_by_mail(post.mail(starttls=False), tmp_path) == "mail: not sent: 450 later"
    assert post.heard.count("MAIL") == 3


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        ("CONNECT", "mail: not sent: 550 no such place"),
        ("MAIL", "mail: not sent: 550 no such place"),
        ("RCPT", f"mail: not sent: {TO}: 550 no such place"),
        ("MAILED", "mail: not sent: 550 no such place"),
    ],
)
def test_a_refusal_is_final(post: Post, tmp_path: Path, verb: str, line: str) -> None:
    post.answers = {verb: ["550 no such place"]}
    assert sent_by_mail(post.mail(starttls=False), tmp_path) == line
    assert post.heard.count("MAIL") == (verb != "CONNECT")


def test_one_refused_address_does_not_stop_the_others(post: Post, tmp_path: Path) -> None:
    post.answers = {"RCPT": ["550 who?"]}
    line = sent_by_mail(post.mail(starttls=False, to=["x@y.example", TO]), tmp_path)
    assert line == f"mail: {TO}; not sent: x@y.example: 550 who?"


@pytest.mark.usefixtures("trusted")
def test_a_wrong_password_is_not_repeated_by_anybody(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, HUNTER)
    post.answers = {"AUTH": [f"535 {HUNTER} is wrong"]}
    line = sent_by_mail(post.mail(user="ann"), tmp_path)
    assert line == f"mail: not sent: user or {PASSWORD} is refused"
    post.answers = {"MAIL": [f"550 not with {HUNTER}"]}
    assert sent_by_mail(post.mail(user="ann"), tmp_path) == "mail: not sent: 550 not with ***"


def test_a_sent_mail_stays_sent_however_they_part(post: Post, tmp_path: Path) -> None:
    post.answers = {"QUIT": ["500 no"]}
    assert sent_by_mail(post.mail(starttls=False), tmp_path) == f"mail: {TO}"
    assert len(post.mails) == 1


def test_a_subject_is_one_line(post: Post, tmp_path: Path) -> None:
    subject = "digits:\r\nBcc: x@y.example\u2028improved"
    sent_by_mail(post.mail(starttls=False), tmp_path, subject)
    ((to, mail),) = post.mails
    assert to == [TO]
    assert mail["Subject"] == "digits: Bcc: x@y.example improved"
    assert mail["Bcc"] is None


# --- the file, and all of them


def test_a_file_grows(tmp_path: Path) -> None:
    who = Notices(file="told/notices.md")
    for word in ("improved", "unchanged"):
        lines = tell(who, subject=word, text="Ja, schön.\n", home=tmp_path / "home")
        assert lines == ["file: told/notices.md"]
    content = (tmp_path / "home" / "told" / "notices.md").read_text(encoding="utf-8")
    assert content == "## improved\n\nJa, schön.\n\n## unchanged\n\nJa, schön.\n\n"


def test_a_link_out_of_the_home_is_not_followed(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    (elsewhere / "kept.md").write_text("kept")
    (home / "told").symlink_to(elsewhere)
    (home / "a.md").symlink_to(elsewhere / "kept.md")
    for name in ("a.md", "told/kept.md", "told/new.md", "told/deep/new.md"):
        lines = tell(Notices(file=name), subject="s", text="t", home=home)
        assert lines == [f"file: not sent: {name}: a link leads out of the home"]
    assert [path.name for path in elsewhere.iterdir()] == ["kept.md"]
    assert (elsewhere / "kept.md").read_text() == "kept"


def test_a_file_that_cannot_be_written_does_not_stop_the_others(web: Web, tmp_path: Path) -> None:
    (tmp_path / "notices.md").mkdir()
    who = Notices(file="notices.md", webhook=True)
    lines = tell(who, subject="s", text="t", home=tmp_path)
    assert lines == ["file: not sent: notices.md: is a directory", "webhook: sent"]
    assert len(web.heard) == 1


def test_all_are_notified_in_order(web: Web, post: Post, tmp_path: Path) -> None:
    mail = post.mail(starttls=False).mail
    lines = tell(
        Notices(file="n.md", mail=mail, webhook=True), subject="s", text="t", home=tmp_path
    )
    assert lines == ["file: n.md", f"mail: {TO}", "webhook: sent"]
    assert len(web.heard) == len(post.mails) == 1


def test_nobody_is_notified(tmp_path: Path) -> None:
    assert tell(Notices(), subject="s", text="t", home=tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_what_went_missing_since_the_start_is_said(post: Post, tmp_path: Path) -> None:
    who = Notices(mail=post.mail(user="ann", starttls=False).mail, webhook=True)
    mail, webhook = tell(who, subject="s", text="t", home=tmp_path)
    assert mail.startswith("mail: not sent: tell.mail.user = 'ann': set MIXUNLEARN_SMTP_PASSWORD")
    assert webhook.startswith("webhook: not sent: tell.webhook = True: set MIXUNLEARN_WEBHOOK")


# --- bad input

MAIL = {"host": "mail.example.org", "from": "a@b.example", "to": [TO]}


@pytest.mark.parametrize(
    ("content", "key", "reason"),
    [
        ({"when": "often"}, "when", "must be 'news' or 'always'"),
        ({"slack": True}, "slack", "Extra inputs"),
        ({"file": ""}, "file", "must be one line"),
        ({"file": "a\nb"}, "file", "must be one line"),
        ({"file": "../../notices.md"}, "file", "must be a file in the home"),
        ({"file": "told/../../notices.md"}, "file", "must be a file in the home"),
        ({"file": "/tmp/notices.md"}, "file", "must be a file in the home"),
        ({"file": "mlflow.db"}, "file", "must be a file in the home"),
        ({"file": ".."}, "file", "must be a file in the home"),
        ({"webhook": "https://host/path"}, "webhook", "must be true or false"),
        ({"mail": {**MAIL, "password": "x"}}, "mail.password", "Extra inputs"),
        ({"mail": {**MAIL, "sender": "x@y"}}, "mail.sender", "Extra inputs"),
        ({"mail": {**MAIL, "to": []}}, "mail.to", "must not be empty"),
        ({"mail": {**MAIL, "to": ["c@d\nBcc: e@f"]}}, "mail.to.0", "must be an address"),
        ({"mail": {**MAIL, "to": ["c@d\n"]}}, "mail.to.0", "must be an address"),
        ({"mail": {**MAIL, "from": "a@b, c@d"}}, "mail.from", "must be an address"),
        ({"mail": {**MAIL, "from": "=?utf-8?q?=0A?=@b"}}, "mail.from", "must be an address"),
        ({"mail": {**MAIL, "from": "ä@b"}}, "mail.from", "must be an address"),
        ({"mail": {**MAIL, "host": "smtp://mail"}}, "mail.host", "must be a host"),
        ({"mail": {**MAIL, "host": "mail.example.org:25"}}, "mail.host", "must be a host"),
        ({"mail": {**MAIL, "port": 70000}}, "mail.port", "must be at most 65535"),
        ({"mail": {**MAIL, "user": "ann\r\nQUIT"}}, "mail.user", "must be one line"),
    ],
)
def test_bad_input_is_named(content: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Notices.model_validate(content)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == key
    said = REMEDIES.get(error["type"], error["msg"]).format(**error.get("ctx", {}))
    assert reason in said


@pytest.mark.parametrize("host", ["mail", "mail.example.org", "10.0.0.1", "::1"])
def test_hosts(host: str) -> None:
    Notices.model_validate({"mail": {**MAIL, "host": host}})


def refused(content: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        check(Notices.model_validate(content))
    return str(caught.value)


@pytest.mark.parametrize(
    ("mail", "password", "line"),
    [
        ({}, "", f"tell.mail.user = 'ann': set {PASSWORD}, or leave user out"),
        ({}, "schön", f"tell.mail.user = 'ann': it and {PASSWORD} must be a line of ASCII"),
        ({}, "a\nb", f"tell.mail.user = 'ann': it and {PASSWORD} must be a line of ASCII"),
        (
            {"starttls": False},
            HUNTER,
            f"tell.mail.starttls = False: {PASSWORD} would be sent unencrypted; "
            "set this to true, or leave user out",
        ),
    ],
)
def test_a_password_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, mail: dict[str, Any], password: str, line: str
) -> None:
    monkeypatch.setenv(PASSWORD, password)
    assert refused({"mail": {**MAIL, "user": "ann", **mail}}) == line


@pytest.mark.parametrize(
    "address",
    [
        *("ftp://host/SECRET", "file:///SECRET", "host/SECRET", "https:///SECRET", "https://"),
        *("https://host:SECRET/", "https://host/SECRET\nx", "https://[SECRET/", "https://a:b@c/d"),
    ],
)
def test_a_webhook_that_is_no_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv(WEBHOOK, address)
    line = f"tell.webhook = True: {WEBHOOK} must be like https://HOST/PATH"
    assert refused({"webhook": True}) == line


def test_a_webhook_without_an_address() -> None:
    line = f"tell.webhook = True: set {WEBHOOK} to its address, or this to false"
    assert refused({"webhook": True}) == line


def test_what_is_complete_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    check(Notices())
    check(Notices.model_validate({"mail": MAIL, "file": "notices.md", "webhook": False}))
    monkeypatch.setenv(PASSWORD, HUNTER)
    monkeypatch.setenv(WEBHOOK, f"https://hooks.example.org/services/{SECRET}")
    check(Notices.model_validate({"mail": {**MAIL, "user": "ann"}, "webhook": True}))
    check(Notices.model_validate({"mail": {**MAIL, "user": "a", "port": 465, "starttls": False}}))


# --- news


def night(
    verdict: Word | None, state: NightState = "done", **experiments: Word | None
) -> NightRecord:
    parts = [PartRecord(name=name, verdict=word) for name, word in experiments.items()]
    return NightRecord(
        plan="plan",
        date=datetime.date(2026, 11, 1),
        state=state,
        verdict=verdict,
        experiments=parts,
    )


QUIET = night("unchanged", a="unchanged", b="unchanged")


@pytest.mark.parametrize(
    ("now", "before", "news"),
    [
        (QUIET, QUIET, False),
        (QUIET, None, True),
        (night("improved"), night("improved"), False),
        (night("improved"), night("unchanged"), True),
        (night("regressed"), night("regressed"), True),
        (night(None, "failed"), night(None, "failed"), True),
        (night("unchanged", "failed", a="unchanged"), QUIET, True),
        (QUIET, night("unchanged", "failed", a="unchanged", b="unchanged"), True),
        # The worst verdict is the same, but one experiment has a new champion.
        (
            night("inconclusive", a="inconclusive", b="improved"),
            night("inconclusive", a="inconclusive", b="unchanged"),
            True,
        ),
    ],
)
def test_what_is_news(now: NightRecord, before: NightRecord | None, news: bool) -> None:
    assert due("news", now, before) == news
    assert due("always", now, before)
