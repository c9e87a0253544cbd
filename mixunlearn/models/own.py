"""The user's own trained model: the original that must forget, with the keys of its file."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mixunlearn.errors import DivergedError, InputError
from mixunlearn.models import torchvision
from mixunlearn.models.factories import PUBLISHED
from mixunlearn.models.finite import require_finite
from mixunlearn.models.staged import StagedModel
from mixunlearn.models.weights_file import (
    as_array,
    listed,
    plain_names,
    read_tensors,
    same_kind,
    written_shape,
)
from mixunlearn.redaction import redact

KEY = "model.original"
COUNTER = "num_batches_tracked"  # of a batch norm; some files lack it, and it is not used
NETWORK = "network."  # what a `Wrapped` model puts before the names of its network


class Architecture(Protocol):
    """What weights are fitted to; see `mixunlearn.problem.Architecture`."""

    @property
    def name(self) -> str:
        """Name of the model."""

    def build(self, seed: int) -> StagedModel:
        """Return a freshly initialised model."""


@dataclass(frozen=True, kw_only=True)
class OwnModel:
    """The weights of a model that a user has trained.

    Args:
        source: where they are from, without passwords.
        tensors: name in the model's `state_dict()` -> array; floating-point arrays are float32.
        names: name in the model -> key in the user's file. A batch norm's counter that the file
            lacks is not among them.
        dtypes: name in the model -> the number format in the file.
        known: the digest, where no more than that is known; there are no tensors then.
    """

    source: str
    tensors: Mapping[str, npt.NDArray[Any]]
    names: Mapping[str, str]
    dtypes: Mapping[str, torch.dtype]
    known: str | None = None

    @classmethod
    def remembered(cls, source: str, digest: str) -> "OwnModel":
        """Return a model of which only the digest is known: enough to read what was computed."""
        return cls(source=source, tensors={}, names={}, dtypes={}, known=digest)

    @classmethod
    def read(cls, source: str, architecture: Architecture, path: str | None = None) -> "OwnModel":
        """Read the weights and fit them to the model; only tensors are unpickled.

        Args:
            source: a file, see `read_tensors`; or "DEFAULT" for the weights that torchvision
                publishes for the model, which are downloaded if missing.
            architecture: of the model.
            path: the file itself, if `source` is an address from which it was downloaded.

        Raises:
            InputError: there is no such file, or it does not hold exactly this model's weights, or
                they are not finite.
            MixUnlearnError: the download failed.
        """
        return cls.of_file(source, architecture.name, path).fitted(architecture)

    @classmethod
    def of_file(cls, source: str, model: str, path: str | None = None) -> "OwnModel":
        """Read the weights without building the model: names are then those of the file.

        Wrappers' prefixes (`module.`, `_orig_mod.`) are left out of the names.

        Args:
            source: as for `read`.
            model: name of the model.
            path: as for `read`.

        Raises:
            InputError: there is no such file, or it does not hold tensors by name.
            MixUnlearnError: the download failed.
        """
        shown = redact(source)
        if source == PUBLISHED:
            found = dict(torchvision.published(model, KEY))
        else:
            found = read_tensors(path or source, KEY, shown)
        names = plain_names(found)
        return cls(
            source=shown,
            tensors={name: as_array(found[key], shown, key, KEY) for name, key in names.items()},
            names=names,
            dtypes={name: found[key].dtype for name, key in names.items()},
        )

    @classmethod
    def of_arrays(cls, source: str, arrays: Mapping[str, npt.NDArray[Any]]) -> "OwnModel":
        """Return weights that this project has trained; keys are those of the network alone.

        Args:
            source: where they are from, in words.
            arrays: name in the model -> array.
        """
        return cls(
            source=source,
            tensors=arrays,
            names={name: name.removeprefix(NETWORK) for name in arrays},
            dtypes={name: torch.from_numpy(array.copy()).dtype for name, array in arrays.items()},
        )

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all names and values, in hex; it does not depend on the file."""
        if self.known is not None:
            return self.known
        hashed = hashlib.sha256()
        for name in sorted(self.names):
            array = self.tensors[name]
            hashed.update(f"{name.removeprefix(NETWORK)} {array.dtype} {array.shape}\n".encode())
            hashed.update(np.ascontiguousarray(array).data)
        return hashed.hexdigest()

    def fitted(self, architecture: Architecture) -> "OwnModel":
        """Return these weights by the names of the model.

        Raises:
            InputError: they are not exactly this model's: a key is missing or too much, a shape,
                a kind of number or the number of classes differs, or a value is not finite.
        """
        model = architecture.build(0)
        state = model.state_dict()
        prefix = _prefix(self.names, state)
        # In the model's order, which a newly written file then has as well.
        keys = {
            name: name.removeprefix(prefix)
            for name in state
            if name.startswith(prefix) and name.removeprefix(prefix) in self.names
        }
        self._require_same_names(state, keys)
        given = {name: torch.from_numpy(self.tensors[key]) for name, key in keys.items()}
        self._require_fit(given, state)
        whole = {**state, **given}
        model.load_state_dict(whole)
        try:
            require_finite(model)
        except DivergedError as error:
            raise self._refused(f"{error.args[0]}; use the weights of a sound model") from error
        return replace(
            self,
            tensors={name: tensor.numpy() for name, tensor in whole.items()},
            names={name: self.names[key] for name, key in keys.items()},
            dtypes={name: self.dtypes[key] for name, key in keys.items()},
        )

    def state_dict(
        self, model: nn.Module | Mapping[str, Tensor] | Mapping[str, npt.NDArray[Any]]
    ) -> dict[str, Tensor]:
        """Return the weights of such a model with the keys and number formats of the file.

        Args:
            model: the model, or its weights by name; they may be on a GPU.

        Returns:
            Tensors on the CPU that share no memory with one another, as a file needs them.
        """
        state = model.state_dict() if isinstance(model, nn.Module) else model
        found = {name: torch.as_tensor(state[name]) for name in self.names}
        return {
            self.names[name]: tensor.detach().to("cpu", self._dtype(name), copy=True).contiguous()
            for name, tensor in found.items()
        }

    def _dtype(self, name: str) -> torch.dtype:
        dtype = self.dtypes[name]
        # Quantised weights were read as the numbers they stand for.
        return dtype if dtype in PLAIN else torch.float32

    def _require_same_names(self, state: Iterable[str], keys: Mapping[str, str]) -> None:
        missing = [name for name in state if name not in keys and COUNTER not in name]
        if missing:
            plain = [name.removeprefix(NETWORK) for name in missing]
            raise self._refused(f"lacks {listed(plain)}; name the model it was trained as")
        extra = [self.names[name] for name in self.names if name not in {*keys.values()}]
        if extra and self.source != PUBLISHED:  # torchvision's may have additional heads
            remedy = f"{listed(extra)}, which the model does not have"
            raise self._refused(f"holds {remedy}; name the model it was trained as")

    def _require_fit(self, given: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        last = [*state][-1].rpartition(".")[0]
        for name, tensor in given.items():
            plain, here, there = name.removeprefix(NETWORK), state[name], tensor
            if here.shape != there.shape and name.rpartition(".")[0] == last:
                numbers = f"{plain} is {written_shape(there)}, for the classes of these data it is"
                remedy = f"{written_shape(here)}; use the data it was trained on"
                raise self._refused(f"{numbers} {remedy}")
            if here.shape != there.shape:
                numbers = f"{written_shape(there)}, in the model it is {written_shape(here)}"
                raise self._refused(f"{plain} is {numbers}; name the model it was trained as")
            if not same_kind(tensor.numpy(), here):
                kinds = f"{str(there.dtype)[6:]}, in the model it is {str(here.dtype)[6:]}"
                raise self._refused(f"{plain} is {kinds}; convert it first")

    def _refused(self, remedy: str) -> InputError:
        return InputError(KEY, self.source, remedy)


# Formats that a file can hold as they are.
PLAIN = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.complex128, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    torch.bool,
}


def _prefix(names: Iterable[str], state: Mapping[str, Tensor]) -> str:
    """Return what the model's names have before those of the file."""
    prefixes = ("", NETWORK, f"{NETWORK}module.", f"{NETWORK}_orig_mod.")
    shared = [sum(f"{prefix}{name}" in state for name in names) for prefix in prefixes]
    best = prefixes[shared.index(max(shared))]
    return best if any(shared) or not all(name.startswith(NETWORK) for name in state) else NETWORK
