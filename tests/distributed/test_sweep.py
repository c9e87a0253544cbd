"""Whole sweeps on digits: real Ray, real Optuna, real MLflow."""

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import optuna
import pytest
import yaml
from mlflow.tracking._tracking_service import utils
from optuna.trial import TrialState
from PIL import Image

from distributed.cli import search as search_command
from distributed.config.read import make_experiment
from distributed.plan.plan import PARTS
from distributed.runtime.addresses import sqlite_address
from distributed.search import best as best_model
from distributed.search import session as command_session
from distributed.search import trial_callback as callback
from distributed.search import trials as tune_trials
from distributed.study.trials_table import read_trials
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import MixUnlearnError
from mixunlearn.evidence.states import STATES
from mixunlearn.files import Files
from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.splits import make_splits
from tests.fixtures import S3, Command, Run

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray"),
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),
]

EXPERIMENT = {
    "name": "small",
    "data": {"source": "digits"},
    "model": {"name": "cnn", "width": 4},
    "task": {"kind": "class", "classes": [0]},
    "references": {"seeds": 3, "epochs": 4, "lr": 3e-3},
    "search": {"trials": 4, "epochs": 2, "space": {"batch": 64}},
}
ONE_WORKER = f"resources.cpu={os.cpu_count()}"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT))
    return path


@pytest.fixture
def command(experiment: Path, mixunlearn: Command) -> Command:
    def run(verb: str, home: Path, *words: str, study: str | None = None) -> Run:
        what = study or str(experiment)
        return mixunlearn(verb, what, "--home", str(home), "--json", *words)

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home, like a user's, for the tests that build on each other's results."""
    # With characters that mean something in addresses and patterns.
    return tmp_path_factory.mktemp("home") / "100%25?[br]{ac}*#"


def study_folder(home: Path) -> Path:
    (folder,) = (home / "studies").iterdir()
    return folder


def files(home: Path) -> dict[str, int]:
    """Return all files of the store with the time they were written."""
    return {
        str(path): path.stat().st_mtime_ns for path in (home / "store").rglob("*") if path.is_file()
    }


def everything(home: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of change of everything in a home."""
    found = {path: path.stat() for path in home.rglob("*")}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found.items()}


