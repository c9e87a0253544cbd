"""A study of the user's own model: a whole sweep, and what is said of its recipe."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from distributed.cli.show import announcement
from distributed.config.read import make_experiment
from distributed.plan.cautions import YARDSTICK, cautions, nearness
from distributed.plan.make import find_study, make_plan
from distributed.plan.plan import Plan
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import InputError, MissingError
from mixunlearn.problem import Architecture
from tests.brought import net, train
from tests.fixtures import Command
from tests.parquet import write_images

EXPERIMENT = {
    "name": "own",
    "data": {"source": "parquet", "train": "train.parquet", "test": "test.parquet"},
    "model": {"name": "tests.brought:net", "original": "own.pt"},
    "task": {"kind": "random", "fraction": 0.1},
    "method": "finetune",
    "references": {"seeds": 2, "originals": 3, "recipe": "tests.brought:train"},
    "search": {"trials": 2, "epochs": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: images, and a model that was trained elsewhere on one part of them."""
    place = tmp_path_factory.mktemp("user")
    digits = SOURCES["digits"]()
    torch.manual_seed(0)
    model = net(channels=1, size=(8, 8), classes=10)
    for part, rows in (("train", slice(300)), ("test", slice(300, 700))):
        labels = digits.labels_N[rows].tolist()
        write_images(digits.images_NCHW[rows, 0], labels, place / f"{part}.parquet")
    images, labels_N = torch.tensor(digits.images_NCHW[:300]), torch.tensor(digits.labels_N[:300])
    train(model, images, labels_N, seed=0)
    torch.save({"state_dict": model.state_dict()}, place / "own.pt")
    (place / "own.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return place


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def plan_of(home: Path, **changes: object) -> Plan:
    return make_plan(make_experiment({**EXPERIMENT, **changes}), home, command="test")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
def test_a_sweep_unlearns_the_own_model_and_says_how_near_the_recipe_comes(
    mixunlearn: Command, folder: Path, tmp_path: Path
) -> None:
    home = ["--home", str(tmp_path), "--json"]
    run = mixunlearn("sweep", "own.yaml", "--set", "references.proxies=1", *home)
    assert run.code == 0, run.err
    assert "3 originals (the first is your own model, own.pt, " in run.err
    assert "4 to train, 0 cached" in run.err
    found = run.result
    own, original = found["own"], found["original"]
    assert found["proxies"]["count"] == 1
    assert own["acc/test"]["own"] == pytest.approx(original["acc/test"])
    assert own["acc/test"]["recipe"]["n"] == 2
    recipe = own["acc/test"]["recipe"]["values"]
    assert found["originals"]["acc/test"]["values"][1:] == pytest.approx(recipe)
    assert all(each["near"] in {True, False} for each in own.values())
    study = tmp_path / "studies" / found["study"]
    assert "The recipe and your own model" in (study / "report.html").read_text()
    card = next(study.glob("model/trial-*/README.md")).read_text()
    assert "## How near the recipe comes to your own model" in card
    assert str(folder) not in card
    # The same again does nothing; another trial, and what is derived, come from the record.
    again = mixunlearn("sweep", "own.yaml", "--set", "references.proxies=1", *home)
    assert again.code == 0, again.err
    assert again.result["seconds"] == found["seconds"]
    sync = mixunlearn("sync", found["study"], *home)
    assert sync.code == 0, sync.err
    # What reads the study does not need the user's file.
    aside = Path("own.pt").rename(tmp_path / "aside.pt")
    for words in (["report", found["study"]], ["rerun", f"{found['study']}/0"]):
        other = mixunlearn(*words, *home)
        assert other.code == 0, (words, other.err)
    aside.rename("own.pt")
    assert json.loads((study / "summary.json").read_text())["own"] == own


def test_the_study_is_named_by_the_models_content(folder: Path, tmp_path: Path) -> None:
    first = plan_of(tmp_path)
    state = torch.load("own.pt")["state_dict"]
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, "moved.bin")
    moved = plan_of(tmp_path, model={"name": "tests.brought:net", "original": "moved.bin"})
    assert moved.study == first.study
    assert plan_of(tmp_path, model={"name": "tests.brought:net"}).study != first.study
    assert first.own is not None
    assert first.references.is_own(first.references.original)
    # What evidence measures is other models.
    other = replace(first, first=1000)
    assert other.references.own is None
    assert other.study == first.study
    assert "is not among them" in cautions(other)[0]


def test_a_study_is_read_without_the_file(tmp_path: Path) -> None:
    shape = Architecture(name="cnn", width=4, image_shape=(1, 8, 8), classes=10)
    torch.save(shape.build(1).state_dict(), tmp_path / "gone.pt")
    model = {"name": "cnn", "width": 4, "original": str(tmp_path / "gone.pt")}
    plan = plan_of(tmp_path, model=model, references={"seeds": 1, "originals": 1}).keep()
    (tmp_path / "gone.pt").unlink()
    found = find_study(plan.study, [], tmp_path, reading=True)
    assert found.own is not None
    assert plan.own is not None
    assert found.own.digest == plan.own.digest
    with pytest.raises(MissingError, match=plan.study):
        found.references.weights(found.references.original)
    with pytest.raises(InputError, match="no such file"):
        find_study(plan.study, [], tmp_path)
    with pytest.raises(InputError, match="no such file"):
        find_study(plan.study, ["model.original=other.pt"], tmp_path, reading=True)


def test_a_recipe_that_was_not_compared_is_said_in_the_plan(tmp_path: Path) -> None:
    alone = plan_of(tmp_path, references={"seeds": 2, "originals": 1})
    assert nearness(alone) is None
    (warning,) = (line for line in announcement(alone) if line.startswith("warning"))
    assert YARDSTICK in warning
    assert "set references.originals=4" in warning


def test_what_has_no_effect_beside_a_recipe_is_refused(tmp_path: Path) -> None:
    references = {"recipe": "tests.brought:train", "lr": 0.1}
    with pytest.raises(InputError) as raised:
        plan_of(tmp_path, references=references)
    assert str(raised.value).startswith("references.lr = 0.1: has no effect beside references.re")


def test_a_task_that_changes_the_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        plan_of(tmp_path, task={"kind": "noisy"})
    assert str(raised.value).startswith(
        "model.original = 'own.pt': was not trained on what a noisy"
    )


def test_what_references_start_from_cannot_be_proven_clean(tmp_path: Path) -> None:
    model = {"name": "tests.brought:net", "weights": "own.pt"}
    (warning,) = cautions(plan_of(tmp_path, model=model))
    assert warning.startswith("Nothing can be proven clean: originals and references start from ")
