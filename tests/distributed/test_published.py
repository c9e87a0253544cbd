"""What leaves the home or is shown holds no image that must be forgotten, and no id of one."""

import base64
import gzip
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from distributed.runtime.addresses import sqlite_address
from mixunlearn.data.sources import SOURCES
from tests.fixtures import Command, Run

pytestmark = [
    pytest.mark.pictures,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray"),
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),
]

IDS = [1006, 1130, 1214, 1326, 1442, 1546, 1624, 1738, 1762]
EXPERIMENT = {
    "name": "request",
    "data": {"source": "digits"},
    "model": {"name": "cnn", "width": 4},
    "task": {"kind": "ids", "ids": IDS},
    "references": {"seeds": 3, "originals": 1, "epochs": 1, "lr": 3e-3},
    "search": {"trials": 1, "epochs": 1, "report_seeds": 3, "space": {"batch": 64}},
}
NUMBER = re.compile(rb"(?<![\w.])(%s)(?![\w.])" % "|".join(map(str, IDS)).encode())
ENOUGH = 3  # so many different ids in one file are no accident


@dataclass(frozen=True, kw_only=True)
class Place:
    """A home with a finished study.

    Args:
        home: the home.
        said: what the sweep has printed.
    """

    home: Path
    said: Run

    @property
    def folder(self) -> Path:
        (folder,) = (self.home / "studies").iterdir()
        return folder


@pytest.fixture
def command(place: Place, mixunlearn: Command) -> Command:
    def run(verb: str, *words: str) -> Run:
        return mixunlearn(verb, *words, "--home", str(place.home))

    return run


_places: dict[Path, Place] = {}


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, mixunlearn: Command) -> Place:
    """One home for all tests; the first one runs the sweep."""
    root = tmp_path_factory.getbasetemp() / "published"
    if root not in _places:
        root.mkdir()
        path = root / "request.yaml"
        path.write_text(yaml.safe_dump(EXPERIMENT))
        said = mixunlearn("sweep", str(path), "--home", str(root / "home"), "--json")
        assert said.code == 0, said.err
        _places[root] = Place(home=root / "home", said=said)
    return _places[root]


@cache
def pixels() -> list[bytes]:
    """Return the images to be forgotten as bytes: as they are, and as PNG."""
    images = [SOURCES["digits"]().images_NCHW[row][0] for row in IDS]
    return [form for image in images for form in (image.tobytes(), encoded(image))]


