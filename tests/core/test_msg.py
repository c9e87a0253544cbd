"""Which weights "masked small gradients" resets, and how fast the others learn."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mixunlearn.data.batches import Samples
from mixunlearn.methods.msg import MaskedSmallGradients, smallest
from mixunlearn.problem import Problem
from mixunlearn.signature import seed_for

CONVOLUTIONS = ("stages.pool1.0.weight", "stages.pool2.0.weight")


def gradients(model: nn.Module, samples: Samples) -> dict[str, torch.Tensor]:
    order = torch.arange(len(samples))
    loss = F.cross_entropy(model.requires_grad_(True)(samples.batch(order)), samples.labels(order))
    weights = [model.get_parameter(name) for name in CONVOLUTIONS]
    return dict(zip(CONVOLUTIONS, torch.autograd.grad(loss, weights), strict=True))


def test_a_share_of_each_convolution_is_drawn_anew(problem: Problem) -> None:
    method = MaskedSmallGradients(share=0.25)
    context = problem.context(torch.device("cpu"), 4)
    method.prepare(context)
    untrained = problem.architecture.build(seed_for("new weights", 4))
    retain, forget = (
        gradients(context.original, samples) for samples in (context.retain, context.forget)
    )
    changed = {
        name: method.model.get_parameter(name) != weight
        for name, weight in context.original.named_parameters()
    }
    assert {name for name in changed if changed[name].any()} == set(CONVOLUTIONS)
    for name in CONVOLUTIONS:
        again, difference = changed[name], (retain[name] - forget[name]).abs()
        assert again.sum() == round(0.25 * again.numel())
        assert difference[again].max() <= difference[~again].min() + 1e-6
        drawn, fresh = method.model.get_parameter(name), untrained.get_parameter(name)
        torch.testing.assert_close(drawn[again], fresh[again], rtol=0, atol=0)


def test_the_other_weights_of_a_convolution_learn_at_a_tenth(problem: Problem) -> None:
    method = MaskedSmallGradients(lr=0.1)
    method.prepare(problem.context(torch.device("cpu"), 0))
    before = {name: weight.clone() for name, weight in method.model.named_parameters()}
    indices_B = torch.arange(32)
    loss = method.cross_entropy(method.context.retain, indices_B)
    names = [*CONVOLUTIONS, "head.5.weight"]
    slopes = torch.autograd.grad(loss, [method.model.get_parameter(name) for name in names])
    method.update(indices_B, indices_B)
    for name, slope in zip(names, slopes, strict=True):
        moved = method.model.get_parameter(name) - before[name]
        factor = method.gradient_masks.get(name, torch.ones_like(slope))
        torch.testing.assert_close(moved, -0.1 * factor * slope, rtol=1e-3, atol=1e-7)
    assert set(method.gradient_masks) == set(CONVOLUTIONS)
    factors = method.gradient_masks[names[0]].flatten().tolist()
    assert sorted(set(factors)) == pytest.approx([0.1, 1.0])


@pytest.mark.parametrize(("share", "count"), [(0.01, 0), (0.5, 4), (0.9, 7)])
def test_the_smallest_of_some_values(share: float, count: int) -> None:
    values = torch.tensor([[5.0, 1, 0, 7], [3, 0, 2, 9]])
    chosen = smallest(values, share)
    assert chosen.sum() == count
    assert (values[chosen].sort().values == values.flatten().sort().values[:count]).all()
