"""Which kernels the method "convolution transpose" changes."""

from dataclasses import replace

import torch
from torch import nn

from mixunlearn.methods.ct import ConvolutionTranspose
from mixunlearn.models.chain import Chain
from mixunlearn.problem import Problem


def test_square_kernels_are_transposed_and_nothing_else(problem: Problem) -> None:
    convolutions = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, (1, 3)), nn.Conv2d(3, 4, 1))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    original = Chain({"only": convolutions}, head, "only").requires_grad_(False)
    context = replace(problem.context(torch.device("cpu"), 0), original=original)
    model = ConvolutionTranspose().start(context)
    for name, weight in original.named_parameters():
        turned = name == "stages.only.0.weight"
        expected = weight.transpose(2, 3) if turned else weight
        assert torch.equal(model.get_parameter(name), expected)
        assert model.get_parameter(name).requires_grad