def optuna_trials(home: Path) -> list[optuna.trial.FrozenTrial]:
    folder = study_folder(home)
    storage = sqlite_address(folder / "study.db")
    return optuna.load_study(study_name=folder.name, storage=storage).trials


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the name of its run in MLflow."""
    return {name: value for name, value in row.items() if name != "mlflow_run_id"}


class TestOneSweep:
    """In order: a sweep, the same again, more trials."""

    @pytest.mark.pictures
    def test_a_sweep_ends_with_a_verdict(self, command: Command, home: Path) -> None:
        run = command("sweep", home)
        assert run.code == 0, run.err
        result = run.result
        assert result["trials"]["failed"] == 0
        assert result["trials"]["complete"] + result["trials"]["pruned"] == 4
        assert result["gap_metrics"][1] == "acc/test_retain"
        assert result["best"][0]["params"]["batch"] == 64
        assert result["default"]["trial"] == 0
        assert result["spread"]["gap/avg"]["n"] == 3
        assert result["spread"]["originals"] == [0, 1, 2]
        for kind in ("references", "originals"):
            assert result[kind]["mia/asr"]["n"] == 3
            assert result[kind]["mia/asr"]["sd"] is not None
        assert result["original"]["gap/avg"] > 30 > result["best"][0]["gap/avg"]
        verdict = result["verdict"]
        assert verdict["state"] in STATES
        assert (verdict["looks"], verdict["earlier"]) == (1, [])
        assert verdict["metrics"].keys() == set(result["gap_metrics"])
        again, retrained = (result[kind]["mia/asr"]["mean"] for kind in ("spread", "references"))
        assert verdict["metrics"]["mia/asr"]["value"] == pytest.approx(again - retrained)
        # Doing nothing leaves a whole class in the model.
        assert verdict["improvements"]["forgetting"]["mean"] > 10
        # One run had the device to itself, and so had the retraining that it is compared with.
        timed = {name: result["spread"][f"time/{name}"] for name in ("at_once", "ratio_to_retrain")}
        assert [each["n"] for each in timed.values()] == [1, 1]
        assert timed["at_once"]["mean"] == 1
        assert (
            "of retraining" in verdict["reasons"][-1] or "as retraining" in verdict["reasons"][-1]
        )
        assert result["spread"]["cost/ratio_to_retrain"]["n"] == 3
        shared = [each for each in result["best"] if each["time/at_once"] > 1]
        assert not any("time/ratio_to_retrain" in each for each in shared)
        first = " ".join(run.out.split())
        assert first.startswith(f"Trial {result['best'][0]['trial']} of 4 is {verdict['state']}.")
        assert "references" in run.out
        assert "fresh seeds" in run.out
        assert "mixunlearn ui" in run.out
        assert "6 to train, 0 cached" in run.err
        assert "4 of 4 done" in run.err
        assert "Traceback" not in run.err

    def test_trials_parquet_holds_every_trial(self, home: Path) -> None:
        rows = read_trials(study_folder(home) / "trials.parquet")
        assert sorted(row["trial"] for row in rows) == [0, 1, 2, 3]  # type: ignore[type-var]
        for row in rows:
            assert row["study"] == study_folder(home).name
            assert row["method"] == "mixunlearn"
            assert row["state"] in ("complete", "pruned")
            assert row["mlflow_run_id"]
            assert len(str(row["trial_id"])) == 8
            assert row["params/batch"] == 64
            assert {"acc/val", "gap/avg", "gap/mia/asr", "z/mia/asr", "time/unlearn_s"} <= set(row)
        assert not any("test" in name for name in rows[0])

    def test_optuna_holds_no_open_trial_and_no_test_metric(self, home: Path) -> None:
        trials = optuna_trials(home)
        assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert not any("/test" in json.dumps(trial.user_attrs) for trial in trials)

    def test_records_are_their_owner_s_alone(self, home: Path) -> None:
        places = [home / "mlflow.db", study_folder(home), *study_folder(home).iterdir()]
        assert {"study.db", "trials.parquet", "experiment.yaml"} <= {path.name for path in places}
        assert [path for path in places if path.stat().st_mode & 0o077] == []

    def test_plots_are_drawn(self, home: Path) -> None:
        plots = study_folder(home) / "plots"
        for name in ("gap_by_trial", "metrics_against_references"):
            with Image.open(plots / f"{name}.png") as image:
                assert image.width > 600

    def test_mlflow_holds_parent_children_and_references(self, home: Path) -> None:
        self.look_into_mlflow(home, "mlflow.db")

    def look_into_mlflow(self, home: Path, database: str) -> None:
        client = mlflow.MlflowClient(sqlite_address(home / database))
        experiments = {each.name: each.experiment_id for each in client.search_experiments()}
        runs = client.search_runs([experiments["small"]])
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        (parent,) = (run for run in runs if run not in children)
        assert len(children) == 4
        assert parent.info.status == "FINISHED"
        assert parent.data.params["search.trials"] == "4"
        rows = {
            row["mlflow_run_id"]: row for row in read_trials(study_folder(home) / "trials.parquet")
        }
        for child in children:
            row = rows[child.info.run_id]
            assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert child.data.tags["mixunlearn.state"] == row["state"]
            assert child.data.metrics["gap/avg"] == pytest.approx(row["gap/avg"])
            steps = client.get_metric_history(child.info.run_id, "gap/avg")
            assert [metric.step for metric in steps] == list(range(1, int(str(row["epochs"])) + 1))
        best = max(children, key=lambda run: -run.data.metrics["gap/avg"])
        (model,) = client.list_artifacts(best.info.run_id, "model")
        assert any(
            file.path.endswith(".safetensors")
            for file in client.list_artifacts(best.info.run_id, model.path)
        )
        references = client.search_runs([experiments["mixunlearn-references"]])
        roles = Counter(run.data.tags["mixunlearn.role"] for run in references)
        assert roles == {"original": 3, "reference": 3}
        linked = parent.data.tags["mixunlearn.references"]
        assert all(run.info.run_id in linked for run in references)
        used_by = f"mixunlearn.used_by.{study_folder(home).name}"
        assert {run.data.tags[used_by] for run in references} == {parent.info.run_id}
        self.look_at_the_parent(client, parent, home)

    def look_at_the_parent(
        self, client: mlflow.MlflowClient, parent: mlflow.entities.Run, home: Path
    ) -> None:
        run_id, tags = parent.info.run_id, parent.data.tags
        state = json.loads((study_folder(home) / "summary.json").read_text())["verdict"]["state"]
        assert f"is {state}." in tags["mlflow.note.content"]
        assert tags["mixunlearn.verdict"] == state
        assert f"mixunlearn rerun {study_folder(home).name}/" in tags["mlflow.note.content"]
        assert make_experiment(json.loads(tags["mixunlearn.experiment"])).name == "small"
        assert {file.path for file in client.list_artifacts(run_id)} == {
            *("environment.json", "experiment.yaml", "leaderboard.json", "plots"),
            *("report.html", "summary.json"),
        }
        table = json.loads(Path(client.download_artifacts(run_id, "leaderboard.json")).read_text())
        column = table["columns"].index("mlflow_run_id")
        for row in table["data"]:
            assert client.get_run(row[column]).data.tags["mlflow.parentRunId"] == run_id
        best = client.get_metric_history(run_id, "so_far/best")
        assert [metric.step for metric in best] == [1, 2, 3, 4]
        assert best == sorted(best, key=lambda metric: (-metric.value, metric.step))
        assert parent.inputs
        named = {each.dataset.name: each.dataset for each in parent.inputs.dataset_inputs}
        assert named.keys() == {f"digits{part}" for part in ("", *map(" {}".format, PARTS))}
        assert named["digits forget"].digest == tags["mixunlearn.splits"]
        assert tags["mixunlearn.data"].startswith(named["digits"].digest)

    def test_a_second_run_repeats_nothing(
        self, command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, trials = files(home), optuna_trials(home)
        drawn = (study_folder(home) / "report.html").stat().st_mtime_ns
        took = json.loads((study_folder(home) / "summary.json").read_text())["seconds"]
        rows = read_trials(study_folder(home) / "trials.parquet")
        monkeypatch.setattr(
            command_session, "connected", lambda address: pytest.fail("Ray was needed")
        )
        (study_folder(home) / "finished.json").unlink()  # without it, everything is looked at
        run = command("sweep", home)
        assert run.code == 0, run.err
        assert "0 to train, 6 cached" in run.err
        assert run.result["seconds"] == took
        assert (study_folder(home) / "report.html").stat().st_mtime_ns == drawn
        assert files(home) == before
        assert optuna_trials(home) == trials
        assert read_trials(study_folder(home) / "trials.parquet") == rows

    def test_a_finished_study_is_not_even_opened(
        self, command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = study_folder(home)
        known = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

        def opened(*_: object, **__: object) -> dict[str, Any]:
            raise MixUnlearnError("was opened")

        monkeypatch.setattr(search_command, "_run", opened)
        run = command("sweep", home)
        assert run.code == 0, run.err
        assert "nothing to do" in run.err
        assert run.result["best"] == json.loads((folder / "summary.json").read_text())["best"]
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == known
        # Whatever it depends on, it is in doubt when a file has changed.
        (folder / "report.html").touch()
        assert "was opened" in command("sweep", home).err

    def test_the_best_model_is_promoted_and_is_the_one_that_was_examined(
        self, command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            command_session, "connected", lambda address: pytest.fail("Ray was needed")
        )
        monkeypatch.setattr(best_model, "save_model", lambda *_, **__: pytest.fail("saved twice"))
        run, again = (command("sweep", home, "--promote") for _ in range(2))
        assert (run.code, again.code) == (0, 0), run.err
        promoted = run.result["promoted"]
        assert promoted["done"]
        assert promoted["reason"].startswith("small: version 1 is now the champion (gap/avg ")
        assert promoted["reason"] in run.out
        assert "version 1 is already the champion" in again.result["promoted"]["reason"]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_address(home / "mlflow.db"))
        # MLflow loads no model from a folder with such a name, but copies it from there.
        copied = mlflow.artifacts.download_artifacts(
            "models:/small@champion", dst_path=str(tmp_path)
        )
        loaded = mlflow.pyfunc.load_model(copied)
        dataset = SOURCES["digits"]()
        splits = make_splits(dataset, {"kind": "class", "classes": [0]})
        kept = splits.test_N[dataset.labels_N[splits.test_N] != 0]
        found = accuracy(loaded.predict(dataset.images_NCHW[kept]), dataset.labels_N[kept])
        assert found == pytest.approx(run.result["best"][0]["acc/test_retain"])

    def test_a_nearer_champion_stays_and_the_exit_code_says_so(
        self, command: Command, home: Path
    ) -> None:
        uri = sqlite_address(home / "mlflow.db")
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        mine = client.get_model_version_by_alias("small", "champion")
        tags = {**mine.tags, "mixunlearn.trial_id": "another", "gap/avg": "0"}
        client.create_model_version("small", str(mine.source), tags=tags)
        client.set_registered_model_alias("small", "champion", "2")
        run = command("sweep", home, "--promote")
        assert run.code == 1
        assert run.result["trials"]["failed"] == 0
        assert not run.result["promoted"]["done"]
        assert run.err.splitlines()[-1] == f"mixunlearn: {run.result['promoted']['reason']}"
        assert "not promoted, the champion is better" in run.err

    def test_what_is_derived_is_made_anew_from_the_study(
        self, command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table, name = study_folder(home) / "trials.parquet", study_folder(home).name
        rows, whole = read_trials(table), table.read_bytes()
        table.write_bytes(whole[:-100])
        monkeypatch.setattr(
            command_session, "connected", lambda address: pytest.fail("Ray was needed")
        )
        (model,) = (study_folder(home) / "model").iterdir()
        # Prepared by somebody: whoever loads a registered model runs what it says.
        (model / "MLmodel").write_text("flavors: {python_function: {loader_module: evil}}\n")
        (model / "evil.pkl").write_bytes(b"evil")
        empty = f"tracking.uri={sqlite_address(home / 'another.db')}"
        for _ in range(2):  # again changes nothing
            run = command("sync", home, "--set", empty, study=name)
            assert run.code == 0, run.err
            assert run.result == {"study": name, "trials": 4, "problems": []}
            again = read_trials(table)
            assert [plain(row) for row in again] == [plain(row) for row in rows]
            self.look_into_mlflow(home, "another.db")
        assert not (model / "evil.pkl").exists()
        uri = sqlite_address(home / "another.db")
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        source = client.get_model_version("small", "1").source
        files = {path.name for path in Path(url2pathname(urlsplit(str(source)).path)).iterdir()}
        assert "MLmodel" in files
        assert "evil.pkl" not in files
        table.write_bytes(whole)
        unknown = command("sync", home, study="smoll")
        assert unknown.code == 2
        assert f"STUDY = 'smoll': no such study in {home}/studies; did you mean" in unknown.err

    def test_a_lost_record_is_never_replaced_by_an_empty_one(
        self, command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            command_session, "connected", lambda address: pytest.fail("Ray was needed")
        )
        folder = study_folder(home)
        record, table = folder / "study.db", folder / "trials.parquet"
        rows, whole, name = read_trials(table), table.read_bytes(), folder.name
        record.rename(tmp_path / "record")
        commands = [("sweep", None), *((verb, name) for verb in ("sync", "report", "export"))]
        for verb, study in commands:
            run = command(verb, home, study=study)
            assert run.code == 1
            said = run.err.splitlines()[-1]
            assert f"the record of the study {name} is gone from {record}; {table} still" in said
            assert f"`mixunlearn sync {name} --from-table`" in said
            assert not record.exists()
            assert table.read_bytes() == whole
        for _ in range(2):  # again changes nothing
            run = command("sync", home, "--from-table", study=name)
            assert run.code == 0, run.err
            assert run.result == {"study": name, "trials": 4, "problems": []}
            assert [plain(row) for row in read_trials(table)] == [plain(row) for row in rows]
        assert command("sweep", home).code == 0  # nothing is missing
        (tmp_path / "record").replace(record)

    def test_a_damaged_summary_is_an_error_of_one_line(self, command: Command, home: Path) -> None:
        path = study_folder(home) / "summary.json"
        whole = path.read_bytes()
        for damaged in (whole[:100], b"[1]", b"\xff"):
            path.write_bytes(damaged)
            for verb in ("report", "export"):
                run = command(verb, home, study=study_folder(home).name)
                assert run.code == 1
                assert run.err.startswith(f"mixunlearn: {path} is damaged (")
                assert "; write it anew: mixunlearn sweep " in run.err
                assert run.err.count("\n") == 1
        path.write_bytes(whole)

    def test_a_copy_of_the_home_goes_on_by_itself(
        self, command: Command, mixunlearn: Command, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            command_session, "connected", lambda address: pytest.fail("Ray was needed")
        )
        copy, name = home.with_name("copy"), study_folder(home).name
        shutil.copytree(home, copy)
        # A process remembers where the files of a run are: this one has seen the first home.
        utils._artifact_repos_cache.clear()
        before = everything(home)
        run_id = read_trials(study_folder(copy) / "trials.parquet")[0]["mlflow_run_id"]
        for words in (["sync", name], ["rerun", str(run_id)], ["report", name]):
            run = mixunlearn(*words, "--home", str(copy))
            assert run.code == 0, run.err
        assert command("sweep", copy).code == 0
        assert everything(home) == before
        # The tests before wrote this address, on purpose, into the home.
        (copy / "another.db").unlink()
        # Commands in the texts of earlier results name the home that they were made in.
        place = home.as_uri().encode()
        assert [path for path in copy.rglob("*.*") if place in path.read_bytes()] == []
        shutil.rmtree(copy)

    def test_other_settings_are_a_new_study_which_names_the_old(
        self, command: Command, home: Path
    ) -> None:
        run = command("sweep", home, "--dry-run", "--set", "search.epochs=3", "--trials", "7")
        old = study_folder(home).name
        assert f"a new study: {old} has other settings (search.epochs: 2 → 3)" in run.out
        assert old not in run.result["study"]
        assert run.result["disk_bytes"]["checkpoints"] > 0
        run = command("sweep", home, "--dry-run", "--trials", "7", "--set", "resources.cpu=2")
        assert "new study" not in run.out
        assert run.result["study"] == old

    def test_a_damaged_model_is_made_again(self, command: Command, home: Path) -> None:
        before = {path: path.read_bytes() for path in (home / "store" / "models").rglob("*tensors")}
        path = next((home / "store" / "models").glob("*/tensors.safetensors"))
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        run = command("references", home)
        assert run.code == 0, run.err
        assert run.result["trained"] == 1
        assert path.read_bytes() == whole
        assert all(path.read_bytes() == content for path, content in before.items())

    def test_more_trials_are_added_to_those_done(self, command: Command, home: Path) -> None:
        rows = read_trials(study_folder(home) / "trials.parquet")
        run = command("sweep", home, "--trials", "5")
        assert run.code == 0, run.err
        more = read_trials(study_folder(home) / "trials.parquet")
        assert {row["trial"]: row for row in more if row["trial"] != 4} == {
            row["trial"]: row for row in rows
        }
        assert len(more) == 5

    def test_proxies_are_added_and_predict_the_next_request(
        self, command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        three = ("--trials", "5", "--set", "references.proxies=3")
        planned = command("sweep", home, *three, "--dry-run")
        assert planned.result["proxies_to_train"] == 3
        line = "proxies     3 random forget sets of the same size and kind: 3 more models to train"
        assert line in planned.out
        run = command("sweep", home, *three)
        assert run.code == 0, run.err
        assert "0 to train, 6 cached" in run.err
        found = run.result["proxies"]
        assert (found["kind"], found["count"], found["diverged"]) == ("class", 3, 0)
        assert found["trial"] == run.result["best"][0]["trial"]
        assert all(len(each["differences"]) == 3 for each in found["metrics"].values())
        assert {*run.result["gap_metrics"]} <= found["metrics"].keys()
        assert found["unlearn_s"] > 0
        assert found["retrain_s"] > 0
        assert "next request: a random one of the same kind and size (class, 1" in run.out
        page = (study_folder(home) / "report.html").read_text()
        assert "Predicted bias of the next request" in page
        # One more repeats nothing; no more need nothing.
        more = command("sweep", home, *three[:2], "--set", "references.proxies=4")
        assert "proxies: training 1 model" in more.err
        assert "proxies: 4 of 4 unlearned" in more.err
        assert "proxies: 3 of 4 unlearned" not in more.err
        for name, each in more.result["proxies"]["metrics"].items():
            assert each["differences"][:3] == found["metrics"][name]["differences"]
        monkeypatch.setattr(
            command_session, "connected", lambda address: pytest.fail("Ray was needed")
        )
        again = command("sweep", home, *three)
        assert again.result["proxies"]["metrics"] == found["metrics"]

    def test_references_are_shown_from_the_store(self, command: Command, home: Path) -> None:
        run = command("references", home)
        assert run.code == 0
        assert run.result["trained"] == 0
        assert len(run.result["models"]) == 6


def test_a_model_that_diverges_is_named_and_nothing_useless_is_stored(
    command: Command, tmp_path: Path
) -> None:
    short = ("--set", "references.epochs=1", "--set", "references.seeds=1")
    run = command("references", tmp_path, "--set", "references.lr=1e25", *short)
    assert run.code == 2
    (line,) = [line for line in run.err.splitlines() if line.startswith("mixunlearn: ")]
    assert line.startswith("mixunlearn: references.lr = 1e+25: original 0 diverged (")
    assert line.endswith("is not finite); lower it") or "loss = " in line
    assert not (tmp_path / "store" / "models").exists()


def test_what_is_removed_from_cache_and_store_during_a_sweep_is_made_again(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = callback.TrialCallback.on_trial_complete

    def clear(self: callback.TrialCallback, **info: Any) -> None:
        monkeypatch.setattr(callback.TrialCallback, "on_trial_complete", ended)  # only once
        ended(self, **info)
        for folder in ("cache", "store"):
            shutil.rmtree(tmp_path / folder)

    monkeypatch.setattr(callback.TrialCallback, "on_trial_complete", clear)
    short = ("--set", "references.epochs=1", "--set", "references.seeds=1")
    run = command("sweep", tmp_path, *short, "--trials", "2", "--set", "search.scheduler=none")
    assert run.code == 0, run.err
    assert run.result["trials"] == {"complete": 2, "pruned": 0, "failed": 0}
    assert command("references", tmp_path, *short).result["trained"] == 0


def test_a_full_disk_ends_the_sweep_in_one_line_and_fails_no_trial(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback, "last_line", lambda file: "OSError: No space left on device")
    result_of = callback.TrialCallback.on_trial_result

    def kill_worker(self: callback.TrialCallback, **info: Any) -> None:
        result_of(self, **info)
        os.kill(info["result"]["pid"], signal.SIGKILL)

    monkeypatch.setattr(callback.TrialCallback, "on_trial_result", kill_worker)
    monkeypatch.setattr(tune_trials, "MAX_FAILURES", 0)
    more = ["--set", "search.seed=1", "--set", "search.scheduler=none", "--set", ONE_WORKER]
    run = command("sweep", home, "--trials", "1", *more)
    assert run.code == 1
    said = "mixunlearn: OSError: No space left on device; free space there and run the same"
    assert run.err.splitlines()[-1].startswith(said)


def test_a_trial_over_its_time_limit_is_stopped(command: Command, home: Path) -> None:
    limits = ["--set", "resources.trial_seconds=0.001", "--set", "search.scheduler=none"]
    run = command("sweep", home, "--trials", "2", "--set", "search.seed=2", *limits)
    assert run.code == 0, run.err
    assert run.result["trials"] == {"complete": 0, "pruned": 2, "failed": 0}
    assert run.result["best"][0]["epochs"] == 1


def test_a_dry_run_writes_nothing(command: Command, tmp_path: Path) -> None:
    run = command("sweep", tmp_path / "none", "--dry-run")
    assert run.code == 0
    assert len(run.result["models_to_train"]) == 6
    assert (
        yaml.safe_load(run.out[run.out.index("\nname:") : run.out.rindex("\n{")])["name"] == "small"
    )
    assert not (tmp_path / "none").exists()


def test_two_machines_share_a_study_in_postgres_and_on_s3(
    command: Command, home: Path, tmp_path: Path, postgres: str, s3: S3
) -> None:
    shutil.copytree(home / "store" / "models", tmp_path / "a" / "store" / "models")
    shared = ["--set", f"storage.study={postgres}", "--set", f"storage.files={s3.uri('team')}"]
    first = command("sweep", tmp_path / "a", "--trials", "2", *shared)
    assert first.code == 0, first.err
    assert not list((tmp_path / "a").rglob("study.db"))
    assert not list((tmp_path / "a").rglob("checkpoint_*"))
    second = command("sweep", tmp_path / "b", "--trials", "3", *shared)
    assert second.code == 0, second.err
    assert "0 to train, 6 cached" in second.err
    rows = [read_trials(study_folder(tmp_path / each) / "trials.parquet") for each in "ab"]
    assert [plain(row) for row in rows[1][:2]] == [plain(row) for row in rows[0]]
    files = Files.of(s3.uri("team")) / "studies" / study_folder(tmp_path / "b").name
    table = (study_folder(tmp_path / "b") / "trials.parquet").read_bytes()
    assert files.read("trials.parquet") == table
    assert files.read("plots/gap_by_trial.png")
