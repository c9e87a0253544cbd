"""Optuna's dashboard of one study, to look at: run as a program, in a process of its own.

Of a study's record nothing may be lost, and a page of any other site could ask this one to delete
it. So whatever would change something is refused, and so is any other host name than this one's.
"""

import os
import sys
from collections.abc import Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from optuna_dashboard import wsgi

from distributed.serve.pages import RECORD_VARIABLE
from distributed.study.storage import open_record

NAMES = {"127.0.0.1", "localhost"}  # of this machine; the port may be that of a tunnel
LOOKING = {"GET", "HEAD"}


class Threads(ThreadingMixIn, WSGIServer):
    """Answers several requests at once; those that are open end with the process."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def guarded(application: WSGIApplication, page: str) -> WSGIApplication:
    """Return an application that only shows, to this machine, and begins with one page.

    Args:
        application: to protect.
        page: path that the root leads to.
    """

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_HOST", "").partition(":")[0] not in NAMES:
            return _refuse(start, "asked under a name that is not this machine's")
        if environ["REQUEST_METHOD"] not in LOOKING:
            return _refuse(start, "the study is shown, not changed")
        if environ.get("PATH_INFO", "") in {"", "/"}:
            start("302 Found", [("Location", page), ("Content-Length", "0")])
            return [b""]
        # The dashboard takes it for granted that every browser sends this.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")
        return application(environ, start)

    return answer


def _refuse(start: StartResponse, reason: str) -> list[bytes]:
    status = HTTPStatus.FORBIDDEN
    start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [reason.encode()]


def main(study: str, host: str, port: str) -> None:
    """Serve the dashboard until the process is ended.

    Args:
        study: its name; its record's address is in the environment.
        host: address to listen on.
        port: to listen on.
    """
    storage, key = open_record(os.environ[RECORD_VARIABLE], study)
    application = guarded(wsgi(storage), f"/dashboard/studies/{key}")
    make_server(host, int(port), application, Threads, Quiet).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
