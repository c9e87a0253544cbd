"""`mixunlearn unlearn`: a user's own model, own data, and a list of images to forget."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from distributed.cli.unlearn import _device
from distributed.plan import make as make_module
from distributed.requests import carry_out as carry_out_module
from distributed.requests import request as request_module
from distributed.requests import run as run_module
from distributed.requests.configuration import find_configuration
from distributed.requests.forget import task_of
from distributed.requests.sequence import request_lists
from mixunlearn.data import sources
from mixunlearn.data.sources import open_dataset
from mixunlearn.errors import DivergedError, InputError
from mixunlearn.evidence.states import STATES
from tests.fixtures import Command
from tests.parquet import write_images
from tests.warm import PARENT

NAMES = ("cat", "dog", "frog", "owl")
SIZE, TRAIN, TEST = 12, 240, 60
NET = Path(__file__).parents[1] / "own_net.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user: a module, a trained model, images of four classes, requests."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "own_net.py").write_text(NET.read_text())
    images, labels = drawn(TRAIN + TEST)
    for part, rows in (("train", slice(TRAIN)), ("test", slice(TRAIN, None))):
        names = [NAMES[label] for label in labels[rows]]
        write_images(images[rows], names, folder / f"{part}.parquet")
    net = trained(folder, images[:TRAIN], labels[:TRAIN])
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.items()}}, folder / "model.pt")
    configuration = {"method": "salun", "epochs": 2, "hyperparameters": {"lr": 3e-4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
    (folder / "ids.csv").write_text("id\n" + "\n".join(map(str, range(5, 17))) + "\n")
    return folder


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 4
    rows, columns = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    waves = np.stack([rows, columns, rows + columns, rows - columns])[labels]
    images = 128 + 60 * np.sin(waves)[..., None] + rng.normal(0, 40, (count, SIZE, SIZE, 3))
    return np.clip(images, 0, 255).astype(np.uint8), labels


def trained(folder: Path, images: np.ndarray, labels: np.ndarray) -> dict[str, torch.Tensor]:
    """The weights of a model that was trained outside of the project."""
    found: dict[str, Any] = {}
    exec((folder / "own_net.py").read_text(), found)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: nn.Module = found["build"](3, (SIZE, SIZE), 4)
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        for _ in range(3):
            for rows in torch.split(torch.randperm(TRAIN), 32):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(inputs[rows]), torch.from_numpy(labels)[rows])
                torch.autograd.backward(loss)
                optimizer.step()
    return net.state_dict()


@pytest.fixture
def here(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder as the working folder; results go to another one."""
    monkeypatch.chdir(site)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    return tmp_path


