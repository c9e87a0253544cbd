"""Whole steps as one launch: on CUDA, a step that comes up often is captured and then replayed.

A step of a small model is hundreds of operations, and starting one takes a GPU longer than
computing it. A CUDA graph starts all of them at once. The same code runs everywhere; elsewhere, and
wherever capturing fails, steps are taken one operation at a time.

A kind of step is what its operations depend on beside tensors: the function, the shapes, the modes
of the models, and what a method says by `kind`. The first steps of a kind are taken as usual. Then
it is captured. The next steps are computed both ways, from the same state; unless they agree,
nothing is replayed any more, and the results are those of the usual way.
"""

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mixunlearn.host_values import HostValues, capturing
from mixunlearn.parallel import dividing, joined
from mixunlearn.passes import Passes, again, counted

WARM_UP = 3  # steps of a kind before it is captured
CHECKED = 2  # replays of a kind that are compared; what is drawn differs from the second one on
MOST = 32  # kinds of steps that are captured; each needs memory on the device
LOSS_TOLERANCE = 1e-2  # relative, and absolute for losses below 1
# Of how far the weights move in a step, as a share of its length. Not less: Adam turns a gradient
# that is nothing but rounding errors into a step of full length.
MOVE_TOLERANCE = 0.1
TINY = 1e-6  # of the weights' own length, which float32 cannot resolve

Step = Callable[..., Mapping[str, Tensor]]
Replay = Callable[[], object]


