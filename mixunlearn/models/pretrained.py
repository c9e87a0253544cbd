"""Pretrained weights, from which originals and references start."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixunlearn.errors import DivergedError, InputError
from mixunlearn.models import torchvision
from mixunlearn.models.factories import PUBLISHED
from mixunlearn.models.finite import require_finite
from mixunlearn.models.staged import StagedModel
from mixunlearn.models.weights_file import (
    as_array,
    listed,
    read_file,
    same_kind,
    written_shape,
)

COUNTER = "num_batches_tracked"  # of a batch norm; some published files lack it, it is not used


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
            source: a file, see `read_file`; or "DEFAULT" for the weights that torchvision publishes
                for the model, which are downloaded if missing.
            model: name of the model.

        Raises:
            InputError: there is no such file, or it does not hold tensors by name.
            MixUnlearnError: the download failed.
        """
        if source != PUBLISHED:
            return cls(source=source, tensors=read_file(source))
        found = torchvision.published(model)
        tensors = {name: as_array(tensor, source, name) for name, tensor in found.items()}
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
            InputError: weights are missing, differ from the model's in shape or kind, or are not
                finite.
        """
        state = model.state_dict()
        prefix = self._prefix(state)
        given = {f"{prefix}{name}": torch.from_numpy(array) for name, array in self.tensors.items()}
        head = _layer([*state][-1])  # the last weights belong to the last layer
        self._require_whole([name for name in state if name not in given and COUNTER not in name])
        shared = {name: given[name] for name in state if name in given}
        other = [name for name in shared if shared[name].shape != state[name].shape]
        self._require_fit(given, state, [name for name in other if _layer(name) != head])
        if other:
            shared = {name: tensor for name, tensor in shared.items() if _layer(name) != head}
        self._require_kind(shared, state)
        model.load_state_dict({**state, **shared})
        try:
            require_finite(model)
        except DivergedError as error:
            remedy = f"{error.args[0]}; use the weights of a sound model"
            raise InputError("model.weights", self.source, remedy) from error

    def _prefix(self, state: Mapping[str, Tensor]) -> str:
        """Return what our names have before those of the file.

        Its names are those of a whole model, or only of its network, as other programs save it;
        reading a file removes the prefixes of wrappers, which may be a part of the network.
        """
        prefixes = ("", "network.", "network.module.")
        shared = [sum(f"{prefix}{name}" in state for name in self.tensors) for prefix in prefixes]
        return prefixes[shared.index(max(shared))] if any(shared) else "network."

    def _require_kind(self, given: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        for name, tensor in given.items():
            if not same_kind(tensor.numpy(), state[name]):
                here, there = (str(tensors[name].dtype)[6:] for tensors in (state, given))
                remedy = f"{name} is {there}, in the model it is {here}; convert it first"
                raise InputError("model.weights", self.source, remedy)

    def _require_whole(self, missing: list[str]) -> None:
        if missing:
            remedy = f"lacks {listed(missing)}; use weights of the same model"
            raise InputError("model.weights", self.source, remedy)

    def _require_fit(
        self, given: Mapping[str, Tensor], state: Mapping[str, Tensor], incompatible: list[str]
    ) -> None:
        for name in incompatible:
            here, there = (written_shape(tensors[name]) for tensors in (state, given))
            remedy = f"{name} is {there}, in the model it is {here}; use weights of the same model"
            raise InputError("model.weights", self.source, remedy)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