def words(tmp_path: Path, **changed: str | None) -> list[str]:
    """The words of the command; `None` leaves an option out."""
    given = {
        "model": "own_net:build",
        "weights": "model.pt",
        "data": "train.parquet",
        "forget": "ids.csv",
        "config": "config.yaml",
        "out": str(tmp_path / "out"),
        "home": str(tmp_path / "home"),
        "device": "cpu",
        **changed,
    }
    options = [
        word for name, text in given.items() if text is not None for word in (f"--{name}", text)
    ]
    return ["unlearn", *options, "--set", "data.test=test.parquet"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_model_forgets_and_keeps_its_own_keys(here: Path, mixunlearn: Command) -> None:
    run = mixunlearn(*words(here), "--json")
    assert run.code == 0, run.err
    before = torch.load("model.pt", weights_only=True)["state_dict"]
    after = load_file(here / "out/model.safetensors")
    assert after.keys() == before.keys()
    assert all(after[name].dtype == before[name].dtype for name in before)
    assert not torch.equal(after["module.head"], before["module.head"])
    record = run.result
    assert record == json.loads((here / "out/record.json").read_text())
    assert record == json.loads((here / "home/records/000001.json").read_text())
    schema = json.loads(
        (Path(__file__).parents[2] / "docs/deletion-record.schema.json").read_text()
    )
    jsonschema.validate(record, schema)
    assert record["forget"]["images"] == 12
    # Nothing was retrained, so nothing is claimed.
    assert record["verdict"]["state"] == "unverified"
    assert not any(state in run.out for state in STATES)
    assert names(here / "out") == ["README.md", "model.safetensors", "record.json"]
    assert names(here / "home") == ["records"]
    card = (here / "out/README.md").read_text()
    assert "unverified" in card.lower()
    # The name of a list may be that of a person.
    assert "ids.csv" not in card


def test_the_same_command_again_changes_nothing(here: Path, mixunlearn: Command) -> None:
    first = mixunlearn(*words(here), "--json")
    times = {path: path.stat().st_mtime_ns for path in (here / "out").iterdir()}
    again = mixunlearn(*words(here), "--json")
    assert again.result == first.result
    assert {path: path.stat().st_mtime_ns for path in (here / "out").iterdir()} == times
    assert len(list((here / "home/records").glob("*.json"))) == 1


@pytest.mark.parametrize("change", ["removed weights", "other weights", "another verdict"])
def test_a_changed_result_does_not_count_as_finished(
    here: Path, mixunlearn: Command, change: str
) -> None:
    assert mixunlearn(*words(here)).code == 0
    weights, record = here / "out/model.safetensors", here / "out/record.json"
    if change == "removed weights":
        weights.unlink()
    elif change == "other weights":
        save_file({**load_file(weights), "module.head": torch.zeros(4, 288)}, weights)
    else:
        record.write_text(record.read_text().replace('"unverified"', '"equivalent"'))
    run = mixunlearn(*words(here))
    assert run.code == 2
    assert "changed since" in run.err
    assert not run.out


def test_a_record_of_another_format_or_other_margins_is_another_record(
    here: Path, mixunlearn: Command
) -> None:
    first = mixunlearn(*words(here), "--json").result
    other = mixunlearn(*words(here, out=str(here / "pt"), format="pt"), "--json").result
    run = mixunlearn(*words(here), "--set", "margins.acc/test=40", "--json")
    assert run.code == 0, run.err
    wider = run.result
    assert len({each["token"] for each in (first, other, wider)}) == 3
    # Else the copy would be that of the other file.
    copy = str(here / "pt/record.json")
    assert mixunlearn("record", "verify", copy, "--home", str(here / "home")).code == 0


def test_nothing_is_unlearned_if_the_chain_is_broken(here: Path, mixunlearn: Command) -> None:
    (here / "home/records").mkdir(parents=True)
    (here / "home/records/000001.json").write_text("{}")
    run = mixunlearn(*words(here))
    assert run.code == 1
    assert "000001.json" in run.err
    assert not (here / "out").exists() or not names(here / "out")


def test_a_folder_of_another_request_is_refused(here: Path, mixunlearn: Command) -> None:
    assert mixunlearn(*words(here)).code == 0
    (here / "other.csv").write_text("id\n7\n")
    run = mixunlearn(*words(here, forget=str(here / "other.csv")))
    assert run.code == 2
    assert "--out" in run.err
    assert "another request" in run.err


class Killed(BaseException):
    """Ends a command at once, as a kill does."""


@pytest.mark.parametrize("moment", ["half-written weights", "written weights", "recorded"])
def test_a_request_killed_between_two_files_is_finished_by_the_same_command(
    moment: str, here: Path, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = run_module._write_weights

    def die(*given: Any) -> None:
        if moment == "half-written weights":
            (here / "out/.model.safetensors.0123.tmp").write_bytes(b"half")
        elif moment == "written weights":
            write(*given)
        raise Killed

    place = (carry_out_module, "_write") if moment == "recorded" else (run_module, "_write_weights")
    with monkeypatch.context() as patch:
        patch.setattr(*place, die)
        with pytest.raises(Killed):
            mixunlearn(*words(here))
    run = mixunlearn(*words(here), "--json")
    assert run.code == 0, run.err
    assert names(here / "out") == ["README.md", "model.safetensors", "record.json"]
    assert len(list((here / "home/records").glob("*.json"))) == 1
    assert run.result["number"] == 1


@pytest.mark.parametrize("several", [False, True], ids=["one request", "a sequence"])
def test_two_commands_at_once_on_one_folder_are_refused(
    several: bool, here: Path, mixunlearn: Command
) -> None:
    given = words(here)
    if several:
        (here / "lists").mkdir()
        (here / "lists/r1.csv").write_text("id\n3\n")
        given = words(here, forget=None, requests=str(here / "lists"))
    with run_module.locked(here / "out"):
        run = mixunlearn(*given)
        assert (run.code, "another command is writing there" in run.err) == (1, True)
        assert not list((here / "out").iterdir())
    assert not (here / "home").exists()


@pytest.mark.slow
def test_a_killed_request_resumes_to_the_same_weights(site: Path, here: Path) -> None:
    (here / "long.yaml").write_text("{method: finetune, epochs: 40, hyperparameters: {lr: 1.0e-3}}")
    given = words(here, config=str(here / "long.yaml"))
    command = [*PARENT.quick, "-m", "mixunlearn", *given]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 3 of 40" in line:
                process.send_signal(signal.SIGKILL)
        # The end of its output is the end of the process, also of a fork.
    assert not (here / "out/model.safetensors").exists()
    resumed = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "resumed after epoch" in resumed.stderr
    start = command[: -len(given)]
    whole = [*start, *words(here, config=str(here / "long.yaml"), out=str(here / "whole"))]
    subprocess.run(whole, capture_output=True, env=environment, check=True)
    weights = [load_file(here / name / "model.safetensors") for name in ("out", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_whole_classes_and_copies_of_files_can_be_named(
    site: Path, here: Path, mixunlearn: Command
) -> None:
    same = [*words(here, forget="class:frog")[:-1], "data.test=train.parquet"]
    run = mixunlearn(*same, "--dry-run")
    assert run.code == 0, run.err
    assert "class frog" in run.out
    assert "warning     forget and test share pixels: " in run.out
    copies = here / "copies"
    copies.mkdir()
    for name in ("0003.png", "0008.png"):
        Image.new("RGB", (2, 2)).save(copies / name)
    run = mixunlearn(*words(here, forget=str(copies)), "--dry-run")
    assert "2 forget" in run.out
    Image.new("RGB", (2, 2)).save(copies / "unknown.png")
    run = mixunlearn(*words(here, forget=str(copies)), "--dry-run")
    assert (run.code, "unknown.png" in run.err) == (2, True)
    assert not (here / "out").exists()


def test_a_model_that_draws_random_numbers_is_warned_of(
    here: Path, mixunlearn: Command, caplog: pytest.LogCaptureFixture
) -> None:
    own = {
        name.replace("module.", "0."): tensor
        for name, tensor in torch.load("model.pt", weights_only=True)["state_dict"].items()
    }
    torch.save(own, here / "random.pt")
    given = words(here, model="own_net:build_random", weights=str(here / "random.pt"))
    run = mixunlearn(*given, "--dry-run")
    assert run.code == 0, run.err
    assert "other outputs for the same images" in caplog.text


BAD: dict[str, tuple[dict[str, str | None], str]] = {
    "no such weights": ({"weights": "none.pt"}, "--weights"),
    "no weights": ({"weights": None}, "--weights"),
    "empty weights": ({"weights": "BAD/empty.pt"}, "--weights"),
    "truncated weights": ({"weights": "BAD/cut.pt"}, "--weights"),
    "a pickle with code": ({"weights": "BAD/code.pt"}, "--weights"),
    "a missing key": ({"weights": "BAD/missing.pt"}, "--weights"),
    "an extra key": ({"weights": "BAD/extra.pt"}, "--weights"),
    "another number of classes": ({"weights": "BAD/classes.pt"}, "--weights"),
    "not finite": ({"weights": "BAD/nan.pt"}, "--weights"),
    "no such model": ({"model": "own_net:buidl"}, "--model"),
    "no such data": ({"data": "none"}, "--data"),
    "no such list": ({"forget": "none.csv"}, "--forget"),
    "ids for a list": ({"forget": ",".join(map(str, range(2000)))}, "--forget"),
    "no ids": ({"forget": "BAD/no.csv"}, "--forget"),
    "all ids": ({"forget": "BAD/all.csv"}, "--forget"),
    "ids of test images": ({"forget": "BAD/test.csv"}, "--forget"),
    "an id twice": ({"forget": "BAD/twice.csv"}, "--forget"),
    "no such class": ({"forget": "class:frgo"}, "--forget"),
    "no such configuration": ({"config": "studyy"}, "--config"),
    "no such method": ({"config": "BAD/method.yaml"}, "method"),
    "no such hyperparameter": ({"config": "BAD/hyper.yaml"}, "hyperparameters.fractoin"),
    "a batch of no image": ({"config": "BAD/batch.yaml"}, "hyperparameters.batch"),
    "a batch that is text": ({"config": "BAD/text.yaml"}, "hyperparameters.batch"),
    "a rate that is no number": ({"config": "BAD/rate.yaml"}, "hyperparameters.lr"),
    "an unknown key": ({"config": "BAD/key.yaml"}, "epoch"),
    "a mistyped key": ({"config": "BAD/typo.yaml"}, "epoch = 2: BAD/typo.yaml has an unknown key"),
    "an experiment": ({"config": "BAD/sweep.yaml"}, "--config = 'BAD/sweep.yaml': is an experim"),
    "not YAML": ({"config": "model.pt"}, "--config = 'model.pt': not a text file in UTF-8"),
    "a rate of 0": (
        {"config": "BAD/zero.yaml"},
        "hyperparameters.lr = 0: must be finite and above",
    ),
    "an infinite rate": ({"config": "BAD/infinite.yaml"}, "hyperparameters.lr = inf: must be a fi"),
    "a rate in words": ({"config": "BAD/words.yaml"}, "hyperparameters.lr = 'fast': must be a n"),
    "rates": ({"config": "BAD/list.yaml"}, "hyperparameters.lr = [0.1, 0.2]: must be a single va"),
    "no batch": ({"config": "BAD/batch.yaml"}, "hyperparameters.batch = 0: not an option"),
    "nothing is done": ({"config": "BAD/original.yaml"}, "method = 'original': changes nothing"),
    "several models": ({"config": "BAD/sisa.yaml"}, "method = 'sisa': gives several models"),
    "a method in --set": ({"set": "method=ssd"}, "--set method = 'ssd': is for --config to say"),
    "no such device": ({"device": "tpu"}, "--device"),
    "no such format": ({"format": "onnx"}, "--format"),
    "nothing near": ({"config": "auto"}, "--config"),
    "a long name for a configuration": ({"config": "x" * 5000}, "--config"),
    "long names of folders for weights": ({"weights": "a/" * 3000}, "--weights"),
    "a long name for data": ({"data": "x" * 5000}, "--data"),
    "a long name for a folder": ({"out": "x" * 5000}, "--out"),
    "a long name for lists": ({"forget": None, "requests": "x" * 5000}, "--requests"),
    "an empty configuration": ({"config": ""}, "--config"),
    "empty text for weights": ({"weights": ""}, "--weights"),
    "empty text for data": ({"data": ""}, "--data"),
    "an empty list": ({"forget": ""}, "--forget"),
    "an empty folder": ({"out": ""}, "--out"),
    "empty text for lists": ({"forget": None, "requests": ""}, "--requests"),
    "a folder with NUL": ({"out": "a\0b"}, "--out"),
    "weights of nobody": ({"weights": "~nobody-here/model.pt"}, "--weights"),
    "data of nobody": ({"data": "~nobody-here/train.parquet"}, "--data"),
    "a folder of nobody": ({"out": "~nobody-here/out"}, "--out"),
    "a folder that cannot be made": ({"out": "/proc/out"}, "--out"),
    "a file for a folder": ({"out": "ids.csv"}, "--out"),
    "a link that leads nowhere": ({"out": "BAD/nowhere"}, "--out"),
    "an empty name": ({"name": ""}, "--name"),
    "a name of two lines": ({"name": "a\nb"}, "--name"),
    "a name that no file can hold": ({"name": "a\udc80"}, "--name"),
    "a name for several": ({"forget": None, "requests": "BAD", "name": "one"}, "--name"),
    "digits of a class without end": ({"forget": f"class:{'9' * 5000}"}, "--forget"),
    "a number of a class in another script": ({"forget": "class:\u0663"}, "--forget"),
}


@pytest.fixture(scope="module")
def bad(site: Path) -> Path:
    """Files that cannot be used."""
    folder = site / "BAD"
    folder.mkdir()
    good = torch.load(site / "model.pt", weights_only=True)["state_dict"]
    states = {
        "missing": {name: good[name] for name in list(good)[1:]},
        "extra": {**good, "module.more": torch.zeros(2)},
        "classes": {**good, "module.head": torch.zeros(7, 288)},
        "nan": {**good, "module.head": torch.full_like(good["module.head"], float("nan"))},
    }
    for name, state in states.items():
        torch.save(state, folder / f"{name}.pt")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "cut.pt").write_bytes((site / "model.pt").read_bytes()[:400])
    torch.save({"state_dict": good, "hook": Path}, folder / "code.pt")
    lists = {"no": [], "all": range(TRAIN), "test": [TRAIN], "twice": [3, 3]}
    for name, rows in lists.items():
        (folder / f"{name}.csv").write_text("\n".join(["id", *map(str, rows)]) + "\n")
    (folder / "method.yaml").write_text("{method: salunn, epochs: 1}")
    (folder / "hyper.yaml").write_text("{method: salun, epochs: 1, hyperparameters: {fractoin: 1}}")
    (folder / "key.yaml").write_text("{method: salun, epochs: 1, epoch: 2}")
    (folder / "typo.yaml").write_text("{method: salun, epoch: 2}")
    (folder / "sweep.yaml").write_text("{method: salun, task: {kind: class}}")
    values = {"zero": 0, "infinite": ".inf", "words": "fast", "list": "[0.1, 0.2]"}
    for name, value in values.items():
        content = f"{{method: salun, epochs: 1, hyperparameters: {{lr: {value}}}}}"
        (folder / f"{name}.yaml").write_text(content)
    for name in ("original", "sisa"):
        (folder / f"{name}.yaml").write_text(f"{{method: {name}, epochs: 1}}")
    for name, value in {"batch": "batch: 0", "text": "batch: 4x", "rate": "lr: .nan"}.items():
        content = f"{{method: salun, epochs: 1, hyperparameters: {{{value}}}}}"
        (folder / f"{name}.yaml").write_text(content)
    (folder / "nowhere").symlink_to("gone")
    return folder


@pytest.mark.parametrize("mistake", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(
    mistake: str, bad: Path, here: Path, mixunlearn: Command
) -> None:
    changed, key = BAD[mistake]
    run = mixunlearn(*words(here, **changed))
    assert run.code == 2, run.err
    *_, line = run.err.strip().splitlines()
    assert line.startswith(f"mixunlearn: {key}"), line
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ("task.ids=[3]", "--forget"),
        ("method=finetune", "--config"),
        ("search.epochs=3", "--config"),
        ("name=other", "--name"),
        ("model.original=other.pt", "--weights"),
    ],
)
def test_a_setting_that_an_option_says_is_refused(
    setting: str, option: str, here: Path, mixunlearn: Command
) -> None:
    run = mixunlearn(*words(here), "--set", setting)
    assert run.code == 2
    assert f"mixunlearn: --set {setting.partition('=')[0]}" in run.err
    assert option in run.err
    assert not list(here.iterdir())


@pytest.mark.parametrize("place", ["", "records", "records/mine", "cache/mine", "studies/mine"])
def test_results_do_not_go_where_the_home_keeps_its_own(
    place: str, here: Path, mixunlearn: Command
) -> None:
    run = mixunlearn(*words(here, out=str(here / "home" / place)))
    assert (run.code, "belongs to the home" in run.err) == (2, True)
    assert not list(here.iterdir())


def test_a_tilde_in_a_path_is_the_user_s_folder(
    site: Path, here: Path, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(site))
    monkeypatch.chdir(here)
    given = {name: f"~/{name}" for name in ("train.parquet", "ids.csv", "config.yaml", "model.pt")}
    data, forget, config, weights = given.values()
    found = words(here, data=data, forget=forget, config=config, weights=weights, out="~/BAD/new")
    run = mixunlearn(*found[:-1], "data.test=~/test.parquet", "--dry-run")
    assert run.code == 0, run.err
    assert not list(here.iterdir())


def test_a_finished_request_is_not_tried_again(
    here: Path, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = mixunlearn(*words(here), "--json")
    for module, name in ((request_module, "_rehearse"), (make_module, "rehearse")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("tried again"))
    again = mixunlearn(*words(here), "--json")
    assert again.result == first.result
    assert "out was finished before" in again.err


def test_a_card_does_not_name_the_list(
    site: Path, here: Path, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "anna-smith.csv").write_text("id\n3\n")
    given = words(here, forget=str(here / "anna-smith.csv"))
    monkeypatch.setattr(sys, "argv", ["mixunlearn", *given])
    assert mixunlearn(*given).code == 0
    card = (here / "out/README.md").read_text()
    assert "anna" not in card
    assert "--forget LIST" in card


def test_copies_are_found_in_data_with_settings_that_are_read_once(
    site: Path, here: Path, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counted(source: str, *given: Any) -> Any:
        opened.append(source)
        return open_dataset(source, *given)

    monkeypatch.setattr(sources, "open_dataset", counted)
    for part in ("train", "test"):
        table = pq.read_table(site / f"{part}.parquet")
        renamed = ["picture" if name == "image" else name for name in table.column_names]
        pq.write_table(table.rename_columns(renamed), here / f"{part}.parquet")
    (here / "copies").mkdir()
    Image.new("RGB", (2, 2)).save(here / "copies/0003.png")
    given = words(here, data=str(here / "train.parquet"), forget=str(here / "copies"))
    settings = f"data.test={here / 'test.parquet'}", "--set", "data.image=picture"
    run = mixunlearn(*given[:-1], *settings, "--dry-run")
    assert run.code == 0, run.err
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        ("10", ["10"]),  # not the class number 10
        ("1,10", [1, "10"]),
        ("cat, wild", ["cat, wild"]),
        ("20", [20]),
        ("cat, wild,1", ["cat", "wild", 1]),
    ],
)
def test_the_name_of_a_class_goes_before_a_number(written: str, classes: list[object]) -> None:
    dataset = cast("Any", SimpleNamespace(classes=("10", "2", "cat, wild")))
    assert task_of(f"class:{written}", dataset)["classes"] == classes


def test_two_lists_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("may.csv", "may.json"):
        (tmp_path / name).write_text("[3]")
    with pytest.raises(InputError, match="two lists of one name"), request_lists(str(tmp_path)):
        pass


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"request": ["may", "may"], "id": [3, None]}, "row 1 has no id"),
        ({"request": ["may", None], "id": [3, 4]}, "name of a request = ''"),
        ({"request": ["README.md"], "id": [3]}, "name of a request = 'README.md'"),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_row_of_a_table_without_id_or_request_is_refused(
    table: dict[str, list[Any]], reason: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"all.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table(table), path)
    else:
        rows = zip(*table.values(), strict=True)
        cells = [";".join("" if cell is None else str(cell) for cell in row) for row in rows]
        path.write_text("\n".join([";".join(table), *cells]))
    with pytest.raises(InputError, match=reason), request_lists(str(path)):
        pass


def test_a_table_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "all.csv")
    with (
        pytest.raises(InputError, match="not a regular file"),
        request_lists(str(tmp_path / "all.csv")),
    ):
        pass


