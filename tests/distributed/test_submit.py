"""Sweeps as Ray jobs: sent to a cluster on this machine, followed, queried, stopped."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from distributed.cluster import jobs, submit
from distributed.cluster.jobs import Jobs, JobState
from mixunlearn.errors import InputError, MixUnlearnError
from tests.fixtures import Command, Run
from tests.warm import BY_PIPE, PARENT
from tests.worker import WARM_MODULES

pytestmark = pytest.mark.filterwarnings(
    "ignore:ssl=None:DeprecationWarning"
)  # a warning from aiohttp about Ray

ROOT = Path(__file__).parents[2]
EXPERIMENT = "experiments/digits_class.yaml"
HOST = "127.0.0.2"  # Ray replaces 127.0.0.1 by the machine's outward address
SETTINGS = {
    "data.limit.train": 500,
    "model.width": 4,
    "references.seeds": 1,
    "references.epochs": 1,
    "search.trials": 1,
    "search.epochs": 1,
    "search.scheduler": "none",
    "resources.cpu": 2,  # one worker at a time: each imports everything
}
TINY = [word for item in SETTINGS.items() for word in ("--set", "=".join(map(str, item)))]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster with token and dashboard."""

    address: str
    environment: dict[str, str]


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [item.getsockname()[1] for item in sockets]


def clean_environment(token: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    programs = (Path(PARENT.python).parent, Path(sys.executable).parent, kept["PATH"])
    path = os.pathsep.join(map(str, programs))  # `python -m mixunlearn` is a fork
    return kept | {"RAY_AUTH_TOKEN_PATH": str(token), "PATH": path, WARM_MODULES: "mixunlearn"}


def end(head: subprocess.Popen[bytes], folder: str) -> None:
    """End a head and what it started: other Rays may run on this machine."""
    mine = psutil.Process(head.pid).children(recursive=True)
    head.terminate()
    try:
        head.wait(20)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or ()):
            mine.append(process)
    for process in mine:
        if process.is_running():
            process.kill()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    patience = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.3)


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((HOST, port)) == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head on the loopback address, with its own folder and its own token."""
    with TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        environment = clean_environment(token)
        gcs, dashboard, agent, client = free_ports(4)
        options = {
            "node-ip-address": HOST,
            "port": gcs,
            "dashboard-host": HOST,
            "dashboard-port": dashboard,
            "dashboard-agent-listen-port": agent,
            "ray-client-server-port": client,
            "temp-dir": f"{folder}/ray",
            "num-cpus": 2,
            "object-store-memory": 100_000_000,
        }
        ray = [*PARENT.ray, "start", "--head", "--block"]
        head = subprocess.Popen(
            [
                *ray,
                "--disable-usage-stats",
                *(f"--{key}={value}" for key, value in options.items()),
            ],
            env=environment | {"RAY_AUTH_MODE": "token"} | BY_PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,
        )
        try:
            wait_for(lambda: listens(dashboard), 60)
            yield Cluster(address=f"http://{HOST}:{dashboard}", environment=environment)
        finally:
            end(head, folder)


@pytest.fixture
def send(cluster: Cluster, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `mixunlearn submit` with the cluster's address and token."""
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", cluster.environment["RAY_AUTH_TOKEN_PATH"])
    monkeypatch.chdir(ROOT)

    def run(*words: str) -> Run:
        return mixunlearn("submit", *words, "--address", cluster.address)

    return run


@pytest.fixture
def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", cluster.environment["RAY_AUTH_TOKEN_PATH"])
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.2:1")  # the option has priority
    return Jobs(cluster.address)


@pytest.fixture(autouse=True)
def no_cluster_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


