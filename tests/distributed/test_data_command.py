"""Sources beyond the packaged ones, through the command line and a study's plan."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from distributed.cli.app import main
from distributed.config.read import make_experiment
from distributed.plan.inputs import inputs
from distributed.plan.make import make_plan

SIZE = 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of images of two classes, with a file that is not an image."""
    root = tmp_path / "images"
    for place, name in enumerate(("[cat]", "dog")):
        for number in range(20):
            path = root / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 9), (100 * place, 5 * number, 0)).save(path)
    (root / "train" / "dog" / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mixunlearn", *arguments])
        return main()

    return run_command


def test_the_data_command_lists_what_is_left_out(
    root: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("--set", f"data.root={root}", "--set", f"data.size={SIZE}")
    assert run("data", "image_folder", *settings, "--json") == 0
    *shown, last = capsys.readouterr().out.splitlines()
    result: dict[str, Any] = json.loads(last)
    assert result["images"] == 40
    assert result["shape"] == [3, SIZE, SIZE]
    (skipped,) = result["skipped"]
    assert skipped.startswith("train/dog/notes.txt is not an image in PNG")
    assert f"skipped: {skipped}" in shown
    assert any("[cat]" in line for line in shown)


def test_the_data_command_lists_which_row_is_which_file(
    root: Path, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "[cat]" / "0.png").write_bytes(b"torn")
    settings = ("--set", f"data.root={root}", "--set", f"data.size={SIZE}")
    for _ in range(2):  # decoded, and from the cache
        assert run("data", "image_folder", *settings, "--rows", "rows.csv") == 0
        assert "rows: rows.csv" in capsys.readouterr().out
        first, second, *_ = lines = (tmp_path / "rows.csv").read_text().splitlines()
        assert (first, second) == ("row,file", "0,train/[cat]/1.png")
        assert lines[-1] == "38,train/dog/9.png"
    assert run("data", "digits", "--rows", "none.csv") == 2
    assert "'digits': has no file for each image" in capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists()


def test_names_of_files_and_their_rows_make_one_study(root: Path, tmp_path: Path) -> None:
    def plan(ids: object) -> Any:
        content = {
            "name": "folder",
            "data": {"source": "image_folder", "root": str(root), "size": SIZE},
            "model": {"name": "cnn", "width": 4},
            "task": {"kind": "ids", "ids": ids},
        }
        return make_plan(make_experiment(content), tmp_path / "home", command="test")

    (tmp_path / "request.csv").write_text("path\ntrain/dog/0.png\ntrain/[cat]/1.png\n")
    named = plan(["train/dog/0.png", "train/[cat]/1.png"])
    assert named.study == plan([1, 20]).study == plan(str(tmp_path / "request.csv")).study
    # The study's folder then holds the rows: it can be read where the files are gone.
    assert named.experiment.task.ids == [1, 20]


def test_a_study_on_a_folder_names_it_and_keeps_its_name(root: Path, tmp_path: Path) -> None:
    def plan(place: Path, **more: object) -> Any:
        content = {
            "name": "folder",
            "data": {"source": "image_folder", "root": str(place), "size": SIZE, **more},
            "model": {"name": "cnn", "width": 4},
            "task": {"kind": "class", "classes": [1]},
        }
        return make_plan(make_experiment(content), tmp_path / "home", command="test")

    first = plan(root)
    assert json.loads(inputs(first)[0]["source"]) == {"uri": str(root)}
    assert first.keep().dataset.path == first.dataset.path
    root.rename(tmp_path / "moved")
    assert plan(tmp_path / "moved").study == first.study
    assert plan(tmp_path / "moved", size=SIZE + 1).study != first.study