def test_weights_too_large_for_the_user_s_precision_are_not_written(tmp_path: Path) -> None:
    own = SimpleNamespace(state_dict=lambda _: {"head": torch.tensor([1e6]).half()})
    request = cast("Any", SimpleNamespace(own=own))
    output = run_module.Output(folder=tmp_path)
    with pytest.raises(DivergedError, match="head is too large for float16"):
        run_module._write_weights(request, output, cast("Any", None))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("there", "refused"),
    [
        ("README.md", "README.md"),
        ("photos/1.png", "photos"),
        ("renamed/.work/request.json", ""),
        ("may/.work/request.json", ""),
        (".README.md.0123.tmp", ""),
    ],
)
def test_the_page_over_requests_replaces_no_other_readme(
    there: str, refused: str, here: Path, mixunlearn: Command
) -> None:
    for path in (here / "lists/may.csv", here / "out" / there):
        path.parent.mkdir(parents=True)
        path.write_text("id\n3\n")
    given = words(here, forget=None, requests=str(here / "lists"))
    run = mixunlearn(*given, "--dry-run")
    assert run.code == (2 if refused else 0), run.err
    assert f"holds something else ({refused})" in run.err or not refused


def test_a_damaged_record_of_a_sequence_is_one_line(here: Path, mixunlearn: Command) -> None:
    for path, text in {"lists/may.csv": "id\n3\n", "out/may/record.json": "{}"}.items():
        (here / path).parent.mkdir(parents=True)
        (here / path).write_text(text)
    run = mixunlearn(*words(here, forget=None, requests=str(here / "lists")))
    assert (run.code, "is damaged" in run.err) == (2, True), run.err