# --- with a cluster


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_is_sent_followed_and_asked_after(send: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    sent = send(EXPERIMENT, *TINY, "--home", str(home), "--json")
    assert sent.code == 0, sent.err
    result = sent.result
    assert result["status"] == "SUCCEEDED"
    assert result["exit_code"] == 0
    assert result["id"].startswith("digits-class-")
    assert "1 original and 1 reference" in sent.err  # the sweep's own message
    assert list(home.glob("studies/digits-class-*/summary.json"))

    asked = send("--status", result["id"])
    assert (asked.code, asked.err) == (0, "")
    assert asked.out == f"{result['id']}: succeeded, {result['seconds']:.0f} s, exit code 0\n"
    stopped = send("--stop", result["id"])
    assert stopped.code == 0
    assert "succeeded" in stopped.out


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_is_stopped(send: Command, client: Jobs, tmp_path: Path) -> None:
    long = ["--trials", "500", "--home", str(tmp_path), "--no-follow", "--json"]
    run = send(EXPERIMENT, *TINY, *long)
    assert run.code == 0, run.err
    sent = run.result
    assert sent["status"] in {"PENDING", "RUNNING"}
    wait_for(lambda: bool(list(tmp_path.glob("studies/*/experiment.yaml"))), 60)
    stopped = send("--stop", sent["id"])
    assert stopped.code == 0
    assert "stopped" in stopped.out
    assert client.state(sent["id"]).code == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_stopped_job_has_time_to_end(client: Jobs) -> None:
    """Ray itself would kill it after three seconds."""
    script = (
        "import signal, sys, time\n"
        "def end(*_): time.sleep(5); print('in order', flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    job = client.send("patient", f'exec python -c "{script}"', submit.environment())
    log: list[str] = []
    wait_for(lambda: "ready" in client._client.get_job_logs(job), 30)
    state = client.stop(job)
    assert state.status == "STOPPED"
    assert client.follow(job, log.append) == state
    assert "in order" in "".join(log)


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_that_fails_there_tells_why(send: Command, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.parquet")
    data = ["--set", f"data={{source: parquet, train: {missing}, test: {missing}}}"]
    run = send(EXPERIMENT, *TINY, *data, "--home", str(tmp_path / "home"))
    assert run.code == 2  # the sweep's own
    assert "missing.parquet" in run.out
    assert "failed" in run.out
    assert run.out.count("\n") == 1


@pytest.mark.ray
@pytest.mark.slow
def test_what_the_cluster_refuses(
    cluster: Cluster, client: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ask in (client.state, client.stop):
        with pytest.raises(InputError, match="JOB = 'nobody': no such job"):
            ask("nobody")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "1" * 32)
    with pytest.raises(MixUnlearnError, match="the token is wrong"):
        Jobs(cluster.address)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(MixUnlearnError, match="requires a token; copy") as caught:
        Jobs(cluster.address)
    assert "\n" not in str(caught.value)


# --- without one


def test_a_dead_address_is_told_within_seconds(
    mixunlearn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "")
    (port,) = free_ports(1)
    run = mixunlearn("submit", "--status", "x", "--address", f"http://{HOST}:{port}")
    assert (run.code, run.out) == (1, "")
    assert run.err.count("\n") == 1
    assert "connection refused" in run.err


def test_one_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ANSWER_S", 0.2)
    with (
        socket.create_server((HOST, 0)) as server,
        pytest.raises(MixUnlearnError, match="timed out"),
    ):
        Jobs(f"http://{HOST}:{server.getsockname()[1]}")


@pytest.mark.parametrize("wrong", ["127.0.0.2:8265", "ray://h:1", "http://", "http://h:99999"])
def test_what_is_no_address(wrong: str) -> None:
    with pytest.raises(InputError, match="must be the address of the cluster"):
        jobs.dashboard(wrong)


def test_the_environment_names_the_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jobs.dashboard(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # address of Ray, not of its dashboard
    assert jobs.dashboard(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://10.0.0.1:8265/")
    assert jobs.dashboard(None) == "http://10.0.0.1:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://10.0.0.2")
    assert jobs.dashboard(None) == "https://10.0.0.2"
    assert jobs.dashboard("http://10.0.0.3:1") == "http://10.0.0.3:1"


def test_the_command_that_is_sent() -> None:
    name, command = submit.entrypoint(
        ROOT / EXPERIMENT, ["search.space={lr: 1e-4}"], None, ["--retry-failed"]
    )
    assert name == "digits-class"
    assert command == (
        "exec python -m mixunlearn sweep experiments/digits_class.yaml "
        "--home '~/mixunlearn-runs' --retry-failed --set 'search.space={lr: 1e-4}'"
    )


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text((ROOT / EXPERIMENT).read_text())
    with pytest.raises(InputError, match=r"only files in .* are submitted"):
        submit.entrypoint(copy)
    with pytest.raises(InputError, match="nonsense"):
        submit.entrypoint(ROOT / EXPERIMENT, ["nonsense=1"])
    with pytest.raises(InputError, match="that starts with /"):
        submit.entrypoint(ROOT / EXPERIMENT, home="runs")
    for secret in (
        "tracking.uri=postgresql://me:tulip@h/db",
        "tracking.uri=http://tulip@h",
        "tracking={uri: 'https://h/?access_token=tulip'}",
        "storage.files=s3://box?sig=tulip",
    ):
        with pytest.raises(InputError, match="passwords") as caught:
            submit.entrypoint(ROOT / EXPERIMENT, [secret])
        assert "tulip" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "passed_on"),
    [
        ("http://mlflow:5000", True),
        ("postgresql://me@h/db", True),
        ("http://me:tulip@mlflow:5000", False),
        ("http://tulip@mlflow:5000", False),
        ("sqlite:////tmp/mlflow.db", False),
        ("file:///tmp/mlruns", False),
        ("/tmp/mlruns", False),
    ],
)
def test_the_tracking_server_is_passed_on(
    address: str, passed_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tulip")
    told = submit.environment()
    assert told.get("MLFLOW_TRACKING_URI") == (address if passed_on else None)
    assert "tulip" not in str(told)


@pytest.mark.parametrize(
    ("status", "exit_code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 4, 4),
        ("FAILED", None, 1),
        ("FAILED", -9, 1),
        ("FAILED", 127, 1),
        ("STOPPED", None, 1),
        ("RUNNING", None, 1),
    ],
)
def test_exit_codes(status: str, exit_code: int | None, expected: int) -> None:
    state = JobState(
        id="x",
        status=status,
        message="",
        exit_code=exit_code,
        started=None,
        ended=None,
        seconds=1.0,
    )
    assert state.code == expected


@pytest.mark.parametrize(
    "words", [[], [EXPERIMENT, "--status", "x"], ["--status", "x", "--stop", "y"]]
)
def test_one_thing_at_a_time(words: list[str], mixunlearn: Command) -> None:
    run = mixunlearn("submit", *words, "--address", "http://127.0.0.2:1")
    assert (run.code, run.out) == (2, "")
    assert "give one of these" in run.err
