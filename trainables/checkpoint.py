"""Checkpoints without pickle: tensors as safetensors, everything else as JSON.

Digests detect damage; then an older checkpoint is used.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mixunlearn.atomic import replacing
from mixunlearn.errors import CorruptError, MixUnlearnError
from mixunlearn.files import Files, digest
from mixunlearn.signature import signature

IMAGE_DIMENSIONS = 4
TENSORS, TREE, MANIFEST = "state.safetensors", "state.json", "manifest.json"
PREFIX = "checkpoint_"  # of the folders that Tune creates

log = logging.getLogger(__name__)


def save_state(state: dict[str, Any], folder: Path) -> None:
    """Write nested dicts, lists and tuples of tensors, numbers, strings and None to a folder.

    Raises:
        TypeError: the state holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_encode(state, tensors))
    save_file(tensors, folder / TENSORS)
    (folder / TREE).write_text(tree)
    # Read back from the disk: the digest covers what was really written.
    digests = {name: digest(folder / name) for name in (TENSORS, TREE)}
    # Last: a checkpoint without it was not finished and is passed over.
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(digests))


def load_state(folder: Path) -> Any:  # noqa: ANN401 - as nested as the saved state
    """Return the state that `save_state` wrote, tensors on the CPU.

    Raises:
        CorruptError: the folder does not hold a complete checkpoint.
    """
    try:
        digests = json.loads((folder / MANIFEST).read_text())
        for name in (TENSORS, TREE):
            if digest(folder / name) != digests[name]:
                raise ValueError(f"{name} was changed")
        return _decode(json.loads((folder / TREE).read_text()), load_file(folder / TENSORS))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CorruptError(f"checkpoint {folder} cannot be read ({error}); start again") from error


def latest(
    runs: Files, name: str, identity: str, known: int | None = None, *, own: str = ""
) -> Any:  # noqa: ANN401 - as nested as saved
    """Return the newest complete state of a trial or a training; `None` if there is none.

    Args:
        runs: folder of Tune's runs, each with a folder for each trial.
        name: of the trial's folder.
        identity: the identity that the state must have been saved with.
        known: number of epochs that the record has of the trial. A state of a later epoch belongs
            to a record that was lost, or to an attempt that failed. `None`: there is no record.
        own: name of the present run, to which `known` does not apply.
    """
    try:
        for run, folder in checkpoints(runs, name):
            state = _matching(folder, identity)
            if state is not None and (known is None or run == own or _epoch(state) <= known):
                return state
    except MixUnlearnError as error:  # the storage does not answer
        log.warning("no checkpoint is used: %s", error)
    return None


def checkpoints(runs: Files, name: str) -> Iterator[tuple[str, Files]]:
    """Yield the folders of a trial's checkpoints, each with its run's name, newest first."""
    # Names of runs are times and Tune numbers checkpoints with zeros in front: both sort.
    for run in sorted(runs.children(), reverse=True):
        trial = runs / run / name
        for folder in sorted(trial.children(), reverse=True):
            if folder.startswith(PREFIX):
                yield run, trial / folder


def _matching(folder: Files, identity: str) -> Any:  # noqa: ANN401
    """Return the state in a folder; `None` if it is damaged or belongs to something else."""
    try:
        state = _load(folder)
        # A trial's number alone says little: other weights or settings may have used it.
        return state if state["identity"] == identity else None
    except (MixUnlearnError, OSError, KeyError, TypeError) as error:
        log.warning("an older checkpoint is used: %s", error)
        return None


def _epoch(state: Mapping[str, Any]) -> int:
    return int(state["result"].get("epoch", 0))


def identity(method: str, hyperparameters: Mapping[str, Any], seed: int) -> str:
    """Return eight hex digits that identify a trial: equal for equal arguments."""
    return signature([method, dict(hyperparameters), seed])


def _load(folder: Files) -> Any:  # noqa: ANN401
    if folder.is_local:
        return load_state(Path(folder.path))
    with TemporaryDirectory() as temporary:
        here = Path(temporary) / "checkpoint"
        folder.download(here, marker=MANIFEST)
        return load_state(here)


def _encode(value: object, tensors: dict[str, Tensor]) -> object:
    """Return JSON for a value; tensors are added to `tensors` and replaced by their names."""
    match value:
        case Tensor():
            name = f"t{len(tensors)}"
            # Cloned, because the format does not allow tensors that share memory.
            tensors[name] = value.detach().cpu().contiguous().clone()
            # The fused Adam needs its moments in the same memory layout as the weights.
            turned = value.dim() == IMAGE_DIMENSIONS and value.is_contiguous(
                memory_format=torch.channels_last
            )
            return {"tensor": name, "channels_last": turned and not value.is_contiguous()}
        case dict():
            # Optimizers use numbers as keys, which JSON would turn into text.
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
    """Return the value that `_encode` converted to JSON."""
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
