"""Code of others that ends, hangs or breaks its process: the command says so in one line."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import nn

from distributed.plan import make, rehearsal
from distributed.plan.rehearsal import NARROW, Sketch, rehearse
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS, Context
from tests.fixtures import Command
from tests.parquet import write_images

OWN = """
import os, sys, time
import torch
from torch import nn
from torch.nn import functional as F

class Odd(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.layer = nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, images):
        if self.training:
            self.act()
        return self.layer(images.flatten(1))

class Stop(BaseException):
    pass

class Exit(Odd):
    def act(self):
        os._exit(0)

class Raise(Odd):
    def act(self):
        raise Stop

class Close(Odd):
    def act(self):
        if os.path.exists("/proc/self/fd/1"):
            os.close(1)

class Sleep(Odd):
    def act(self):
        time.sleep(1000)

def leave(**options):
    sys.exit(0)

class Chancy(Odd):
    def forward(self, images):
        return F.dropout(self.layer(images.flatten(1)))
"""
EXPERIMENT = """\
name: own
data: {source: digits, limit: {train: 300}}
model: {name: "own_odd:NAME"}
task: {kind: class, classes: [0]}
method: finetune
references: {seeds: 1, epochs: 1}
search: {trials: 1, epochs: 1}
"""


@pytest.fixture(autouse=True)
def own_odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_odd.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


class Plain(nn.Module):
    def forward(self, images: Any) -> Any:
        return images


def sketch(model: str) -> Sketch:
    return Sketch(
        model=f"own_odd:{model}",
        width=None,
        image_shape=(1, 8, 8),
        classes=4,
        method="finetune",
        space="{}",
        labels="aware",
        forgotten=(0,),
        forgets=2,
    )


def test_a_method_that_a_model_of_torchvision_cannot_do_is_refused_in_this_process() -> None:
    hard = replace(sketch(""), model="torchvision:mobilenet_v3_small", image_shape=(3, 32, 32))
    with pytest.raises(InputError, match=r"method = 'mu_mis': does not work with .* not implement"):
        rehearse(replace(hard, method="mu_mis"))
    assert rehearse(replace(hard, model="cnn", method="mu_mis")) == ()


def test_what_a_search_is_sure_to_try_is_tried_first_with_built_in_models_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = replace(sketch(""), model="cnn", method="salun", start='[{"fraction": 0.25}, {"no": 1}]')
    tried = []

    def prepare(method: Any, context: Context) -> None:
        assert context.original.get_parameter("stages.pool1.0.weight").shape[0] == NARROW
        tried.append((method.optimizer, method.fraction, context.augmentation))
        if method.optimizer == "sgd":
            raise ValueError("no momentum here")

    monkeypatch.setattr(METHODS["salun"], "prepare", prepare)
    monkeypatch.setattr(METHODS["salun"], "epoch", lambda method: setattr(method, "model", Plain()))
    with pytest.raises(InputError) as raised:
        rehearse(replace(ours, augmentation="crop_flip"))
    assert tried == [("adam", 0.5, "crop_flip"), ("sgd", 0.5, "crop_flip")]
    assert str(raised.value) == (
        "method = 'salun': does not work with the model cnn with lr = 0.013, new_labels = redrawn, "
        "optimizer = sgd, weight_decay = 0.0005 (no momentum here); choose another"
    )
    tried.clear()
    rehearse(replace(ours, space='{"optimizer": "adam", "lr": 0.001}'))
    assert tried == [("adam", 0.5, "none"), ("adam", 0.25, "none")]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Exit", "ends its process with exit code 0 when it is tried with finetune; correct it"),
        ("Raise", "cannot be trained (it raises Stop); choose another"),
        ("Close", "closes the standard output; correct it"),
        ("Sleep", "does nothing for 3 s when it is tried with finetune; correct it"),
    ],
)
def test_what_ends_its_process_ends_no_command(
    model: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if model == "Sleep":
        monkeypatch.setattr(rehearsal, "IDLE_S", 3.0)
    with pytest.raises(InputError) as raised:
        rehearse(sketch(model))
    assert str(raised.value) == f"model.name = 'own_odd:{model}': {message}"


def test_a_sweep_refuses_before_it_writes_and_warns_of_what_is_doubtful(
    mixunlearn: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(EXPERIMENT.replace("NAME", "leave"))
    refused = mixunlearn("sweep", str(experiment))
    assert refused.code == 2
    assert refused.err.splitlines() == [
        "mixunlearn: model.name = 'own_odd:leave': cannot be built for images of 1×8×8 "
        "(it raises SystemExit); choose another model"
    ]
    assert not (tmp_path / "runs").exists()
    experiment.write_text(EXPERIMENT.replace("NAME", "Chancy"))
    assert mixunlearn("sweep", str(experiment), "--dry-run").code == 0
    (warning,) = [record.getMessage() for record in caplog.records]
    doubt = "gives other outputs for the same images in evaluation mode, so numbers cannot"
    assert warning.startswith(f"model.name = 'own_odd:Chancy': {doubt}")


def test_a_module_that_exits_makes_no_command_succeed(mixunlearn: Command, tmp_path: Path) -> None:
    (tmp_path / "own_exit.py").write_text("import sys; sys.exit(0)")
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(EXPERIMENT)
    setting = ("--set", "model.name=own_exit:small")
    for words in (("doctor",), ("sweep", str(experiment))):
        run = mixunlearn(*words, *setting)
        assert run.code == 2
        assert run.err.splitlines() == [
            "mixunlearn: model.name = 'own_exit:small': cannot be imported (it raises SystemExit)"
        ]


@pytest.mark.parametrize(
    "words", ["doctor x.yaml", "sweep x.yaml --dry-run", "sweep x.yaml", "references x.yaml"]
)
def test_doctor_a_dry_run_and_the_start_of_a_sweep_make_the_same_check(
    words: str, mixunlearn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(tried: Sketch) -> tuple[str, ...]:
        raise InputError("method", tried.method, "does not work with this model; choose another")

    (tmp_path / "x.yaml").write_text(EXPERIMENT.replace("NAME", "Chancy"))
    monkeypatch.setattr(make, "rehearse", refused)
    found = mixunlearn(*words.split(), "--home", "runs")
    assert found.code == 2
    assert "method = 'finetune': does not work with this model" in found.out + found.err
    assert not (tmp_path / "runs").exists()


def test_doctor_says_what_a_sound_experiment_forgets(mixunlearn: Command, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(EXPERIMENT.replace("own_odd:NAME", "cnn"))
    found = mixunlearn("doctor", "x.yaml", "--home", "runs")
    assert re.search(
        r"ok .*experiment: own-\w+ can start: \d+ images to forget, \d+ to retain", found.out
    )
    assert "ok   python: " in found.out
    assert not (tmp_path / "runs").exists()


def test_images_in_several_parts_are_counted_and_said(mixunlearn: Command, tmp_path: Path) -> None:
    one_each = np.arange(60, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    write_images(one_each // 30, [0, 1] * 30, tmp_path / "t.parquet")
    changed = EXPERIMENT.replace("own_odd:NAME", "cnn").replace(
        "{source: digits, limit: {train: 300}}", "{source: parquet, train: t.parquet}"
    )
    (tmp_path / "x.yaml").write_text(changed)
    found = mixunlearn("sweep", "x.yaml", "--dry-run", "--home", "runs")
    assert found.code == 0
    for other in ("retain", "val", "test"):
        assert f"warning     forget and {other} share pixels: 18 images of forget are" in found.out

    several = {
        "name": "several",
        "experiment": {"search": {"trials": 2, "epochs": 3}},
        "methods": {"finetune": None, "original": None},
        "data": {
            "own": {
                "data": {"source": "parquet", "train": ["t.parquet"]},
                "model": {"name": "cnn"},
                "references": {"seeds": 1, "epochs": 2},
            }
        },
        "tasks": {"class": {"kind": "class", "classes": [0]}},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(several))
    found = mixunlearn("compare", "c.yaml", "--dry-run", "--home", "runs")
    for other in ("retain", "val", "test"):
        said = f"warning     own, class: forget and {other} share pixels: 18 images of forget are"
        assert found.out.count(said) == 1
    # An original of 36 images, a reference of 18; two trials of `finetune`, one of `original`.
    assert "images: 108 to train models, at most 126 in trials" in found.out
