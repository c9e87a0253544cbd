"""Checkpoints without pickle."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mixunlearn.errors import CorruptError
from mixunlearn.files import Files
from trainables.checkpoint import latest, load_state, save_state


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.8, 0.9))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    rng = np.random.default_rng(7)
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": rng.bit_generator.state,
        "numbers": [1, 2.5, None, True, "text", (1, "two")],
    }
    save_state(state, tmp_path)
    loaded = load_state(tmp_path)
    torch.testing.assert_close(loaded["model"], dict(state["model"]))
    assert loaded["numbers"] == state["numbers"]
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    moments = loaded["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(moments, state["optimizer"]["state"][0]["exp_avg"])
    fresh = np.random.default_rng(0)
    fresh.bit_generator.state = loaded["rng"]
    assert fresh.random() == rng.random()


def test_tensors_that_share_memory_are_both_saved(tmp_path: Path) -> None:
    tensor = torch.arange(6.0)
    save_state({"whole": tensor, "part": tensor[2:4], "turned": tensor.view(2, 3).T}, tmp_path)
    loaded = load_state(tmp_path)
    assert torch.equal(loaded["part"], tensor[2:4])
    assert torch.equal(loaded["turned"], tensor.view(2, 3).T)


def test_tensors_lie_in_memory_as_before(tmp_path: Path) -> None:
    tensor = torch.rand(2, 3, 4, 5)
    state = {"turned": tensor.contiguous(memory_format=torch.channels_last), "usual": tensor}
    save_state(state, tmp_path)
    loaded = load_state(tmp_path)
    assert loaded["turned"].stride() == state["turned"].stride() != tensor.stride()
    assert loaded["usual"].stride() == tensor.stride()
    assert torch.equal(loaded["turned"], tensor)


def test_only_plain_data_and_tensors_are_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold PosixPath"):
        save_state({"path": tmp_path}, tmp_path)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_half_a_checkpoint_is_not_loaded(tmp_path: Path, name: str) -> None:
    save_state({"a": torch.ones(100)}, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptError, match="cannot be read"):
        load_state(tmp_path)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_one_changed_bit_is_noticed(tmp_path: Path, name: str) -> None:
    save_state({"a": torch.ones(100), "n": 1234567}, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-5] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptError, match="cannot be read"):
        load_state(tmp_path)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_pickle_in_place_of_a_checkpoint_is_not_run(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run" / "0000" / "checkpoint_000000"
    folder.mkdir(parents=True)
    save_state({"identity": "me"}, folder)
    runs = Files.of(tmp_path)
    assert latest(runs, "0000", "me") == {"identity": "me"}
    assert latest(runs, "0000", "another") is None
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "harm")))
    assert latest(runs, "0000", "me") is None
    assert not (tmp_path / "harm").exists()
