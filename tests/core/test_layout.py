"""The order of images in memory: the same numbers, the strides that PyTorch goes by."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.data.batches import Samples
from mixunlearn.layout import channels_first, channels_last
from mixunlearn.models.build import as_staged


class ByView(nn.Module):
    """As many networks do, it calls `view` on what a convolution returns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.head = nn.Linear(4 * 4 * 6, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.conv(images))
        logits: Tensor = self.head(maps.view(len(maps), -1))
        return logits


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", [channels_first, channels_last])
def test_strides_are_told_by_the_layout(channels: int, given: Callable[[Tensor], Tensor]) -> None:
    images = given(torch.rand(2, channels, 4, 6))
    last, first = channels_last(images), channels_first(images)
    assert last.stride() == (24 * channels, 1, 6 * channels, channels)
    assert first.stride() == (24 * channels, 24, 6, 1)
    assert torch.equal(last, images)
    assert torch.equal(first, images)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_calls_view_gets_batches_it_can_view(channels: int) -> None:
    torch.manual_seed(0)
    network = ByView(channels)
    model, outputs = as_staged(network, (channels, 4, 6))
    assert outputs == 10
    images = torch.rand(5, channels, 4, 6)
    batch = Samples(images_NCHW=images).batch(torch.tensor([3, 1]))
    expected = network(images[[3, 1]].contiguous())
    torch.testing.assert_close(model.eval()(batch), expected)