def full_disk(*_: object) -> None:
    raise SafetensorError("I/O error: No space left on device (os error 28)")


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    here: Path, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_file", full_disk)
        run = mixunlearn(*words(here))
    assert run.code == 1
    *_, line = run.err.strip().splitlines()
    assert line.startswith("mixunlearn: --out = ")
    assert "No space left on device (os error 28); fix it and run the same command" in line
    assert names(here / "out") == [".work"]
    assert mixunlearn(*words(here, format="pt")).code == 0
    assert names(here / "out") == ["README.md", "model.pt", "record.json"]


def test_a_single_image_can_be_forgotten_with_batch_norm(here: Path, mixunlearn: Command) -> None:
    (here / "one.csv").write_text("id\n3\n")
    run = mixunlearn(*words(here, forget=str(here / "one.csv")))
    assert run.code == 0, run.err


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_verification_retrains_and_tells_its_state(here: Path, mixunlearn: Command) -> None:
    # Workers of a Ray that runs already do not look in the user's folder.
    given = [*words(here, model="tests.own_net:build"), "--set", "references.epochs=2", "--json"]
    run = mixunlearn(*given, "--verify")
    record = run.result
    codes = dict(zip(STATES, (0, 5, 7, 8, 6), strict=True))
    assert run.code == codes[record["verdict"]["state"]], run.err
    assert (record["verdict"]["originals"], record["verdict"]["references"]) == (3, 3)
    assert all(len(values) == 3 for values in record["measured"]["retrained"].values())
    assert record["retraining_seconds"] > 0
    assert record["verdict"]["margins"]["mia/asr"] == 5
    # Who asks without verification afterwards keeps the verdict.
    kept = mixunlearn(*given)
    assert kept.result == record
    # What was known of single images is gone; models that never saw them stay.
    store = here / "home/store"
    assert not list(store.glob("teachers/*")) + list(store.glob("evaluations/*"))
    # Neither a copy of the model before, nor others that were trained with the images.
    models = [
        json.loads(path.read_text())["payload"] for path in store.glob("models/*/record.json")
    ]
    assert [each["role"] for each in models] == ["reference"] * 3
    assert not list((here / "home").rglob("*.arrow"))
    assert not list((here / "home/studies").glob("*"))


