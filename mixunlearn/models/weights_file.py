"""Reads weights from a file that another program wrote."""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from mixunlearn.border import what
from mixunlearn.data.names import typed_path
from mixunlearn.errors import InputError

# Under these names, checkpoints of training programs hold the weights beside other content.
INNER = ("state_dict", "model_state_dict", "model")
WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # DataParallel, averaged models; torch.compile
AVERAGED = "n_averaged"  # what an averaged model holds beside the module it wraps
WEIGHTS = "model.weights"
SHOWN = 3  # names in an error message
HEADER = 8  # bytes before the JSON text with which a .safetensors file begins


def read_file(source: str) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a file as arrays, by their names without wrappers' prefixes.

    See `read_tensors` for what is read, and for the errors.
    """
    found = read_tensors(source)
    return {name: as_array(found[key], source, key) for name, key in plain_names(found).items()}


def read_tensors(source: str, key: str = WEIGHTS, shown: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a file by its own keys; only tensors are unpickled.

    The content decides, not the suffix: a .safetensors file, or what `torch.save` wrote: a state
    dict, alone or in a checkpoint as its `state_dict`, `model_state_dict` or `model`.

    Args:
        source: path of the file.
        key: the setting that names it, for the error.
        shown: what the user wrote for it, for the error; `None`: the path.

    Raises:
        InputError: there is no such file, or it does not hold tensors by name.
    """
    path, shown = typed_path(key, source), shown or source
    if not path.is_file():
        wrong = "is not a regular file" if path.exists() else "no such file"
        raise InputError(key, shown, wrong)
    try:
        found = _unwrapped(_content(path))
    except pickle.UnpicklingError as error:
        # PyTorch's own message recommends to run the code in the file.
        wrong = "holds Python objects, which could run any code, or no weights"
        raise InputError(key, shown, f"{wrong}; save the model's state_dict()") from error
    except LookupError as error:  # its text would be a number or a word of the unpickler
        wrong = "is neither a file of torch.save nor one of safetensors"
        raise InputError(key, shown, f"{wrong}; save the model's state_dict()") from error
    except Exception as error:  # the type depends on what is wrong with the file
        if "TorchScript" in str(error):
            wrong = "is a TorchScript archive, a whole model"
            raise InputError(key, shown, f"{wrong}; save its state_dict()") from error
        raise InputError(key, shown, f"cannot be read ({what(error)})") from error
    named = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
    if not named or not found or not all(isinstance(each, Tensor) for each in found.values()):
        remedy = "does not hold tensors by name; save the model's state_dict()"
        raise InputError(key, shown, remedy)
    return dict(found)


def plain_names(keys: Iterable[str]) -> dict[str, str]:
    """Return key -> key of the file, without the prefixes of wrappers if all keys have one.

    `DataParallel`, `torch.compile` and averaged models add such prefixes.
    """
    keys = list(keys)
    names = [key for key in keys if key != AVERAGED]
    if not all(map(WRAPPERS.match, names)):
        return {key: key for key in keys}
    return {WRAPPERS.sub("", key): key for key in names}


def as_array(tensor: Tensor, source: str, name: str, key: str = WEIGHTS) -> npt.NDArray[Any]:
    """Return the values of a tensor of any kind; floating-point values as float32.

    Args:
        tensor: it may be a parameter, sparse, quantised, conjugated or negated.
        source: where it is from, for the error.
        name: its name, for the error.
        key: the setting that names the source, for the error.

    Raises:
        InputError: it has no values, as a tensor on the meta device.
    """
    try:
        values = tensor.detach().cpu()
        values = values.dequantize() if values.is_quantized else values
        values = values.to_dense() if values.layout is not torch.strided else values
        values = values.resolve_conj().resolve_neg()
        # NumPy has no bfloat16, and a digest must not depend on the precision of the file.
        return (values.float() if values.is_floating_point() else values).numpy()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        kind = "on the meta device" if tensor.is_meta else what(error)
        remedy = f"{name} has no values ({kind}); save the model's state_dict()"
        raise InputError(key, source, remedy) from error


def _content(path: Path) -> Any:  # noqa: ANN401 (any content)
    with path.open("rb") as file:
        start = file.read(HEADER + 1)
    if not start:
        raise ValueError("the file is empty")
    if start[HEADER:] == b"{":
        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about TorchScript, in several lines; an error follows
        return torch.load(path, map_location="cpu", weights_only=True)


def _unwrapped(found: Any) -> Any:  # noqa: ANN401 (any content)
    """Return the state dict inside of a checkpoint; anything else as it is."""
    inner = [found[name] for name in INNER if isinstance(found, Mapping) and name in found]
    return next((each for each in inner if isinstance(each, Mapping)), found)


def same_kind(first: npt.NDArray[Any], second: Tensor) -> bool:
    """Return whether an array and a tensor both hold real, complex or whole numbers."""
    kinds = np.issubdtype(first.dtype, np.floating), np.iscomplexobj(first)
    return kinds == (second.is_floating_point(), second.is_complex())


def written_shape(tensor: Tensor) -> str:
    """Return a shape in words, for a message."""
    return "×".join(map(str, tensor.shape)) or "a number"


def listed(names: Sequence[str]) -> str:
    """Return names for a message, at most three of them."""
    more = f" and {len(names) - SHOWN} more" if names[SHOWN:] else ""
    return f"{', '.join(names[:SHOWN])}{more}"
