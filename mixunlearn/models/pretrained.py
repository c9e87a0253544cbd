"""Pretrained weights, from which originals and references start."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from mixunlearn.errors import InputError
from mixunlearn.models import torchvision
from mixunlearn.models.factories import PUBLISHED
from mixunlearn.models.staged import StagedModel

COUNTER = "num_batches_tracked"  # of a batch norm; some published files lack it, it is not used
SHOWN = 3  # names in an error message


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights by name, as they were read.

    Args:
        source: a file, or "DEFAULT".
        tensors: name -> array; floating-point arrays are float32.
    """

    source: str
    tensors: Mapping[str, npt.NDArray[Any]]

    @classmethod
    def read(cls, source: str, model: str) -> "Pretrained":
        """Read weights; only tensors are unpickled.

        Args:
            source: a .safetensors, .pt or .pth file; or "DEFAULT" for the weights that torchvision
                publishes for the model, which are downloaded if missing.
            model: name of the model.

        Raises:
            InputError: there is no such file, or it does not hold tensors by name.
            MixUnlearnError: the download failed.
        """
        found = torchvision.published(model) if source == PUBLISHED else _from_file(source)
        tensors = {
            # NumPy has no bfloat16, and a digest must not depend on the precision of the file.
            name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
            for name, tensor in found.items()
        }
        return cls(source=source, tensors=tensors)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all names and values, in hex; it does not depend on the file."""
        hashed = hashlib.sha256()
        for name, array in sorted(self.tensors.items()):
            hashed.update(f"{name} {array.dtype} {array.shape}\n".encode())
            hashed.update(np.ascontiguousarray(array).data)
        return hashed.hexdigest()

    def put_into(self, model: StagedModel) -> None:
        """Load these weights into a model; its last layer is not changed if its size differs.

        Weights that the model does not have, such as auxiliary heads, are ignored.

        Raises:
            InputError: weights are missing, or their shapes differ from the model's.
        """
        state = model.state_dict()
        # The names are those of a whole model, or only of its network, as other programs save it.
        prefix = "" if state.keys() & self.tensors.keys() else "network."
        given = {f"{prefix}{name}": torch.from_numpy(array) for name, array in self.tensors.items()}
        head = _layer([*state][-1])  # the last weights belong to the last layer
        self._require_whole([name for name in state if name not in given and COUNTER not in name])
        shared = {name: given[name] for name in state if name in given}
        other = [name for name in shared if shared[name].shape != state[name].shape]
        self._require_fit(given, state, [name for name in other if _layer(name) != head])
        if other:
            shared = {name: tensor for name, tensor in shared.items() if _layer(name) != head}
        model.load_state_dict({**state, **shared})

    def _require_whole(self, missing: list[str]) -> None:
        if missing:
            more = f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else ""
            remedy = f"lacks {', '.join(missing[:SHOWN])}{more}; use weights of the same model"
            raise InputError("model.weights", self.source, remedy)

    def _require_fit(
        self, given: Mapping[str, Tensor], state: Mapping[str, Tensor], incompatible: list[str]
    ) -> None:
        for name in incompatible:
            here, there = (_written(tensors[name]) for tensors in (state, given))
            remedy = f"{name} is {there}, in the model it is {here}; use weights of the same model"
            raise InputError("model.weights", self.source, remedy)


def _from_file(source: str) -> Mapping[str, Tensor]:
    """Return the tensors of a file by name."""
    path = Path(source).expanduser()
    readers: dict[str, Callable[[Path], object]] = {
        ".safetensors": load_file,
        ".pt": _unpickled,
        ".pth": _unpickled,
    }
    if path.suffix not in readers:
        remedy = f"must be {PUBLISHED} or a file that ends with {', '.join(readers)}"
        raise InputError("model.weights", source, remedy)
    if not path.is_file():
        raise InputError("model.weights", source, "no such file")
    try:
        found = readers[path.suffix](path)
    except Exception as error:  # the type depends on what is wrong with the file
        reason = str(error).strip().splitlines()[0]
        raise InputError("model.weights", source, f"cannot be read ({reason})") from error
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        remedy = "does not hold tensors by name; save the model's state_dict()"
        raise InputError("model.weights", source, remedy)
    return found


def _unpickled(path: Path) -> Any:  # noqa: ANN401 (any content)
    return torch.load(path, map_location="cpu", weights_only=True)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _written(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
