"""Images that stay in the data set's file; batches are read ahead by a thread.

The file is mapped into memory, so all processes of a machine share its pages, and the system drops
pages when it needs memory. Nobody else knows whether images are resident or streamed:
`mixunlearn.data.batches.Samples.batch` gives the same numbers, to the bit.

Shape suffixes: N samples, B batch, C channels, H W pixels.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from mixunlearn.data.paging import announce
from mixunlearn.host_values import actual, from_host

Rows: TypeAlias = npt.NDArray[np.int64]
Pixels: TypeAlias = npt.NDArray[np.uint8]

AHEAD = 2  # batches that are read before they are asked for
CHUNK_BYTES = 64 * 2**20  # of pixels, when all images are loaded


class Order:
    """The index batches of an epoch, known ahead, and what was read of them already.

    Args:
        batches: indices of samples, on the host.
    """

    def __init__(self, batches: Sequence[Rows]) -> None:
        self.batches = batches
        self.begun: dict[Streamed, dict[int, Future[Tensor]]] = {}

    def read(self, images: "Streamed", place: int) -> Tensor:
        """Return the pixels of a batch; the next batches are read meanwhile.

        Args:
            images: what to read.
            place: of the batch among all.
        """
        begun = self.begun.get(images, {})
        wanted = range(place, min(place + 1 + AHEAD, len(self.batches)))
        # What was read for earlier batches is dropped here.
        self.begun[images] = {
            number: begun.get(number) or _reader(os.getpid()).submit(images.read, batch)
            for number, batch in zip(wanted, self.batches[place : wanted.stop], strict=True)
        }
        return self.begun[images][place].result()


# Index batches on a device -> their order and their place in it. So the rows are known on the host
# without asking the device, which would have to finish its work first.
_orders: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def upload(batches: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return index batches on a device; images that are streamed are then read ahead.

    Args:
        batches: the indices of an epoch's steps in their order, int64, on the host.
        device: of the result.
    """
    # One transfer for all: each costs as much as a small step.
    sizes = [len(batch) for batch in batches]
    found = list(batches)
    if device.type != "cpu" and found:
        found = list(torch.split(torch.cat(found).to(device), sizes))
    order = Order([batch.numpy() for batch in batches])
    for place, batch in enumerate(found):
        _orders[batch] = (order, place)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Streamed:
    """Images that are read batch by batch; stands for a tensor of all of them.

    Args:
        arrays: (N, C, H, W) each, uint8; in most cases mapped from a file.
        rows_N: which of their images, as rows of all arrays in a row.
        device: where batches are needed.
    """

    arrays: Sequence[Pixels]
    rows_N: Rows
    device: torch.device
    dtype: torch.dtype = field(default=torch.uint8, init=False)

    @classmethod
    def of(cls, images_NCHW: Pixels, device: torch.device) -> "Streamed":
        """Return all images of an array."""
        return cls(arrays=(images_NCHW,), rows_N=np.arange(len(images_NCHW)), device=device)

    @property
    def shape(self) -> torch.Size:
        """Return (N, C, H, W)."""
        return torch.Size((len(self.rows_N), *self.arrays[0].shape[1:]))

    def __len__(self) -> int:
        """Return N."""
        return len(self.rows_N)

    def __getitem__(self, rows: Tensor | slice) -> "Streamed":
        """Return some of the images, which are not read yet."""
        chosen = rows if isinstance(rows, slice) else rows.cpu().numpy()
        return replace(self, rows_N=self.rows_N[chosen])

    def to(self, device: torch.device) -> "Streamed":
        """Return the same images, to be read for another device."""
        return replace(self, device=device)

    def batch(self, indices_B: Tensor) -> Tensor:
        """Return images as they are stored, uint8, on the device."""
        # A captured step reads the images of each replay's own indices.
        return from_host(lambda: self._pixels(actual(indices_B)), self.device)

    def _pixels(self, indices_B: Tensor) -> Tensor:
        """Return images as they are stored, on the host; read ahead if the order is known."""
        known: tuple[Order, int] | None = _orders.get(indices_B)  # type: ignore[no-untyped-call]
        if known is None:
            return self.read(indices_B.cpu().numpy())
        order, place = known
        return order.read(self, place)

    def read(self, indices_B: Rows) -> Tensor:
        """Return images as they are stored, on the host; pinned if they go on to a GPU."""
        rows_B = self.rows_N[indices_B]
        pinned = self.device.type == "cuda"
        shape = (len(rows_B), *self.shape[1:])
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        start = 0
        for array in self.arrays:
            _take(array, rows_B - start, pixels.numpy())
            start += len(array)
        return pixels

    def whole(self) -> Tensor:
        """Return all images on the device; on the host, no more than a chunk is held besides."""
        found = torch.empty(self.shape, dtype=torch.uint8, device=self.device)
        count = max(1, CHUNK_BYTES // max(1, found[:1].numel()))
        for start in range(0, len(self), count):
            rows = np.arange(start, min(start + count, len(self)))
            found[start : start + count].copy_(self.read(rows), non_blocking=True)
        return found


Images: TypeAlias = Tensor | Streamed


def joined(parts: Sequence[Images]) -> Images:
    """Return the images of several parts in a row; they are streamed if one of the parts is."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) == len(parts):
        return torch.cat(tensors)
    device = parts[0].device
    streams = [
        part if isinstance(part, Streamed) else Streamed.of(part.cpu().numpy(), device)
        for part in parts
    ]
    sources = [[id(array) for array in each.arrays] for each in streams]
    if all(source == sources[0] for source in sources):
        return replace(streams[0], rows_N=np.concatenate([each.rows_N for each in streams]))
    starts = np.cumsum([0] + [sum(map(len, each.arrays)) for each in streams])[:-1]
    return Streamed(
        arrays=[array for each in streams for array in each.arrays],
        rows_N=np.concatenate(
            [each.rows_N + start for each, start in zip(streams, starts, strict=True)]
        ),
        device=device,
    )


def gathered(images_NCHW: Images, indices_B: Tensor) -> Tensor:
    """Return some of the images as they are stored, on their device."""
    if isinstance(images_NCHW, Streamed):
        return images_NCHW.batch(indices_B)
    return images_NCHW[indices_B]


def _take(array: Pixels, rows_B: Rows, target: Pixels) -> None:
    """Copy those rows that an array has into their places in `target`."""
    inside_B = (rows_B >= 0) & (rows_B < len(array))
    if inside_B.all():
        announce(array, rows_B)
        # "clip", because "raise" would copy all of it once more.
        np.take(array, rows_B, axis=0, out=target, mode="clip")
    elif inside_B.any():
        target[inside_B] = array[rows_B[inside_B]]


@cache
def _reader(_process: int) -> ThreadPoolExecutor:
    # One thread: a trial has few cores. One in each process: a fork does not inherit threads.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
