"""Models that other programs can load, in a real MLflow: on SQLite, and once behind a server."""

import errno
import io
import json
import pickletools
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import numpy.typing as npt
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from safetensors.numpy import load_file
from torch import Tensor

from distributed.runtime.addresses import embedded
from distributed.tracking import model_files
from distributed.tracking.model_files import save_model
from distributed.tracking.promotion import promote
from distributed.tracking.registration import register
from mixunlearn.errors import MissingError, MixUnlearnError
from mixunlearn.inference import predict
from mixunlearn.models import MODELS, StagedModel
from mixunlearn.models.chain import Chain
from mixunlearn.problem import Architecture
from tests.quick_server import quick_server

# SQLAlchemy warns MLflow about its next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")

ROOT = Path(__file__).parents[2]
ARCHITECTURE = Architecture(name="cnn", width=4, image_shape=(1, 8, 8), classes=10)
ALIKE = {"resnet34", "resnet50"}  # to resnet18, in all that matters here; an export takes seconds
COLOURED = {
    name: Architecture(name=name, width=4, image_shape=(3, 8, 8), classes=5)
    for name in MODELS
    if name not in ALIKE
}
CARD = "# A model\n\nwith *a* card\n"
TAGS = {
    "mixunlearn.trial_id": "0badcafe",
    "mixunlearn.trial": "3",
    "mixunlearn.data": "d1",
    "mixunlearn.splits": "s1",
    "gap/avg": "0.5",
}

Pixels = npt.NDArray[np.uint8]


def pixels(architecture: Architecture, count: int) -> Pixels:
    shape = (count, *architecture.image_shape)
    return np.random.default_rng(count).integers(256, size=shape, dtype=np.uint8)


def expected(model: StagedModel, images: Pixels) -> npt.NDArray[np.float32]:
    probs: npt.NDArray[np.float32] = predict(model, torch.from_numpy(images))[0].numpy()
    return probs


def trained(architecture: Architecture) -> StagedModel:
    """Return a model whose batch norms are not identities."""
    model = architecture.build(1).train()
    model(torch.rand(8, *architecture.image_shape, generator=torch.Generator().manual_seed(0)))
    return model


def save(model: StagedModel, folder: Path, architecture: Architecture = ARCHITECTURE) -> str | None:
    return save_model(
        model,
        folder,
        architecture=architecture,
        classes=[f"class {index}" for index in range(architecture.classes)],
        card=CARD,
        metadata={"mixunlearn.trial_id": "0badcafe"},
    )


@pytest.fixture(scope="module")
def model() -> StagedModel:
    return trained(ARCHITECTURE)


