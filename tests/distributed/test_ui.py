import http.client
import json
import re
import signal
import socket
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState, create_trial

from distributed.cli import app as cli
from distributed.plan.make import record_of
from distributed.runtime.addresses import embedded
from distributed.runtime.signals import terminated_as_interrupted
from distributed.serve import pages as ui
from distributed.study.storage import open_record
from distributed.tracking.saved_view import saved_view
from distributed.tracking.study_page import study_page
from distributed.tracking.tracker import Tracker
from mixunlearn.errors import InputError, MissingError, MixUnlearnError

# SQLAlchemy warns MLflow about its next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
PATIENCE_S = 120.0

Answer = tuple[int, dict[str, str], str]


def tracker_of(home: Path, study: str, view: str = "") -> Tracker:
    """Return a tracker that writes a study into the database of a home."""
    uri, location = embedded(home)
    return Tracker(
        uri=uri,
        artifact_location=location,
        experiment="class",
        study=study,
        spool=home / "spool",
        say=print,
        view=view,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which one study with a report was tracked."""
    home = tmp_path_factory.mktemp("ui") / "a home"
    home.mkdir()
    (home / "report.html").write_text("<p>fine</p>")
    tracker = tracker_of(
        home, "night-1", saved_view("night-1", ["gap/avg"], ["bias/mia/asr"], ["lr"])
    )
    tracker.start_study("study", {}, {}, "")
    tracker.log_artifact(None, home / "report.html")
    assert tracker.close(PATIENCE_S) == []
    return home


def get(link: str, method: str = "GET", **headers: str) -> Answer:
    parts = urlsplit(link)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)) as connection:
        connection.request(method, f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()


def processes(link: str) -> list[str]:
    """Return the processes whose command line contains the link's port."""
    port = str(urlsplit(link).port).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += [path.parent.name] if port in path.read_bytes().split(b"\0") else []
    return found


class Visit(NamedTuple):
    """What was observed while MLflow was served, until a signal ended it."""

    code: int
    link: str
    page: str
    answers: dict[str, Answer]
    processes: list[str]


@pytest.fixture(scope="module")
def visit(home: Path) -> Visit:
    uri = embedded(home)[0]
    links: list[str] = []
    answers: dict[str, Answer] = {}
    seen: list[str] = []

    def look(page: str) -> None:
        link = page.partition("/#/")[0]
        links.append(page)
        seen.extend(processes(link))
        client = MlflowClient(tracking_uri=link)
        (run,) = client.search_runs([item.experiment_id for item in client.search_experiments()])
        artifact = f"get-artifact?path=report.html&run_uuid={run.info.run_id}"
        answers["page"] = get(f"{link}/")
        answers["artifact"] = get(f"{link}/{artifact}")
        answers["stranger"] = get(f"{link}/", Host="evil.example")
        answers["telemetry"] = get(f"{link}/ajax-api/3.0/mlflow/ui-telemetry")
        signal.raise_signal(signal.SIGTERM)

    code = ui.serve(home, uri, None, None, look)
    (page,) = links
    return Visit(code, page.partition("/#/")[0], page, answers, seen)


def test_pages_and_artifacts_are_served(home: Path, visit: Visit) -> None:
    status, headers, page = visit.answers["page"]
    assert status == 200
    assert "<title>MLflow" in page
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert visit.answers["artifact"][2] == "<p>fine</p>"
    left = {path.name for path in home.iterdir()}
    assert left == {"mlartifacts", "mlflow.db", "report.html", "spool.json"}


def test_the_address_is_that_of_the_study_in_the_view_for_training(visit: Visit) -> None:
    place, _, words = visit.page.removeprefix(visit.link).partition("?")
    assert re.fullmatch(r"/#/experiments/\d+/runs", place)
    assert parse_qs(words) == {
        "workflowType": ["machine_learning"],
        "viewStateShareKey": ["night-1"],
    }


def test_a_study_without_a_saved_view_is_searched_for(tmp_path: Path) -> None:
    """One that an earlier version has tracked."""
    uri, _ = embedded(tmp_path)
    tracker = tracker_of(tmp_path, "old-1")
    tracker.start_study("study", {}, {}, "")
    tracker.start_trial(3, "trial", {}, {})
    assert tracker.close(PATIENCE_S) == []
    for study in (None, "old-1"):
        words = study_page(uri, study).partition("?")[2]
        assert parse_qs(words) == {
            "workflowType": ["machine_learning"],
            "searchFilter": ["tags.`mixunlearn.study` = 'old-1'"],
        }
    with pytest.raises(InputError, match=r"^STUDY = 'new-2': .* `mixunlearn sync new-2` sends"):
        study_page(uri, "new-2")


def test_under_a_base_path_the_pages_and_their_study_are_found(home: Path) -> None:
    def look(page: str) -> None:
        assert len(said) == 1  # before
        link = page.partition("/#/")[0]
        assert urlsplit(link).path == path
        status, _, text = get(f"{link}/")
        assert status == 200
        assert "<title>MLflow" in text
        assert "viewStateShareKey=night-1" in page
        signal.raise_signal(signal.SIGTERM)

    said: list[str] = []
    path = "/behind/a-proxy"
    assert ui.serve(home, embedded(home)[0], None, None, look, base_path=path, say=said.append) == 0
    assert said == ["MLflow's server is starting, which takes some seconds"]


@pytest.mark.parametrize("path", ["mlflow", "/mlflow/", "/"])
def test_a_base_path_that_is_none(home: Path, path: str) -> None:
    with pytest.raises(InputError, match=rf"^base-path = '{path}': begin it with a slash"):
        ui.serve(home, embedded(home)[0], None, None, pytest.fail, base_path=path)


def test_a_host_that_is_not_of_this_machine(home: Path) -> None:
    with pytest.raises(InputError, match=r"^host = '192\.0\.2\.1': "):
        ui.serve(home, embedded(home)[0], None, None, pytest.fail, host="192.0.2.1")


def test_a_page_at_another_address_may_search(home: Path) -> None:
    """MLflow lets no page search but those at 127.0.0.1, unless it is told."""

    def look(page: str) -> None:
        parts = urlsplit(page)
        assert parts.hostname == "127.0.0.2"
        search = f"http://{parts.netloc}/ajax-api/2.0/mlflow/experiments/search?max_results=1"
        for origin, expected in ((f"http://{parts.netloc}", 200), ("http://evil.example", 403)):
            headers = {"Origin": origin, "Content-Type": "application/json"}
            with closing(http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)) as link:
                link.request("POST", urlsplit(search).path, '{"max_results": 1}', headers)
                assert link.getresponse().status == expected
        assert get(search, Host="evil.example")[0] == 403
        signal.raise_signal(signal.SIGTERM)

    assert ui.serve(home, embedded(home)[0], None, None, look, host="127.0.0.2") == 0


