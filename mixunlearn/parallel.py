"""Several processes that take the same steps together: each computes a part of every batch.

All processes run the same program and draw the same random numbers, so that each has the whole
batch. Only calls of models are divided: a process computes some rows of the batch, and the outputs
are put together again. So each process has the outputs of the whole batch, and computes the same
loss of them, whatever this loss does with a batch: a contrast of all pairs, or a ratio, as well as
a mean. On the way back, gradients are summed over all processes where a model's weights are used.
So each has the gradient of the whole batch, and takes the same step as a single process would, up
to rounding. This holds for gradients of gradients, too.

`torch.nn.parallel.DistributedDataParallel` averages the gradients of a loss that each process
computes of its own rows. That is the gradient of the batch only for losses that are means over
images; and it allows neither gradients of gradients nor weights that are frozen between steps.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mixunlearn.passes import Passes, again, counted

PATIENCE = timedelta(hours=1)  # longer than any process prepares; dead ones are noticed at once
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
HALF = {torch.bfloat16, torch.float16}

Compute = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True, kw_only=True)
class Team:
    """The processes that compute together, as one of them sees them.

    Args:
        rank: of this process, from 0; the others follow the state of process 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def rows(self, count: int) -> slice:
        """Return the rows of a batch of `count` that this process computes."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)


ALONE = Team()
_joined = ALONE
_jointly = False  # whether all processes of the team do the same now
_divides = False  # whether models divide their batches now


def join(team: Team, meeting: Path, device: torch.device) -> None:
    """Let this process be one of a team; returns when all have joined.

    Args:
        team: as this process sees it.
        meeting: a file that does not exist yet, on a disk of this machine; all join with the same.
        device: where this process computes.
    """
    global _joined  # noqa: PLW0603 (a process is in one team, as it is in one group of PyTorch's)
    # All processes are on one machine: nothing outside of it can connect to them.
    for name in INTERFACES:
        os.environ.setdefault(name, "lo")
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{meeting}",
        rank=team.rank,
        world_size=team.size,
        timeout=PATIENCE,
    )
    _joined = team


def leave() -> None:
    """Let this process be in no team any more."""
    global _joined  # noqa: PLW0603
    if _joined.size > 1:
        _joined = ALONE
        distributed.destroy_process_group()


def joined() -> Team:
    """Return the team of this process."""
    return _joined


@contextmanager
def jointly() -> Iterator[None]:
    """Compute together with the other processes within a block, which all of them run.

    Outside of such blocks a process of a team computes like any other: models are prepared by each
    process by itself, and evaluated by one of them.
    """
    global _jointly  # noqa: PLW0603
    _jointly = True
    try:
        yield
    finally:
        _jointly = False


def team() -> Team:
    """Return those who compute together now."""
    return _joined if _jointly else ALONE


@contextmanager
def dividing(*, really: bool = True) -> Iterator[None]:
    """Let models divide their batches within a block, or not at all, if there are several to."""
    global _divides  # noqa: PLW0603 (the functions between here and a model need not know of it)
    before, _divides = _divides, really and team().size > 1
    try:
        yield
    finally:
        _divides = before


def divides() -> bool:
    """Return whether models divide their batches now."""
    return _divides


@torch.no_grad()
def agree(parts: Iterable[object]) -> None:
    """Give the models among some parts the weights and buffers that they have in process 0.

    They are the same already, unless a GPU has rounded in another order.
    """
    if team().size == 1:
        return
    for part in parts:
        for value in (*part.parameters(), *part.buffers()) if isinstance(part, nn.Module) else ():
            # NCCL wants values that lie next to one another in the order of their indices.
            sent = value.contiguous()
            distributed.broadcast(sent, src=0)
            if sent is not value:
                value.copy_(sent)


def divided(module: nn.Module, compute: Compute, images: Tensor) -> Sequence[Tensor]:
    """Return what a function computes of a batch; within `dividing`, by all processes together.

    Args:
        module: has all weights that the function uses.
        compute: returns tensors whose first axis is that of its images, one row for each image.
            The rows may depend on one another only through batch norms.
        images: the whole batch, first axis B.
    """
    # With fewer images than processes, some would have none; then each computes all of them.
    if not _divides or len(images) < team().size:
        return compute(images)
    rows, whole = team().rows(len(images)), len(images)
    if torch.is_grad_enabled() and images.requires_grad:
        (images,) = _used(images)
    part, passes = images[rows], Passes()
    with dividing(really=False), counted(passes), _JointNorms(whole, len(part)):
        found = _with_used_weights(module, compute, part)
    again(passes.scaled(whole, len(part)))
    padding = rows.start, whole - rows.stop
    padded = [F.pad(value, (0, 0) * (value.dim() - 1) + padding) for value in found]
    return _summed(*padded)


def _with_used_weights(module: nn.Module, compute: Compute, part: Tensor) -> Sequence[Tensor]:
    """Return what a function computes with weights whose gradients are summed on their way back."""
    named = {name: each for name, each in module.named_parameters() if each.requires_grad}
    if not torch.is_grad_enabled() or not named:
        return compute(part)
    used = _used(*named.values())
    weights = {f"module.{name}": each for name, each in zip(named, used, strict=True)}
    found: Sequence[Tensor] = torch.func.functional_call(_Call(module, compute), weights, (part,))
    return found


class _Call(nn.Module):
    """A function as a module, whose weights PyTorch can replace for one call."""

    def __init__(self, module: nn.Module, compute: Compute) -> None:
        super().__init__()
        self.module, self.compute = module, compute

    def forward(self, part: Tensor) -> Sequence[Tensor]:
        return self.compute(part)


class _Used(torch.autograd.Function):
    """Values that all processes have alike, and that each uses for its own rows.

    Their gradient is the sum of the gradients of all processes.
    """

    @staticmethod
    def forward(ctx: Any, *values: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        # Not 0 where there is no gradient: Adam skips weights without one.
        ctx.set_materialize_grads(False)
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        known = [slope for slope in slopes if slope is not None]
        summed = iter(_summed(*known) if known else ())
        return tuple(None if slope is None else next(summed) for slope in slopes)


class _Summed(torch.autograd.Function):
    """The sums of the values of all processes, which all processes then have alike."""

    @staticmethod
    def forward(ctx: Any, *values: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        return _sums(values)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        return _used(*slopes)


def _used(*values: Tensor) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = _Used.apply(*values)
    return found


def _summed(*values: Tensor) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = _Summed.apply(*values)
    return found


def _sums(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the sums of values over all processes, by one message for each type of number."""
    sums = [torch.empty_like(value) for value in values]
    for dtype in dict.fromkeys(value.dtype for value in values):
        places = [place for place, value in enumerate(values) if value.dtype == dtype]
        flat = torch.cat([values[place].reshape(-1) for place in places])
        # A sum of many numbers would lose digits in half precision.
        flat = flat.float() if dtype in HALF else flat
        distributed.all_reduce(flat)
        pieces = torch.split(flat, [values[place].numel() for place in places])
        for place, piece in zip(places, pieces, strict=True):
            sums[place].copy_(piece.view(values[place].shape))
    return tuple(sums)


