"""The order of images in memory, also where PyTorch cannot tell it.

A tensor of one channel is contiguous in either order, so that `contiguous` leaves its strides as
they are. But PyTorch chooses kernels, and the order of what they return, by strides.

Shape suffixes: B batch, C channels, H W pixels.
"""

import torch
from torch import Tensor


def channels_last(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) with strides of channels last."""
    if images.shape[1] > 1:
        return images.contiguous(memory_format=torch.channels_last)
    return images[:, 0].contiguous()[..., None].permute(0, 3, 1, 2)


def channels_first(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) with strides of channels first, as `view` needs them."""
    if images.shape[1] > 1:
        return images.contiguous()
    return images[:, 0].contiguous()[:, None]