@pytest.mark.slow
def test_requests_in_sequence_are_each_handled_once(here: Path, mixunlearn: Command) -> None:
    lists = here / "lists"
    lists.mkdir()
    for name, rows in {"a": [1, 2], "b": [2, 9]}.items():
        (lists / f"{name}.csv").write_text("\n".join(["id", *map(str, rows)]) + "\n")
    given = [*words(here, forget=None), "--requests", str(lists), "--json"]
    first = mixunlearn(*given).result["requests"]
    assert [each["forget"]["images"] for each in first] == [2, 3]
    assert first[1]["model"]["before"] == first[0]["model"]["after"]
    (lists / "c.csv").write_text("id\n20\n")
    second = mixunlearn(*given).result["requests"]
    assert second[:2] == first
    other = mixunlearn(*given, "--format", "pt")
    assert (other.code, "a was released as model.safetensors" in other.err) == (2, True), other.err
    assert len(list((here / "home/records").glob("*.json"))) == 3
    page = (here / "out/README.md").read_text()
    assert "| c | 1 | 4 |" in page
    assert mixunlearn("record", "verify", "--home", str(here / "home")).code == 0
    (lists / "a.csv").write_text("id\n1\n3\n")
    changed = mixunlearn(*given)
    assert (changed.code, "its list" in changed.err) == (2, True)
    (lists / "a.csv").unlink()
    gone = mixunlearn(*given)
    assert (gone.code, "its list is gone" in gone.err) == (2, True)