@pytest.fixture(scope="module")
def folder(model: StagedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "model" / "trial-3"
    # MLflow reads no model in a folder of this name; it is saved there all the same.
    odd = path.parent / "100%25?[br]{ac}*#" / path.name
    assert save(model, odd) is None
    return odd.rename(path)


# --- a folder --------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", COLOURED.values(), ids=COLOURED)
def test_a_saved_model_says_what_ours_says_for_any_number_of_images(
    architecture: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An export takes seconds; some blocks of each kind are enough.
    monkeypatch.setattr("mixunlearn.models.swin.DEPTHS", (2, 1, 2, 1))
    monkeypatch.setattr("mixunlearn.models.vit.DEPTH", 2)
    ours = trained(architecture)
    assert save(ours, tmp_path / "model", architecture) is None
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    program = mlflow.pytorch.load_model(str(tmp_path / "model"))
    for count in (1, 2, 3, *([300] if architecture.name == "cnn" else [])):
        images = pixels(architecture, count)
        probabilities = loaded.predict(images)
        assert probabilities.shape == (count, 5)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, expected(ours, images), atol=1e-6)
        np.testing.assert_array_equal(program(torch.from_numpy(images)).detach(), probabilities)


def test_what_is_no_image_of_its_shape_and_type_is_refused(folder: Path) -> None:
    loaded = mlflow.pyfunc.load_model(str(folder))
    images = pixels(ARCHITECTURE, 2)
    for wrong in (images.astype(np.float32) / 255, images[:, :, :7], images[0]):
        with pytest.raises(MlflowException):
            loaded.predict(wrong)


def test_a_folder_says_what_is_in_it(folder: Path) -> None:
    info = mlflow.models.get_model_info(str(folder))
    assert info.signature is not None
    (inputs,), (outputs,) = info.signature.inputs.inputs, info.signature.outputs.inputs
    assert (inputs.type, inputs.shape) == (np.dtype("uint8"), (-1, 1, 8, 8))
    assert (outputs.type, outputs.shape) == (np.dtype("float32"), (-1, 10))
    assert info.metadata is not None
    assert info.metadata["classes"][3] == "class 3"
    assert info.metadata["mixunlearn.trial_id"] == "0badcafe"
    example = json.loads((folder / "input_example.json").read_text())
    assert np.array(example).shape == (2, 1, 8, 8)
    assert (folder / "README.md").read_text() == CARD
    # A GPU, if there is one, would not accept the tensors of an exported program.
    assert info.flavors["python_function"]["config"] == {"device": "cpu"}
    assert not list(folder.parent.glob(".*"))


def test_the_weights_alone_make_the_same_model(folder: Path, model: StagedModel) -> None:
    architecture = Architecture(**json.loads((folder / "architecture.json").read_text()))
    again = architecture.load(load_file(folder / "model.safetensors"))
    images = pixels(ARCHITECTURE, 5)
    np.testing.assert_array_equal(expected(again, images), expected(model, images))


def contents(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the content of a file and of the archives in it."""
    yield name, data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for inner in archive.namelist():
                yield from contents(f"{name}!{inner}", archive.read(inner))


def all_contents(folder: Path) -> list[tuple[str, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [each for path in files for each in contents(path.name, path.read_bytes())]


def test_nothing_is_pickled_but_an_example_that_is_a_tensor(folder: Path) -> None:
    """PyTorch stores the example in its archive in the way it stores weights: nothing can hide."""
    pickles = [(name, data) for name, data in all_contents(folder) if name.endswith(".pkl")]
    assert [name.partition("!")[0] for name, _ in pickles] == ["model.pt2"]
    named = {arg for code, arg, _ in pickletools.genops(pickles[0][1]) if code.name == "GLOBAL"}
    assert named == {
        *("torch._utils _rebuild_tensor_v2", "torch ByteStorage", "collections OrderedDict")
    }
    suffixes = {path.suffix for path in folder.rglob("*")}
    assert suffixes.isdisjoint({".pkl", ".pickle", ".pth", ".pt", ".bin", ".joblib"})


def test_no_path_of_this_machine_is_told(folder: Path) -> None:
    places = [str(ROOT), str(folder.parents[1]), str(Path.home()), "site-packages"]
    told = [
        (name, place)
        for name, data in all_contents(folder)
        for place in places
        if place.encode() in data
    ]
    assert told == []


class Undecided(Chain):
    """Branches on its input, so that it cannot be exported as a program."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 1 else -images)


def test_of_a_model_that_cannot_be_exported_the_weights_are_kept(
    model: StagedModel, tmp_path: Path
) -> None:
    assert isinstance(model, Chain)
    odd = Undecided(dict(model.stages), model.head, model.default_stage)
    reason = save(odd, tmp_path / "model")
    assert reason
    assert "\n" not in reason
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        *("MLmodel", "README.md", "architecture.json", "model.safetensors")
    }
    assert mlflow.models.get_model_info(str(tmp_path / "model")).signature is not None
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_one_line_and_leaves_nothing(
    model: StagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model_files, "_add_files", full)
    with pytest.raises(MixUnlearnError, match=r"model: No space left on device; fix it"):
        save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


# --- the registry ----------------------------------------------------------------------------


class Place(NamedTuple):
    """An MLflow, and a run in an experiment that no other test uses."""

    uri: str
    client: MlflowClient
    experiment: str
    run_id: str

    def register(self, folder: Path, name: str = "class", **tags: str) -> str:
        return register(
            self.client, run_id=self.run_id, name=name, folder=folder, tags={**TAGS, **tags}
        )

    def aliases(self, name: str = "class") -> dict[str, str]:
        found = self.client.get_registered_model(name).aliases
        return {alias: str(version) for alias, version in found.items()}

    def version(self, trial_id: str, **tags: str) -> ModelVersion:
        """Make a version without files: promotion reads only tags."""
        all_tags = {**TAGS, "mixunlearn.trial_id": trial_id, **tags}
        return self.client.create_model_version("class", "file:///nowhere", tags=all_tags)


def place_at(uri: str, location: str | None, name: str) -> Place:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment(name, artifact_location=location)
    run = client.create_run(experiment, run_name="trial-3")
    client.log_param(run.info.run_id, "lr", 0.1)
    return Place(uri, client, experiment, run.info.run_id)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def local(empty_database: Path, tmp_path: Path) -> Place:
    home = tmp_path / "a home"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    return place_at(*embedded(home), "class")


@pytest.fixture
def server(empty_database: Path, tmp_path: Path) -> Iterator[Place]:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    with quick_server(tmp_path, embedded(tmp_path)[0], None, None) as running:
        yield place_at(running.link, None, "class")


@pytest.mark.parametrize("kind", ["local", "server"])
def test_a_registered_model_is_found_loaded_and_never_doubled(
    kind: str,
    request: pytest.FixtureRequest,
    folder: Path,
    model: StagedModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    place: Place = request.getfixturevalue(kind)
    monkeypatch.chdir(tmp_path)
    assert place.register(folder) == "1"
    assert place.register(folder) == "1"
    assert place.register(folder, **{"mixunlearn.trial_id": "0badbeef"}) == "2"
    assert place.aliases() == {"candidate": "2"}
    assert place.register(folder) == "1"
    assert place.aliases() == {"candidate": "1"}

    version = place.client.get_model_version("class", "1")
    assert version.description == CARD.rstrip("\n") or version.description == CARD
    assert version.run_id == place.run_id
    assert version.tags == TAGS
    found = {m.tags["mixunlearn.trial_id"]: m for m in logged(place)}
    assert len(found) == 2
    first = found["0badcafe"]
    assert str(first.status) == "READY"
    assert first.params == {"lr": "0.1"}
    assert first.tags["mlflow.note.content"] == CARD
    assert json.loads(first.tags["mlflow.modelVersions"])[0]["name"] == "class"
    assert "MLmodel" in {f.path for f in place.client.list_logged_model_artifacts(first.model_id)}
    outputs = place.client.get_run(place.run_id).outputs
    assert outputs is not None
    assert {each.model_id for each in outputs.model_outputs} == {m.model_id for m in found.values()}

    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    loaded = mlflow.pyfunc.load_model("models:/class@candidate")
    images = pixels(ARCHITECTURE, 3)
    np.testing.assert_allclose(loaded.predict(images), expected(model, images), atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} <= {"a home", "mlflow.db", "mlartifacts"}


def logged(place: Place) -> list[mlflow.entities.LoggedModel]:
    return list(place.client.search_logged_models([place.experiment]))


def test_what_a_killed_process_began_is_finished(local: Place, folder: Path) -> None:
    local.client.create_registered_model("class")
    begun = local.client.create_logged_model(
        local.experiment, name="class", source_run_id=local.run_id, tags=TAGS
    )
    local.client.log_outputs(local.run_id, [LoggedModelOutput(begun.model_id, step=0)])
    assert local.register(folder) == "1"
    outputs = local.client.get_run(local.run_id).outputs
    assert outputs is not None
    assert [each.model_id for each in outputs.model_outputs] == [begun.model_id]
    (model,) = logged(local)
    assert model.model_id == begun.model_id
    assert str(model.status) == "READY"


@pytest.mark.parametrize("name", ["v1.0-a_b", "0", "m-1", "a..b", "x" * 100])
def test_every_name_of_an_experiment_can_be_registered(
    local: Place, folder: Path, name: str
) -> None:
    assert local.register(folder, name) == "1"
    assert local.aliases(name) == {"candidate": "1"}


@pytest.mark.parametrize("name", ["a/b", "a:b", "it's", "..", ""])
def test_other_names_are_refused_and_nothing_is_uploaded(
    local: Place, folder: Path, name: str
) -> None:
    with pytest.raises(MlflowException) as refused:
        local.register(folder, name)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    assert logged(local) == []


def test_a_long_card_is_cut_at_a_line(local: Place, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "README.md").write_text("| one | row |\n" * 1000)
    local.register(copy)
    description = local.client.get_model_version("class", "1").description
    assert description is not None
    assert 4900 < len(description) <= 5000
    table, _, rest = description.rpartition("\n\n")
    assert set(table.splitlines()) == {"| one | row |"}
    assert "README.md" in rest


# --- promotion -------------------------------------------------------------------------------


@pytest.fixture
def versions(local: Place) -> Place:
    """A registry with a champion: version 1, of trial `aa`, half a point from retraining."""
    local.client.create_registered_model("class")
    local.version("aa")
    assert promote(local.uri, "class", "aa") == (
        "class: version 1 is now the champion (gap/avg 0.5 pp)"
    )
    return local


@pytest.mark.parametrize("gap", ["0.25", "0.5"])
def test_what_is_not_worse_becomes_the_champion(versions: Place, gap: str) -> None:
    versions.version("bb", **{"gap/avg": gap})
    said = promote(versions.uri, "class", "bb")
    assert said == (
        f"class: version 2 is now the champion (gap/avg {gap} pp); "
        "version 1 (gap/avg 0.5 pp) is now `previous`"
    )
    assert versions.aliases() == {"champion": "2", "previous": "1"}
    assert "already the champion" in promote(versions.uri, "class", "bb")
    assert versions.aliases() == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"gap/avg": "0.75"}, "version 2 has gap/avg 0.75 pp, version 1 has gap/avg 0.5 pp"),
        ({"mixunlearn.data": "d2"}, r"measured on different data \(d2 and d1\)"),
        ({"mixunlearn.splits": "s2"}, r"measured on different splits \(s2 and s1\)"),
        ({"gap/avg": "nan"}, "cannot be compared: version 2 has no gap/avg, version 1 has gap"),
        ({"gap/avg": "unknown"}, "cannot be compared: version 2 has no gap/avg"),
    ],
)
def test_what_is_worse_or_cannot_be_compared_does_not(
    versions: Place, tags: dict[str, str], reason: str
) -> None:
    versions.version("bb", **tags)
    with pytest.raises(MixUnlearnError, match=reason) as refused:
        promote(versions.uri, "class", "bb")
    assert str(refused.value).endswith("remove the alias `champion` from version 1")
    assert "\n" not in str(refused.value)
    assert versions.aliases() == {"champion": "1"}


def test_the_champion_may_be_one_of_somebody_else(local: Place) -> None:
    local.client.create_registered_model("class")
    local.client.create_model_version("class", "file:///nowhere")
    local.client.set_registered_model_alias("class", "champion", "1")
    local.version("bb")
    with pytest.raises(MixUnlearnError, match=r"different data \(d1 and unknown\)"):
        promote(local.uri, "class", "bb")


def test_a_trial_that_is_not_registered_is_named_with_the_remedy(local: Place) -> None:
    with pytest.raises(MissingError, match=r"no registered model of trial cc; .*mixunlearn sync"):
        promote(local.uri, "class", "cc")


def test_an_mlflow_that_is_away_is_one_line() -> None:
    with socket.socket() as taken:  # a port on which no process listens
        taken.bind(("127.0.0.1", 0))
        uri = f"http://ann:hunter2@127.0.0.1:{taken.getsockname()[1]}"
        _assert_away(uri)


def _assert_away(uri: str) -> None:
    with pytest.raises(MixUnlearnError, match="does not answer: Connection refused") as away:
        promote(uri, "class", "aa")
    assert "hunter2" not in str(away.value)
    assert "run the same command again once it answers" in str(away.value)
