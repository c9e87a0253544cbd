"""`model.original` as the address of a model in a real MLflow, on SQLite."""

from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import save_file
from torch import Tensor

from distributed.config.read import make_experiment
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from distributed.runtime.addresses import embedded
from distributed.tracking import server
from distributed.tracking.registration import register
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.problem import Architecture
from tests.brought import net
from tests.parquet import write_images

# SQLAlchemy warns MLflow about its next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")

EXPERIMENT = {
    "name": "own",
    "data": {"source": "parquet", "train": "train.parquet", "test": "test.parquet"},
    "model": {"name": "cnn", "width": 4},
    "task": {"kind": "random", "fraction": 0.1},
    "method": "finetune",
    "references": {"seeds": 1, "originals": 1},
    "search": {"trials": 1, "epochs": 1},
}


def plan_of(home: Path, address: str, **changes: object) -> Plan:
    model = {"name": "cnn", "width": 4, "original": address}
    experiment = make_experiment({**EXPERIMENT, "model": model, **changes})
    return make_plan(experiment, home, command="a test", tracks=False)


def weights() -> dict[str, Tensor]:
    """Return sound weights of the experiment's model, with the names of this project."""
    shape = Architecture(name="cnn", width=4, image_shape=(1, 8, 8), classes=10)
    return {name: tensor.contiguous() for name, tensor in shape.build(1).state_dict().items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in whose MLflow are a model of ours, `name`, and files of a run, `RUN`."""
    home, files = (tmp_path_factory.mktemp(name) for name in ("a home", "files"))
    uri, artifacts = embedded(home)
    server.make_database(home / "mlflow.db", artifacts)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    run = client.create_run(client.create_experiment("e", artifact_location=artifacts))
    state = weights()
    ours = files / "ours"
    ours.mkdir()
    for name in ("README.md", "MLmodel"):
        (ours / name).write_text(name)
    save_file(state, ours / "model.safetensors")
    for trial in ("aa", "bb"):
        tags = {"mixunlearn.trial_id": trial}
        register(client, run_id=run.info.run_id, name="name", folder=ours, tags=tags)
    # As mlflow.pytorch.log_state_dict and log_model(..., serialization_format="pickle") do.
    for name, content in {
        "dict/state_dict.pth": state,
        "two/a.pt": state,
        "two/b.pt": state,
        "program/data/model.pth": net(channels=1, size=(8, 8), classes=10),
    }.items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, files / name)
    (files / "program" / "MLmodel").write_text("flavors: {}")
    (files / "text").mkdir()
    (files / "text" / "note.txt").write_text("no weights")
    for name in ("dict", "two", "program", "text"):
        client.log_artifacts(run.info.run_id, str(files / name), name)
    (home / "run").write_text(run.info.run_id)
    return home


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No address of this process leads to the home: the experiment's counts."""
    digits = SOURCES["digits"]()
    for part, rows in (("train", slice(100)), ("test", slice(100, 200))):
        labels = digits.labels_N[rows].tolist()
        write_images(digits.images_NCHW[rows, 0], labels, tmp_path / f"{part}.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_an_address_and_a_file_make_the_same_study(home: Path, tmp_path: Path) -> None:
    run, uri = (home / "run").read_text(), embedded(home)[0]
    save_file(weights(), "own.safetensors")
    study = plan_of(tmp_path, "own.safetensors").study
    versions = ("models:/name/1", "models:/name/latest", "models:/name@candidate")
    runs = (f"runs:/{run}/name", f"runs:/{run}/dict", f"runs:/{run}/two/b.pt")
    for address in (*versions, *runs, "models:/name/2/model.safetensors"):
        plan = plan_of(home, address)
        assert plan.study == study, address
        assert plan.own is not None
        assert plan.own.source == address
    # Another home, with the address of this MLflow.
    model = plan_of(tmp_path, "models:/name/1", tracking={"uri": uri}).own
    assert model is not None
    place = MlflowClient(tracking_uri=uri).get_run(run).info
    (logged,) = MlflowClient(tracking_uri=uri).search_logged_models(
        [place.experiment_id], "tags.`mixunlearn.trial_id` = 'aa'"
    )
    found = plan_of(home, f"models:/{logged.model_id}").own
    assert found is not None
    assert found.digest == model.digest
    assert mlflow.get_tracking_uri() != uri


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("models:/name", "must be models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/PATH"),
        ("models:/name/Production", "must be models:/NAME/VERSION, "),
        ("models:/name/3", "sqlite:///"),
        ("models:/other/latest", "sqlite:///"),
        ("models:/name@champion", "sqlite:///"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "sqlite:///"),
        ("runs:/RUN/nothing", "holds no file of weights; log the model's state_dict()"),
        ("runs:/RUN/text", "holds no file of weights; log the model's state_dict()"),
        ("runs:/RUN/two", "holds 2 files of weights (two/a.pt, two/b.pt); add the path of one of "),
        (
            "runs:/RUN/text/note.txt",
            "holds Python objects, which could run any code, or no weights",
        ),
        (
            "runs:/RUN/program",
            "holds only the whole program (program/data/model.pth), which could run any code; log",
        ),
        (
            "runs:/RUN/program/data/model.pth",
            "holds Python objects, which could run any code, or no weights",
        ),
    ],
)
def test_what_holds_no_weights_is_one_line(home: Path, address: str, said: str) -> None:
    whole = address.replace("RUN", (home / "run").read_text())
    with pytest.raises(InputError) as raised:
        plan_of(home, whole)
    line = str(raised.value)
    assert line.startswith(f"model.original = '{whole}': {said}")
    assert "\n" not in line
    assert said != "sqlite:///" or "has no such model or run (" in line


def test_an_mlflow_without_an_answer_is_no_mistake_in_the_address(tmp_path: Path) -> None:
    address = "models:/name/1"
    with pytest.raises(InputError, match="MLflow has nothing at "):
        plan_of(tmp_path, address)
    assert not (tmp_path / "mlflow.db").exists()
    with pytest.raises(MixUnlearnError) as raised:
        plan_of(tmp_path, address, tracking={"uri": "http://127.0.0.1:9"})
    assert not isinstance(raised.value, InputError)
    said = "model.original = 'models:/name/1': http://127.0.0.1:9 does not answer: "
    assert str(raised.value).startswith(said)


def test_files_that_are_gone_are_said(home: Path) -> None:
    uri, run = embedded(home)[0], (home / "run").read_text()
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_model_version("name", "unknown://bucket/model", run, await_creation_for=0)
    with pytest.raises(MixUnlearnError, match="'models:/name/3': its files cannot be read"):
        plan_of(home, "models:/name/3")