def test_on_all_addresses_the_names_of_this_machine_are_let_in() -> None:
    assert ui.names("127.0.0.1", 5000) == {}
    hosts, origins = (set(value.split(",")) for value in ui.names("0.0.0.0", 5000).values())
    assert {"127.0.0.1:5000", "localhost:5000", f"{socket.gethostname()}:5000"} <= hosts
    assert origins == {f"http://{name}" for name in hosts}
    assert not any("*" in name for name in hosts)


def test_a_host_that_others_reach_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ui", "--home", str(tmp_path), "--host", "0.0.0.0"]
    monkeypatch.setattr("sys.argv", ["mixunlearn", *words])
    assert cli.main() == 1  # nothing was tracked
    warning, *_ = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: MLflow listens on 0.0.0.0: whoever can reach")


def test_only_this_machine_is_answered_and_telemetry_is_off(visit: Visit) -> None:
    assert visit.link.startswith("http://127.0.0.1:")
    assert visit.answers["stranger"][0] == 403
    assert json.loads(visit.answers["telemetry"][2])["disable_ui_telemetry"] is True


def test_a_signal_ends_it_well(visit: Visit) -> None:
    assert visit.code == 0
    assert len(visit.processes) >= 2 or not Path("/proc/self").exists()
    assert processes(visit.link) == []
    with pytest.raises(ConnectionRefusedError):
        get(visit.link)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_termination_is_taken_as_ctrl_c(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    # A shell's background jobs ignore Ctrl-C; these tests may be one of them.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), terminated_as_interrupted():
            signal.raise_signal(number)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_users_own_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    uri = "postgresql://ann:hunter2@db/x"
    assert ui.environment(uri)["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert ui.environment(uri)["MLFLOW_BACKEND_STORE_URI"] == uri
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    assert ui.environment(uri)["MLFLOW_DISABLE_TELEMETRY"] == "false"


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
    assert said == ["https://***@mlflow.example"]


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


EXPERIMENT = """
name: small
data: {source: digits}
model: {name: cnn}
task: {kind: class}
"""
STUDY = "small-1234abcd"


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a record with one trial."""
    address = f"{request.param}:///{tmp_path}/study"
    if request.param == "postgresql":
        address = request.getfixturevalue("postgres")
    storage, key = open_record(address, STUDY)
    storage.create_new_trial(key, create_trial(state=TrialState.COMPLETE, value=1.25))
    storage.remove_session()
    if engine := getattr(getattr(storage, "_backend", None), "engine", None):
        engine.dispose()
    return address


def test_a_dashboard_shows_a_study_and_changes_nothing(record: str) -> None:
    seen: dict[str, Answer] = {}
    links: list[str] = []

    def look(link: str) -> None:
        links.append(link)
        commands = [Path(f"/proc/{each}/cmdline").read_bytes() for each in processes(link)]
        assert commands
        assert not any(b"secret" in command for command in commands)
        seen["first"] = get(f"{link}/")
        page = f"{link}{seen['first'][1]['location']}"
        seen["page"] = get(page)
        api = page.replace("dashboard", "api")
        seen["study"] = get(api)
        seen["deleting"] = get(api, "DELETE")
        seen["stranger"] = get(api, Host="evil.example")
        seen["tunnel"] = get(api, Host="localhost:1234")
        seen["after"] = get(api)
        signal.raise_signal(signal.SIGTERM)

    assert ui.serve_dashboard(STUDY, record, None, look) == 0
    (link,) = links
    assert link.startswith("http://127.0.0.1:")
    assert seen["first"][0] == 302
    assert "Optuna Dashboard" in seen["page"][2]
    found = json.loads(seen["study"][2])
    assert found["name"] == STUDY
    assert [trial["values"] for trial in found["trials"]] == [[1.25]]
    assert seen["deleting"][0] == seen["stranger"][0] == 403
    assert seen["after"][2] == seen["tunnel"][2] == seen["study"][2]
    assert processes(link) == []
    with pytest.raises(ConnectionRefusedError):
        get(link)


def test_a_record_that_is_away_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"postgresql://ann:hunter2@127.0.0.1:{taken.getsockname()[1]}/x"
        with pytest.raises(MixUnlearnError, match="does not answer") as caught:
            ui.serve_dashboard(STUDY, uri, None, pytest.fail)
    assert "hunter2" not in str(caught.value)


def test_no_such_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "studies" / STUDY
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    monkeypatch.setattr(
        "sys.argv", ["mixunlearn", "ui", "--home", str(tmp_path), "--dashboard", "smol"]
    )
    assert cli.main() == 2
    assert f"STUDY = 'smol': no such study in {tmp_path}/studies; did you mean '{STUDY}'" in (
        capsys.readouterr().err
    )
    assert record_of(STUDY, [], tmp_path) == f"sqlite:///{folder}/study.db"
    hidden = "storage.study=postgresql://ann:***@host/name"  # as stored in a study's experiment
    assert record_of(STUDY, [hidden], tmp_path) == "postgresql://ann@host/name"
