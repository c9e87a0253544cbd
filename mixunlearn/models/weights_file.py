"""Reads weights from a file that another program wrote."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from mixunlearn.border import what
from mixunlearn.errors import InputError

# Under these names, checkpoints of training programs hold the weights beside other content.
INNER = ("state_dict", "model_state_dict", "model")
WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # DataParallel, averaged models; torch.compile
AVERAGED = "n_averaged"  # what an averaged model holds beside the module it wraps
HEADER = 8  # bytes before the JSON text with which a .safetensors file begins


def read_file(source: str) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a file by name; only tensors are unpickled.

    The content decides, not the suffix: a .safetensors file, or what `torch.save` wrote: a state
    dict, alone or in a checkpoint as its `state_dict`, `model_state_dict` or `model`. The prefixes
    that `DataParallel` and `torch.compile` add to all names are removed.

    Raises:
        InputError: there is no such file, or it does not hold tensors by name.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        wrong = "is not a regular file" if path.exists() else "no such file"
        raise InputError("model.weights", source, wrong)
    try:
        found = _unwrapped(_content(path))
    except Exception as error:  # the type depends on what is wrong with the file
        reason = what(error)
        raise InputError("model.weights", source, f"cannot be read ({reason})") from error
    named = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
    if not named or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        remedy = "does not hold tensors by name; save the model's state_dict()"
        raise InputError("model.weights", source, remedy)
    return _plain_names({name: as_array(tensor, source, name) for name, tensor in found.items()})


def as_array(tensor: Tensor, source: str, name: str) -> npt.NDArray[Any]:
    """Return the values of a tensor of any kind; floating-point values as float32.

    Args:
        tensor: it may be a parameter, sparse, quantised, conjugated or negated.
        source: where it is from, for the error.
        name: its name, for the error.

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
        raise InputError("model.weights", source, remedy) from error


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


def _plain_names(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return arrays without the prefixes of wrappers, if all names have one."""
    names = [name for name in arrays if name != AVERAGED]
    if not all(map(WRAPPERS.match, names)):
        return arrays
    return {WRAPPERS.sub("", name): arrays[name] for name in names}


def same_kind(first: npt.NDArray[Any], second: Tensor) -> bool:
    """Return whether an array and a tensor both hold real, complex or whole numbers."""
    kinds = np.issubdtype(first.dtype, np.floating), np.iscomplexobj(first)
    return kinds == (second.is_floating_point(), second.is_complex())
