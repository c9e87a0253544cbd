import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from distributed import ui
from distributed.tracking import Tracker, embedded
from mixunlearn.errors import InputError, MissingError, MixUnlearnError

ROOT = Path(__file__).parents[2]
# SQLAlchemy tells MLflow about the next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
PATIENCE_S = 120.0

SERVE = """
import sys
from pathlib import Path
from distributed.ui import serve
sys.exit(serve(Path(sys.argv[1]), sys.argv[2], None, None, lambda text: print(text, flush=True)))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which one study with a report was tracked."""
    home = tmp_path_factory.mktemp("ui") / "a home"
    home.mkdir()
    (home / "report.html").write_text("<p>fine</p>")
    uri, location = embedded(home)
    tracker = Tracker(uri=uri, artifact_location=location, experiment="class", study="night-1")
    tracker.start_study("study", {}, {}, "")
    tracker.log_artifact(None, home / "report.html")
    assert tracker.close(PATIENCE_S) == []
    return home


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[ui.Server]:
    with ui.server(home, embedded(home)[0], None, None) as running:
        group = running.process.pid
        os.killpg(group, 0)
        yield running
    with pytest.raises(ProcessLookupError):  # nothing of it is left
        os.killpg(group, 0)


def get(link: str, **headers: str) -> tuple[int, dict[str, str], str]:
    parts = urlsplit(link)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()


def test_pages_and_artifacts_are_served(home: Path, running: ui.Server) -> None:
    status, headers, page = get(f"{running.link}/")
    assert status == 200
    assert "<title>MLflow" in page
    assert headers["x-frame-options"] == "SAMEORIGIN"
    client = MlflowClient(tracking_uri=running.link)
    (run,) = client.search_runs([item.experiment_id for item in client.search_experiments()])
    query = f"path=report.html&run_uuid={run.info.run_id}"
    assert get(f"{running.link}/get-artifact?{query}")[2] == "<p>fine</p>"
    assert sorted(path.name for path in home.iterdir()) == [
        "mlartifacts",
        "mlflow.db",
        "report.html",
    ]


def test_only_this_machine_is_answered_and_telemetry_is_off(running: ui.Server) -> None:
    assert get(f"{running.link}/", Host="evil.example")[0] == 403
    config = json.loads(get(f"{running.link}/ajax-api/3.0/mlflow/ui-telemetry")[2])
    assert config["disable_ui_telemetry"] is True


def test_the_users_own_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    uri = "postgresql://ann:hunter2@db/x"
    assert ui.environment(uri)["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert ui.environment(uri)["MLFLOW_BACKEND_STORE_URI"] == uri
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    assert ui.environment(uri)["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_ctrl_c_ends_it_well(home: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(home), embedded(home)[0]]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        link = program.stdout.readline().decode().split()[4]
        assert get(f"{link}/health")[0] == 200
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE_S) == 0
    with pytest.raises(ConnectionRefusedError):
        get(f"{link}/health")


def test_termination_is_taken_as_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ui.terminated_as_interrupted():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_server_that_does_not_start_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_STATIC_PREFIX", "no-slash")
    with pytest.raises(MixUnlearnError, match=r"did not start: Error: .*--static-prefix"):
        ui.serve(home, embedded(home)[0], None, None, pytest.fail)


def test_a_file_that_is_no_database_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("something else, and long enough for a header" * 10)
    with pytest.raises(MixUnlearnError, match="not a database"):
        ui.serve(tmp_path, embedded(tmp_path)[0], None, None, pytest.fail)


def test_before_the_first_sweep_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="mixunlearn sweep EXPERIMENT"):
        ui.serve(tmp_path, embedded(tmp_path)[0], None, None, pytest.fail)
    assert list(tmp_path.iterdir()) == []


def test_a_tracking_server_has_its_own_pages(tmp_path: Path) -> None:
    said: list[str] = []
    uri = "https://ann:hunter2@mlflow.example"
    assert ui.serve(tmp_path, uri, None, None, said.append) == 0
    assert said == ["MLflow's pages are at https://ann:***@mlflow.example"]


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(home: Path, port: int) -> None:
    with pytest.raises(InputError, match=r"^port = "):
        ui.serve(home, embedded(home)[0], None, port, pytest.fail)


def test_a_port_in_use(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"^port = {port}: Address already in use") as caught:
            ui.serve(home, embedded(home)[0], None, port, pytest.fail)
    assert caught.value.key == "port"
