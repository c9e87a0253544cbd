"""The benchmark for a GPU runs here too, on a CPU and with a few small steps."""

import importlib.util
import json
import queue
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.synthetic import QUICK


def test_it_measures_all_parts_and_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "STEPPED", ("mixunlearn", "finetune"))
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--quick", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["card"] == "CPU"
    assert found["floors_ms"].keys() == {"8", "24"}
    assert len(found["steps"]) == 2 * len(gpu.WAYS)
    step = found["steps"]["mixunlearn, 8 pairs, eager float32"]
    assert step["to_floor"] == pytest.approx(step["ms"] / found["floors_ms"]["24"], rel=0.01)
    assert found["training"]["8 images, eager float32"]["images_s"] > 0
    assert set(found["methods"].values()) == {"one operation at a time"}
    assert "methods, one operation at a time: mixunlearn, esc, unsir" in capsys.readouterr().err


def test_without_time_nothing_more_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "LIMIT_S", 0.0)
    gpu.main(["--device", "cpu", "--quick", "--out", str(tmp_path / "gpu.json")])
    assert capsys.readouterr().err.count("no time is left") == 6


def test_processes_report_their_steps_in_their_rounds() -> None:
    size = replace(QUICK, processes=(1, 2), seconds=0.05)
    results: Any = queue.Queue()
    barrier: Any = threading.Barrier(2)
    for_second = threading.Thread(target=gpu._work, args=(1, size, "cpu", barrier, results))
    for_second.start()
    barrier.wait(20)  # the second process has no part in the first round
    assert results.empty()
    barrier.wait(20)
    steps, memory = results.get(timeout=20)
    for_second.join(20)
    assert steps > 0
    assert memory == 0


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = gpu.sweep(torch.device("cpu"), quick=False)
    assert found["left_out"][:2] == ["ray", "optuna"]
