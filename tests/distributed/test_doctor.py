import io
import os
import shutil
import socket
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from distributed import doctor
from distributed.cluster import ray_folder
from distributed.doctor import Check, checks
from distributed.runtime.addresses import embedded
from tests.fixtures import S3

Usage = namedtuple("Usage", "total used free")


def look(home: Path, uri: str | None = None, address: str | None = None) -> dict[str, Check]:
    return {check.name: check for check in checks(home, uri or embedded(home)[0], address)}


def test_a_sound_machine(tmp_path: Path) -> None:
    home = tmp_path / "runs"
    found = look(home)
    assert [check for check in found.values() if not check.ok] == []
    assert found["python"].detail == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "ray", "optuna", "mlflow", "pydantic", "xgboost-cpu"} <= found.keys()
    assert not {"ruff", "pytest"} & found.keys()
    assert found["processors"].detail.endswith("usable")
    assert found["ray cluster"].detail == "local, started when needed"
    assert found["disk"].detail.endswith("GB free")
    assert found["home"].detail == f"{home}, created when needed"
    assert found["store"].detail == "empty"
    assert found["tracking"].detail == f"{embedded(home)[0]}, created when needed"
    assert not home.exists()


def test_every_problem_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("a file")
    monkeypatch.setattr(doctor, "FREE_GB", 1e12)
    found = look(tmp_path / "runs" / "deep", address="127.0.0.1:1")
    bad = {check.name: check for check in found.values() if not check.ok}
    assert bad.keys() == {"ray cluster", "disk", "home", "tracking"}
    for check in bad.values():
        assert check.remedy
        assert "\n" not in check.detail
    assert "is a file" in bad["home"].detail


def test_a_package_is_missing_or_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        "[project]\n"
        'dependencies = ["numpy>=9999", "no-such-package-here[extra]>=1,<2"]\n'
        "[project.optional-dependencies]\n"
        'attack = ["pillow"]\n'
        'dev = ["no-such-tool"]\n'
    )
    monkeypatch.setattr(doctor, "PROJECT", project)
    found = look(tmp_path)
    assert found["pillow"].ok
    assert found["numpy"].detail.endswith(", >=9999 is needed")
    assert found["numpy"].remedy == "pip install 'numpy>=9999'"
    missing = found["no-such-package-here"]
    assert (missing.ok, missing.detail) == (False, "not installed")
    assert "no-such-tool" not in found


def test_what_the_system_says_about_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("t" * 90)))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    tmp_path.chmod(0o755)
    found = look(tmp_path)
    assert f"HOME {tmp_path / 'missing'}, which cannot be written" in found["user"].detail
    assert found["terminal"].detail == "ascii: other characters are replaced by similar ones"
    assert found["temporary files"].detail == "Ray's are in /tmp"
    assert "other users can enter it" in found["home"].detail
    monkeypatch.setattr(ray_folder, "LONGEST_PLACE", 3)
    short = look(tmp_path)["temporary files"]
    assert (short.ok, short.remedy) == (False, "set RAY_TMPDIR to a short path that is writable")


def test_little_space_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10e9, 9e9, 1e9))
    disk = look(tmp_path)["disk"]
    assert (disk.ok, disk.detail) == (False, "1.0 GB free")


def test_a_home_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser may write anywhere
    home = look(tmp_path / "runs")["home"]
    assert (home.ok, home.detail) == (False, f"no permission to write in {tmp_path}")


def test_the_store_is_counted(tmp_path: Path) -> None:
    for entry in ("model/aa", "model/bb", "model/.cc-half", "teacher/dd"):
        (tmp_path / "store" / entry).mkdir(parents=True)
    (tmp_path / "store" / "note.txt").write_text("no entry")
    assert look(tmp_path)["store"].detail == "2 model, 1 teacher"


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_listens(tmp_path: Path, form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = head.getsockname()[1]
        check = look(tmp_path, address=form.format(port))["ray cluster"]
    assert (check.ok, check.detail) == (True, f"127.0.0.1:{port} answers")


@pytest.mark.parametrize("address", ["ray://", "127.0.0.1:port", "[::1"])
def test_an_address_that_is_none(tmp_path: Path, address: str) -> None:
    check = look(tmp_path, address=address)["ray cluster"]
    assert not check.ok
    assert address in check.detail


def test_a_tracking_server_without_answer(tmp_path: Path) -> None:
    with socket.socket() as taken:  # no process listens on it
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        check = look(tmp_path, uri=f"http://ann:hunter2@{address}")["tracking"]
    assert check.detail == f"http://***@{address}: Connection refused"
    assert not check.ok
    assert check.remedy


def test_shared_places_are_looked_at(tmp_path: Path, postgres: str, s3: S3) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    found = {each.name: each for each in checks(tmp_path, uri, None, postgres, s3.uri("team"))}
    assert found["study"].ok
    assert "secret" not in found["study"].detail
    assert found["files"].ok
    away = "postgresql://me:secret@127.0.0.1:1/none"
    nowhere = "s3://none?endpoint_override=127.0.0.1:1&scheme=http"
    found = {each.name: each for each in checks(tmp_path, uri, None, away, nowhere)}
    for name in ("study", "files"):
        assert not found[name].ok
        assert f"storage.{name}" in str(found[name].remedy)
        assert "secret" not in found[name].detail
