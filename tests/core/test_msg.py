"""Which weights "masked small gradients" resets, and how fast the others learn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from mixunlearn.data.batches import Samples
from mixunlearn.methods.kernels import kernels
from mixunlearn.methods.msg import MaskedSmallGradients, fan_out, smallest
from mixunlearn.models import StagedModel
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
    generator = torch.Generator().manual_seed(seed_for("new weights", 4))
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
        drawn = method.model.get_parameter(name)
        outputs, _, height, width = drawn.shape
        noise = torch.randn(drawn.shape, generator=generator)
        expected = noise * (2 / (outputs * height * width)) ** 0.5
        torch.testing.assert_close(drawn[again], expected[again])


def test_new_weights_are_those_of_kaiming_by_outputs() -> None:
    shape, generator = torch.Size((40, 30, 3, 3)), torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = nn.init.kaiming_normal_(torch.empty(shape), mode="fan_out", nonlinearity="relu")
    ours = fan_out(shape, generator)
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.03)
    assert ours.mean().item() == pytest.approx(0, abs=0.003)


@pytest.mark.parametrize(
    ("epochs", "shares"),
    [
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 1 / 3]),
        (4, [1 / 2, 1, 2 / 3, 1 / 3, 1 / 3]),
        (1, [1, 1]),
        (2, [1, 1 / 2]),
    ],
)
def test_the_rate_rises_and_falls(problem: Problem, epochs: int, shares: list[float]) -> None:
    method = MaskedSmallGradients(lr=0.3, schedule_epochs=epochs)
    assert [method.rate(t + 1) / 0.3 for t in range(len(shares))] == pytest.approx(shares)
    method.prepare(problem.context(torch.device("cpu"), 0))
    for share in shares[:2]:
        method.epoch()
        assert method.stepper.param_groups[0]["lr"] == pytest.approx(0.3 * share)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
@pytest.mark.parametrize("size", [1, 3])
def test_a_computed_kernel_is_changed_through_what_it_is_computed_from(
    norm: Callable[[nn.Module], nn.Module], size: int
) -> None:
    class Net(StagedModel):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, size)
            self.normed: Any = norm(nn.Conv2d(1, 5, size))

        def forward_with_features(
            self, images: torch.Tensor, names: object
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            raise NotImplementedError

    model = Net()
    found = kernels(model)
    assert [*found] == ["first.weight", [*dict(model.named_parameters())][-1]]
    changed = found[[*found][1]].data
    changed[2].mul_(-3)
    # Spectral norm estimates its scale again in each pass of training.
    kernel = [model.normed.weight.detach() for _ in range(30)][-1]
    torch.testing.assert_close(
        F.normalize(kernel.flatten(1)), F.normalize(changed.flatten(1)), rtol=1e-3, atol=1e-4
    )


def test_the_other_weights_of_a_convolution_learn_at_a_tenth(problem: Problem) -> None:
    method = MaskedSmallGradients(lr=0.1, weight_decay=0.0)
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
