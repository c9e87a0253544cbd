"""What tests of several folders share and is cheap to import: a browser, an S3 server."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow.fs import S3FileSystem

from tests.warm import PARENT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BUCKET = "bucket"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--no-first-run"]
MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON line that ends standard output."""
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found


Command = Callable[..., Run]


@dataclass(frozen=True)
class S3:
    """An S3 server on this machine, with one bucket.

    Args:
        endpoint: host and port.
    """

    endpoint: str

    def uri(self, folder: str = "") -> str:
        """Return the address of the bucket, or of a folder in it."""
        path = f"{BUCKET}/{folder}".rstrip("/")
        return f"s3://{path}?endpoint_override={self.endpoint}&scheme=http"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server in a process of its own; it ends when its input does, even if we are killed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",  # otherwise the client asks the network for keys
        }.items():
            patch.setenv(name, value)
        with subprocess.Popen(
            [*PARENT.quick, "-c", MOTO],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # one line per request
            text=True,
        ) as server:
            assert server.stdout
            found = S3(f"127.0.0.1:{int(server.stdout.readline())}")
            S3FileSystem(
                endpoint_override=found.endpoint, scheme="http", allow_bucket_creation=True
            ).create_dir(BUCKET)
            yield found
            assert server.stdin
            server.stdin.close()


@pytest.fixture(scope="module")  # its event loop must not remain for the tests of other files
def browser() -> Iterator["Browser"]:
    """Chromium, if the machine has it: then Playwright's own need not be downloaded."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no Chromium here: {', '.join(PROGRAMS)}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()
