import json
import subprocess
from pathlib import Path

import pytest

from distributed.cluster import checkout
from distributed.cluster.version import environment


def test_an_environment_is_plain_and_holds_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    found = environment()
    text = json.dumps(found, allow_nan=False)
    assert "hunter2" not in text
    assert found["packages"]["mlflow"].startswith("3.")
    assert found["cpu"]["count"] >= 1
    assert list(found["packages"]) == sorted(found["packages"], key=str.lower)


def test_changes_are_told_from_a_clean_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    assert environment()["changes"] is None  # not in a checkout
    file = tmp_path / "a.py"
    file.write_text("one\n")
    author = ("-c", "user.name=ann", "-c", "user.email=ann@localhost")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "one")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    assert environment()["changes"] == "clean"
    file.write_text("two\n")
    first = environment()["changes"]
    file.write_text("three\n")
    assert len({"clean", None, first, environment()["changes"]}) == 4