def test_a_table_of_requests_is_taken_apart(here: Path, mixunlearn: Command) -> None:
    (here / "all.csv").write_text("request,id\nmay,3\nmay,4\njune,9\n")
    given = [*words(here, forget=None), "--requests", str(here / "all.csv")]
    run = mixunlearn(*given, "--dry-run")
    assert run.code == 0, run.err
    assert "2 forget" in run.out
    (here / "all.csv").write_text("id\n3\n")
    run = mixunlearn(*given, "--dry-run")
    assert (run.code, "column 'request'" in run.err) == (2, True)


LISTS: dict[str, tuple[dict[str, str], str]] = {
    "no list": ({}, "lists': holds no request"),
    "an empty list": ({"a.csv": ""}, "--requests, request a = "),
    "an unknown id": ({"a.csv": "id\n1\n", "b.csv": "id\n999\n"}, "--requests, request b = "),
    "no list of ids": ({"notes.md": "hello"}, "--requests, request notes = "),
    "two of one name": (
        {"a.csv": "id\n1\n", "a.txt": "2"},
        "--requests = 'a': two lists of one name",
    ),
}


@pytest.mark.parametrize("mistake", LISTS)
def test_a_mistake_in_a_list_names_its_request(
    mistake: str, here: Path, mixunlearn: Command
) -> None:
    files, said = LISTS[mistake]
    (here / "lists").mkdir()
    for name, content in files.items():
        (here / "lists" / name).write_text(content)
    run = mixunlearn(*words(here, forget=None, requests=str(here / "lists")))
    assert (run.code, said in run.err) == (2, True), run.err
    assert names(here) == ["lists"]


