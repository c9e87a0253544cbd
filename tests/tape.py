"""Captures a step on the CPU, with the limits of a CUDA graph: only operations are kept.

Whatever Python computed while capturing, such as a number that was drawn, stays as it was then.
Operations that would make a GPU wait, or whose results differ in shape from step to step, cannot be
captured.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal"}


class Waits(RuntimeError):
    """An operation that cannot be captured."""


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Captures all operations within a block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, list[int]]] = []
        self.kept: list[Tensor] = []  # so that no other tensor gets the identity of one of them

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for index in (args[1] if isinstance(args[1], list | tuple) else ())
        )
        if name in WAITING or masks:
            raise Waits(f"{name} makes a GPU wait")
        result = func(*args, **(kwargs or {}))
        produced = tensors(result)
        self.calls.append((func, args, kwargs or {}, [id(value) for value in produced]))
        self.kept += produced
        return result

    def replay(self) -> Callable[[Tensor], Tensor]:
        """Run all operations again; return what finds a captured tensor's new value."""
        found: dict[int, Tensor] = {}

        def now(value: Any) -> Any:
            return found.get(id(value), value) if isinstance(value, Tensor) else value

        with torch.no_grad():
            for func, args, kwargs, places in self.calls:
                result = func(*tree_map(now, args), **tree_map(now, kwargs))
                found.update(zip(places, tensors(result), strict=True))
        return now


def tensors(result: Any) -> list[Tensor]:
    """Return the tensors of a result, in order."""
    found: list[Tensor] = []
    tree_map(lambda value: found.append(value) if isinstance(value, Tensor) else None, result)
    return found


class Tapes:
    """Captures steps on the CPU; takes the place of `mixunlearn.acceleration.CudaGraphs`."""

    replays = 0

    def warm_up(self, step: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Take a step."""
        return step()

    def capture(self, step: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """Return a replay; unlike a CUDA graph, it has computed the step already."""
        with Tape() as tape:
            captured = step()
        result = torch.empty_like(captured)

        def replay() -> None:
            Tapes.replays += 1
            result.copy_(tape.replay()(captured))

        return replay, result