def encoded(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def unpacked(content: bytes, name: str) -> Iterator[bytes]:
    """Yield a file's content, and what is packed in it."""
    yield content
    if name.endswith(".parquet"):
        yield json.dumps(pq.read_table(io.BytesIO(content)).to_pylist(), default=str).encode()
    for packed in re.findall(rb"H4sI[A-Za-z0-9+/=]+", content):
        yield gzip.decompress(base64.b64decode(packed))


def shown(content: bytes, name: str = "") -> list[str]:
    """Return what a file tells of the images that must be forgotten."""
    found = []
    for part in unpacked(content, name):
        known = set(NUMBER.findall(part))
        listed = [np.array(IDS[:ENOUGH], kind).tobytes() in part for kind in ("<i8", "<i4")]
        if len(known) >= ENOUGH or any(listed):
            found.append("ids")
        if any(each in part for each in pixels()):
            found.append("pixels")
    return found


def leaks(*roots: Path) -> dict[str, list[str]]:
    """Return what the files of some folders tell of the images that must be forgotten."""
    files = [path for root in roots for path in (root.rglob("*") if root.is_dir() else [root])]
    told = {str(path): shown(path.read_bytes(), path.name) for path in files if path.is_file()}
    return {path: what for path, what in told.items() if what}


def test_the_search_for_leaks_finds_them(place: Place) -> None:
    """What the home needs to go on is found: the cache, the splits, the experiment."""
    assert leaks(place.folder / "experiment.yaml")
    assert ["pixels"] in leaks(place.home / "cache").values()
    assert ["ids"] in leaks(place.home / "store" / "splits").values()


def test_no_published_file_holds_an_image_or_an_id(place: Place) -> None:
    files = [path for path in place.folder.iterdir() if path.name != "experiment.yaml"]
    public = [place.home / "mlflow.db", place.home / "mlartifacts", *files]
    assert all(path.exists() for path in public)
    assert leaks(*public) == {}
    assert b"data:image/png" not in (place.folder / "report.html").read_bytes()


def test_no_line_of_a_command_names_an_id(place: Place, command: Command) -> None:
    path = place.home.parent / "request.yaml"
    planned = command("sweep", str(path), "--dry-run", "--json")
    other = command("sweep", str(path), "--dry-run", "--json", "--set", "task.ids=[1006,1007]")
    exported = command("export", place.folder.name, "--format", "json")
    for run in (place.said, planned, other, exported):
        assert run.code == 0, run.err
        assert shown((run.out + run.err).encode()) == []
    assert "9 images asked for" in place.said.err
    assert "ids: 9 images, not published" in planned.out
    assert "task.ids: others" in other.out


def test_images_are_shown_only_if_asked_for_and_in_a_file_of_their_own(
    place: Place, command: Command
) -> None:
    study, report = place.folder.name, place.folder / "report.html"
    before = report.read_bytes()
    assert f"mixunlearn report {study} --home" in before.decode()
    run = command("report", study, "--show-images")
    assert run.code == 0, run.err
    assert report.read_bytes() == before
    assert "data:image/png" in (place.folder / "report-images.html").read_text()
    (place.folder / "report-images.html").unlink()


def test_a_run_in_mlflow_is_repeated_with_the_list_of_the_home(
    place: Place, command: Command, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient(sqlite_address(place.home / "mlflow.db"))
    (experiment,) = (each for each in client.search_experiments() if each.name == "request")
    runs = client.search_runs([experiment.experiment_id])
    (trial,) = (run.info.run_id for run in runs if "mixunlearn.trial" in run.data.tags)
    again = command("rerun", trial)
    assert again.code == 0, again.err
    moved = tmp_path / "moved"
    shutil.move(place.folder, moved)
    try:
        refused = command("rerun", trial)
        assert refused.code == 2
        assert "task.ids = '9 images, not published': name the list: --set" in refused.err
        (tmp_path / "ids.txt").write_text("\n".join(map(str, IDS)))
        listed = f"task.ids={tmp_path / 'ids.txt'}"
        named = command("rerun", trial, "--set", listed)
        assert named.code == 0, named.err
    finally:
        if (place.home / "studies" / moved.name).exists():
            shutil.rmtree(place.home / "studies" / moved.name)
        shutil.move(moved, place.home / "studies" / place.said.result["study"])


def test_after_a_purge_nothing_in_the_home_knows_the_images(place: Place, command: Command) -> None:
    study = place.folder.name
    planned = command("purge", study, "--dry-run")
    assert planned.code == 0, planned.err
    assert leaks(place.folder / "experiment.yaml")
    run = command("purge", study, "--json")
    assert run.code == 0, run.err
    assert run.result["removed"]["originals"] == 1
    assert leaks(place.home) == {}
    roles = [json.loads(path.read_text())["payload"]["role"] for path in records(place, "models")]
    assert roles == ["reference"] * 3
    assert records(place, "unlearned")
    assert all((place.folder / name).is_file() for name in ("report.html", "summary.json"))
    for words in (("report", study), ("sweep", str(place.home.parent / "request.yaml"))):
        refused = command(*words)
        assert refused.code == 2
        assert f"STUDY = '{study}': was purged: only its results are left" in refused.err
        assert len(refused.err.splitlines()) == 1
    assert command("purge", study).code == 0


def records(place: Place, kind: str) -> list[Path]:
    return sorted((place.home / "store" / kind).glob("*/record.json"))