def test_a_sequence_leaves_the_results_of_others_alone(here: Path, mixunlearn: Command) -> None:
    (here / "all.csv").write_text("request,id\nmay,3\n")
    (here / "out").mkdir()
    (here / "out/README.md").write_text("mine")
    run = mixunlearn(*words(here, forget=None, requests=str(here / "all.csv")))
    assert (run.code, "holds something else" in run.err) == (2, True), run.err
    assert (here / "out/README.md").read_text() == "mine"
    none = mixunlearn(*words(here, forget=None, requests=str(here / "none")))
    assert "No such file or directory: " in none.err
    assert "Errno" not in none.err


@pytest.mark.parametrize(("name", "value"), [("model", "other"), ("data", "other"), ("", "")])
def test_proxies_of_another_model_or_other_data_predict_nothing(name: str, value: str) -> None:
    measured = {"differences": [0.1, 0.2, 0.1], "resolution": 0.1}
    proxies = {
        **{"model": "mine", "data": "images", "kind": "random", "images": 12},
        "metrics": {"acc/test": measured},
        **({name: value} if name else {}),
    }
    plan = SimpleNamespace(
        source=SimpleNamespace(digest="images"),
        experiment=SimpleNamespace(task=SimpleNamespace(kind="ids")),
        splits=SimpleNamespace(forget_N=range(12)),
        margins={"acc/test": 2.0},
    )
    request = SimpleNamespace(
        configuration=SimpleNamespace(summary={"proxies": proxies}),
        plan=plan,
        own=SimpleNamespace(digest="mine"),
        of_study=False,
    )
    found = carry_out_module.predicted(cast("Any", request))
    assert (found is None) == bool(name)