class Capturer(Protocol):
    """What can capture a step."""

    def warm_up(self, step: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Take a step in the usual way; return what it returns."""

    def capture(self, step: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        """Return what takes the step again, and the tensor that then has its result."""


class CudaGraphs:
    """Captures steps as CUDA graphs, which share their memory."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, step: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Take a step on the stream on which it will be captured, as CUDA demands."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = step()
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def capture(self, step: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        """Return a graph's replay; nothing is computed yet."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device, for example those that load data.
        mode = "thread_local"
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode=mode):
            result = step()
        return graph.replay, result


CAPTURERS: dict[str, Callable[[], Capturer]] = {"cuda": CudaGraphs}


@dataclass
class Captured:
    """A kind of step.

    Args:
        seen: number of its steps that were taken.
        inputs: where its arguments are in each replay.
        values: where what the CPU makes is.
        replay: takes the step; `None` before it is captured.
        names: of its scalars.
        result: has the scalars after a replay, in this order.
        checks: number of replays still to be compared.
        passes: images that pass through models in a step.
    """

    seen: int = 0
    inputs: tuple[Tensor, ...] = ()
    values: HostValues = field(default_factory=HostValues)
    replay: Replay | None = None
    names: tuple[str, ...] = ()
    result: Tensor | None = None
    checks: int = CHECKED
    passes: Passes = field(default_factory=Passes)


class Steps:
    """Takes the steps of one method or one training, captured where that is possible.

    Args:
        name: of the method or training, for messages.
        parts: returns all models and optimizers that a step may change, by name.
        rng: the generator from which steps draw.
        device: where steps are computed.
        wanted: whether steps may be captured.
    """

    def __init__(
        self,
        name: str,
        parts: Callable[[], Mapping[str, Any]],
        rng: np.random.Generator,
        device: torch.device,
        *,
        wanted: bool = True,
    ) -> None:
        self.name, self.parts, self.rng = name, parts, rng
        # What several processes send to one another is not captured.
        make = CAPTURERS.get(device.type) if wanted and joined().size == 1 else None
        self.capturer = None if make is None else make()
        self.kinds: dict[Hashable, Captured] = {}
        self.known: tuple[object, ...] = ()
        self.modules: list[nn.Module] = []
        self.weights: list[nn.Parameter] = []

    def take(self, step: Step, *inputs: Tensor, kind: Hashable = ()) -> Mapping[str, Tensor]:
        """Take a step; return its scalars, detached.

        Args:
            step: a function of the inputs that changes nothing but `parts`.
            inputs: tensors on the device.
            kind: what else its operations depend on.
        """
        if self.capturer is None:
            with dividing():
                return step(*inputs)
        shapes = tuple((value.shape, value.dtype) for value in inputs)
        found = self._find((getattr(step, "__name__", ""), kind, shapes, *self._modes()))
        if found.replay is None and (found.seen < WARM_UP or self.captured_kinds >= MOST):
            found.seen += 1
            return self.capturer.warm_up(lambda: step(*inputs))
        if not found.checks:
            again(found.passes)
            return self._replayed(found, inputs)
        return self._checked(self.capturer, found, step, inputs)

    def forget(self) -> None:
        """Capture all kinds again: the tensors of the parts are others now."""
        self.known = ()

    @property
    def captured_kinds(self) -> int:
        """Return how many kinds of steps are replayed."""
        return sum(found.replay is not None for found in self.kinds.values())

    def _modes(self) -> tuple[Hashable, ...]:
        """Return the modes of all models; forget what was captured with other parts."""
        parts = tuple(self.parts().values())
        # The parts are kept, so that no later one can be taken for one of them.
        if len(parts) != len(self.known) or any(
            one is not other for one, other in zip(parts, self.known, strict=True)
        ):
            models = [part for part in parts if isinstance(part, nn.Module)]
            self.kinds, self.known = {}, parts
            self.modules = list({id(m): m for each in models for m in each.modules()}.values())
            self.weights = list({id(w): w for each in models for w in each.parameters()}.values())
        training = tuple(module.training for module in self.modules)
        return training, tuple(weight.requires_grad for weight in self.weights)

    def _find(self, key: Hashable) -> Captured:
        return self.kinds.setdefault(key, Captured())

    def _capture(
        self, capturer: Capturer, found: Captured, step: Step, inputs: Sequence[Tensor]
    ) -> None:
        """Capture a step; afterwards all is in place for its first replay."""
        found.inputs = tuple(value.clone() for value in inputs)
        found.values.inputs = list(zip(found.inputs, inputs, strict=True))

        def whole() -> Tensor:
            scalars = step(*found.inputs)
            found.names = tuple(scalars)
            return torch.stack([scalar.float() for scalar in scalars.values()])

        with capturing(found.values), counted(found.passes):
            found.replay, found.result = capturer.capture(whole)
        found.values.fill_first()

    def _replayed(self, found: Captured, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        found.values.inputs = list(zip(found.inputs, inputs, strict=True))
        for place, value in found.values.inputs:
            place.copy_(value)
        found.values.fill()
        return self._replay(found)

    def _replay(self, found: Captured) -> dict[str, Tensor]:
        assert found.replay is not None
        assert found.result is not None
        found.replay()
        # A copy, because the next replay writes into the result.
        return dict(zip(found.names, found.result.clone().unbind(), strict=True))

    def _checked(
        self, capturer: Capturer, found: Captured, step: Step, inputs: Sequence[Tensor]
    ) -> Mapping[str, Tensor]:
        """Take a step in the usual way and by a replay, which is captured first if need be."""
        before = Snapshot(self._state(), self.rng)
        expected = capturer.warm_up(lambda: step(*inputs))
        after = Snapshot(before.tensors, self.rng)
        before.restore()
        scalars: Mapping[str, Tensor] = {}
        try:
            if found.replay is None:
                self._capture(capturer, found, step, inputs)
                before.restore(draws=False)
                scalars = self._replay(found)
            else:
                scalars = self._replayed(found, inputs)
            why = differs(expected, scalars) or after.differs(before, self.rng)
        except Exception as error:  # whatever it is, the usual way works
            why = in_words(error)
        if why:
            after.restore()
            self.capturer, self.kinds = None, {}
            words = f"{self.name}: steps are taken one operation at a time, which is slower ({why})"
            warnings.warn(words, stacklevel=2)
            return expected
        found.checks -= 1
        return scalars

    def _state(self) -> list[Tensor]:
        """Return all tensors that a step may change."""
        buffers = (value for module in self.modules for value in module.buffers(recurse=False))
        moments = (
            value
            for part in self.known
            if isinstance(part, torch.optim.Optimizer)
            for state in part.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        return [value.detach() for value in (*self.weights, *buffers, *moments)]


class Snapshot:
    """A copy of the tensors that a step changes, and of the generators that it draws from."""

    def __init__(self, tensors: Sequence[Tensor], rng: np.random.Generator) -> None:
        self.tensors, self.rng = list(tensors), rng
        self.copies = [value.clone() for value in self.tensors]
        self.draws = rng.bit_generator.state
        self.cpu = torch.get_rng_state()
        self.gpu = torch.cuda.get_rng_state() if _on_gpu(self.tensors) else None

    def restore(self, *, draws: bool = True) -> None:
        """Let the tensors, and the generators unless told otherwise, be as they were."""
        for value, copy in zip(self.tensors, self.copies, strict=True):
            value.copy_(copy)
        if draws:
            self.rng.bit_generator.state = self.draws
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu)

    def differs(self, before: "Snapshot", rng: np.random.Generator) -> str:
        """Return how the present state differs from this one, "" if it does not.

        Args:
            before: the state before the step.
            rng: the generator in its present state.
        """
        if rng.bit_generator.state != self.draws:
            return "a replayed step draws other random numbers"
        if not self.tensors:
            return ""
        real = [place for place, value in enumerate(self.tensors) if value.is_floating_point()]
        off = _length(self.tensors[n] - self.copies[n] for n in real)
        moved = _length(self.copies[n] - before.copies[n] for n in real)
        whole = _length(before.copies[n] for n in real)
        if bool(off <= MOVE_TOLERANCE * moved + TINY * whole):
            return ""
        return f"replayed, a step of length {moved:.3g} ends {off:.3g} away"


def in_words(error: BaseException) -> str:
    """Return in one line what made a capture fail."""
    # The last error only says that the capture ended; the first one says why.
    while error.__context__ is not None:
        error = error.__context__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.partition('. ')[0]}"


def differs(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return which scalar of a step is another one, "" if none is; both may be not finite."""
    if expected.keys() != found.keys():
        return "a replayed step has other losses"
    for name, value in expected.items():
        one, other = value.float().item(), found[name].item()
        close = np.isclose(other, one, LOSS_TOLERANCE, LOSS_TOLERANCE, equal_nan=True)
        if not close:
            return f"replayed, {name} is {other:.6g} instead of {one:.6g}"
    return ""


def _length(parts: Iterator[Tensor]) -> Tensor:
    """Return the Euclidean length of a vector that comes in parts, a scalar tensor."""
    squares = [part.double().square().sum() for part in parts]
    return torch.stack(squares).sum().sqrt()


def _on_gpu(tensors: Sequence[Tensor]) -> bool:
    return any(value.is_cuda for value in tensors)
