"""Checkpoints without pickle: tensors as safetensors, everything around them as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mixunlearn.errors import CorruptError

IMAGE_DIMENSIONS = 4
TENSORS, TREE = "state.safetensors", "state.json"


def save_state(state: dict[str, Any], folder: Path) -> None:
    """Write nested dicts, lists and tuples of tensors, numbers, strings and None to a folder.

    Raises:
        TypeError: the state holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_encode(state, tensors))
    save_file(tensors, folder / TENSORS)
    temporary = folder / f".{TREE}"
    temporary.write_text(tree)
    temporary.replace(folder / TREE)


def load_state(folder: Path) -> Any:  # noqa: ANN401 - as nested as what was saved
    """Return what `save_state` wrote, tensors on the CPU.

    Raises:
        CorruptError: the folder does not hold a whole checkpoint.
    """
    try:
        tensors = load_file(folder / TENSORS)
        return _decode(json.loads((folder / TREE).read_text()), tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CorruptError(f"checkpoint {folder} cannot be read ({error}); start again") from error


def _encode(value: object, tensors: dict[str, Tensor]) -> object:
    """Return JSON for a value; tensors are put aside, and only their names stay."""
    match value:
        case Tensor():
            name = f"t{len(tensors)}"
            # Copied where tensors share memory, which the format does not allow.
            tensors[name] = value.detach().cpu().contiguous().clone()
            # The fused Adam walks through memory: its moments must lie as its weights do.
            turned = value.dim() == IMAGE_DIMENSIONS and value.is_contiguous(
                memory_format=torch.channels_last
            )
            return {"tensor": name, "channels_last": turned and not value.is_contiguous()}
        case dict():
            # Optimizers use numbers as keys; JSON would turn them into text.
            return {"dict": [[key, _encode(item, tensors)] for key, item in value.items()]}
        case list():
            return [_encode(item, tensors) for item in value]
        case tuple():
            return {"tuple": [_encode(item, tensors) for item in value]}
        case np.integer() | np.floating():
            return value.item()
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _decode(value: Any, tensors: dict[str, Tensor]) -> object:  # noqa: ANN401 - JSON
    """Return the value `_encode` made JSON of."""
    match value:
        case {"tensor": name, "channels_last": True}:
            return tensors[name].contiguous(memory_format=torch.channels_last)
        case {"tensor": name}:
            return tensors[name]
        case {"dict": items}:
            return {key: _decode(item, tensors) for key, item in items}
        case {"tuple": items}:
            return tuple(_decode(item, tensors) for item in items)
        case list():
            return [_decode(item, tensors) for item in value]
    return value