def test_the_original_of_a_study_is_not_that_of_other_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def plan_of(digest: str) -> Any:
        return SimpleNamespace(source=SimpleNamespace(digest=digest))

    monkeypatch.setattr(request_module, "find_study", lambda *given, **options: plan_of("its own"))
    configuration = cast("Any", SimpleNamespace(study="tuned"))
    with pytest.raises(InputError, match="trained on other data"):
        request_module._of_study(configuration, plan_of("mine"), tmp_path)


def test_what_a_file_leaves_out_has_the_defaults_of_the_search(here: Path) -> None:
    (here / "short.yaml").write_text("{method: mixunlearn, epochs: 1}")
    (here / "once.yaml").write_text("{method: ssd, epochs: 20}")
    request = wished(here, "short.yaml")
    # The method's own default is a stage of another model.
    assert request.stages == ("body.2",)
    assert request.configuration.hyperparameters["mixing"] == "mixblock"
    assert wished(here, "once.yaml").configuration.epochs == 1  # more would change nothing


def test_a_request_knows_that_it_is_about_the_original_of_a_study(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not wished(here, "config.yaml").of_study
    own = wished(here, "config.yaml").own
    monkeypatch.setattr(request_module, "_of_study", lambda *given: own)
    assert wished(here, "config.yaml", weights=None).of_study


def wished(here: Path, config: str, weights: str | None = "model.pt") -> request_module.Request:
    """A checked request with a configuration of a file."""
    path = here / config if (here / config).exists() else Path(config)
    wish = request_module.Wish(
        forget="ids.csv",
        model="own_net:build",
        weights=weights,
        data="train.parquet",
        settings=["data.test=test.parquet"],
        command="a test",
    )
    found = find_configuration(str(path), here / "home")
    return request_module.make_request(wish, found, here / "home")


def test_weights_that_were_changed_are_not_judged_as_the_result(
    here: Path, mixunlearn: Command
) -> None:
    assert mixunlearn(*words(here)).code == 0
    file = here / "out/model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    run = mixunlearn(*words(here), "--verify")
    assert (run.code, "was changed since" in run.err) == (2, True)


def test_an_apple_gpu_is_taken_where_there_is_one_and_called_untested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"--device = 'mps': PyTorch finds no such GPU here"):
        _device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert _device("mps").type == "mps"
    assert "has not been tested" in capsys.readouterr().err
    assert _device("auto").type != "mps"
