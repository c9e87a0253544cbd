"""Gradients over whole sets, against autograd sample by sample."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Samples
from mixunlearn.methods import gradients
from mixunlearn.models import StagedModel, build_model

CLASSES, COUNT = 3, 21


def draw(count: int, seed: int = 0) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    return Samples(
        images_NCHW=torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator),
        labels_N=torch.randint(CLASSES, (count,), generator=generator),
    )


def small(name: str) -> StagedModel:
    """Return a frozen model whose batch norms, if any, are not identities."""
    model = build_model(name, image_shape=(1, 8, 8), classes=CLASSES, seed=1, width=2).train()
    model(draw(8, seed=1).batch(torch.arange(8)))
    return model.eval().requires_grad_(False)


def gradients_one_by_one(model: StagedModel, samples: Samples) -> Tensor:
    """Return each sample's gradient as a row."""
    rows = []
    weights = list(model.requires_grad_(True).parameters())
    for index in range(len(samples)):
        only = torch.tensor([index])
        loss = F.cross_entropy(model.eval()(samples.batch(only)), samples.labels(only))
        found = torch.autograd.grad(loss, weights)
        rows.append(torch.cat([value.flatten() for value in found]))
    model.requires_grad_(False)
    return torch.stack(rows)


def flat(weights: gradients.Weights) -> Tensor:
    return torch.cat([value.flatten() for value in weights.values()])


def shaped(vector: Tensor, model: StagedModel) -> gradients.Weights:
    parts = torch.split(vector, [weight.numel() for weight in model.parameters()])
    named = zip(model.named_parameters(), parts, strict=True)
    return {name: part.view_as(weight) for (name, weight), part in named}


@pytest.fixture(params=["cnn", "convnet"])
def model(request: pytest.FixtureRequest) -> StagedModel:
    return small(request.param)


@pytest.fixture(params=[gradients.BATCH, 8], ids=["at once", "in batches"])
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients._batches, "__defaults__", (None, request.param))


@pytest.mark.usefixtures("batch")
def test_the_mean_gradient_is_the_mean_of_the_samples(model: StagedModel) -> None:
    samples = draw(COUNT)
    expected = gradients_one_by_one(model, samples).mean(0)
    torch.testing.assert_close(flat(gradients.mean_gradient(model, samples)), expected)


@pytest.mark.parametrize("room", [1, 5, COUNT])
def test_the_fisher_information_is_the_mean_square_of_the_samples(
    model: StagedModel, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(weight.nbytes for weight in model.parameters())
    monkeypatch.setattr(gradients, "GRADIENT_BYTES", room * size)
    samples = draw(COUNT)
    expected = gradients_one_by_one(model, samples).square().mean(0)
    torch.testing.assert_close(flat(gradients.diagonal_fisher(model, samples)), expected)


@pytest.mark.parametrize("name", ["cnn", "convnet", "vit"])
@pytest.mark.usefixtures("batch")
def test_a_product_is_that_of_the_whole_matrix(name: str) -> None:
    model = small(name)
    samples, chosen = draw(COUNT), torch.tensor([0, 3, 4, 7, 9, 10, 12, 15, 16, 20])
    rows = gradients_one_by_one(model, samples)[chosen]
    vector = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(2))
    found = gradients.fisher_product(model, samples, chosen, shaped(vector, model))
    torch.testing.assert_close(flat(found), rows.T @ (rows @ vector) / len(chosen))


@pytest.mark.usefixtures("batch")
def test_the_mean_loss_is_that_of_one_batch(model: StagedModel) -> None:
    samples = draw(COUNT)
    logits = model(samples.batch(torch.arange(COUNT)))
    expected = F.cross_entropy(logits, samples.labels(torch.arange(COUNT)))
    torch.testing.assert_close(gradients.mean_loss(model, samples), expected)


def test_neither_weights_nor_statistics_of_a_batch_are_touched() -> None:
    model, samples = small("convnet").train(), draw(COUNT)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    vector = gradients.mean_gradient(model, samples)
    gradients.diagonal_fisher(model.train(), samples)
    gradients.fisher_product(model.train(), samples, torch.arange(COUNT), vector)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(value.requires_grad or value.grad is not None for value in model.parameters())