class _JointNorms(TorchFunctionMode):
    """Lets batch norms normalise by the statistics of the whole batch, whatever model has them.

    `torch.nn.SyncBatchNorm` does so on GPUs only, and replaces modules.

    Args:
        whole: images of the batch.
        part: images of this process.
    """

    def __init__(self, whole: int, part: int) -> None:
        super().__init__()
        self.whole, self.part = whole, part

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        return (self.norm if func is F.batch_norm else func)(*args, **(kwargs or {}))

    def norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Return what `torch.nn.functional.batch_norm` returns for the rows of this process."""
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = x.numel() // x.shape[1] * self.whole // self.part
        x_wide = x.float() if x.dtype in HALF else x
        mean = self._sum(x_wide, axes) / count
        centred = x_wide - mean
        var = self._sum(centred.square(), axes) / count
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.detach().flatten().to(running_mean), momentum)
            unbiased = var.detach().flatten() * (count / max(count - 1, 1))
            running_var.lerp_(unbiased.to(running_var), momentum)
        shape = mean.shape
        y = centred * torch.rsqrt(var + eps)
        y = y if weight is None else y * weight.view(shape)
        return (y if bias is None else y + bias.view(shape)).to(x.dtype)

    @staticmethod
    def _sum(x: Tensor, axes: list[int]) -> Tensor:
        """Return the sums over the whole batch, one for each channel, as each process uses them."""
        (summed,) = _summed(x.sum(axes, keepdim=True))
        return _used(summed)[0]
