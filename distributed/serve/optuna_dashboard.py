"""Optuna's dashboard of one study, read-only; runs as a program in its own process.

A web page of another site could send requests to the dashboard, for example to delete the study.
So every request that would change something is refused, and so is every other host name.
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

NAMES = {"127.0.0.1", "localhost"}  # of this machine; the port may differ, behind a tunnel
LOOKING = {"GET", "HEAD"}


class Threads(ThreadingMixIn, WSGIServer):
    """Handles several requests at once; open requests end with the process."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def guarded(application: WSGIApplication, page: str) -> WSGIApplication:
    """Return a read-only application for this machine alone, which starts with one page.

    Args:
        application: the application to protect.
        page: path to which the root redirects.
    """

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        # DNS rebinding: the name of another site may point here, and its scripts would read this.
        if environ.get("HTTP_HOST", "").partition(":")[0] not in NAMES:
            return _refuse(start, "this host name is not allowed")
        if environ["REQUEST_METHOD"] not in LOOKING:
            return _refuse(start, "this dashboard is read-only")
        if environ.get("PATH_INFO", "") in {"", "/"}:
            start("302 Found", [("Location", page), ("Content-Length", "0")])
            return [b""]
        # The dashboard fails without this header, which some clients do not send.
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
        study: name of the study; the address of its record is in the environment.
        host: address to listen on.
        port: port to listen on.
    """
    # Not an argument: the address may contain a password, and command lines are public.
    storage, key = open_record(os.environ[RECORD_VARIABLE], study)
    application = guarded(wsgi(storage), f"/dashboard/studies/{key}")
    make_server(host, int(port), application, Threads, Quiet).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
