"""MixBlock against an independent float64 statement of section 2 of the method."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mixunlearn.generator import MixBlock, mix

Array = npt.NDArray[np.float64]


def numpy_softmax(x: Array, axis: int) -> Array:
    powered = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powered / powered.sum(axis=axis, keepdims=True))


def numpy_upsample(x: Array, size: int) -> Array:
    """Bilinear interpolation of (h, w) to (size, size), pixel centres aligned by halves."""
    h = x.shape[0]
    places = np.clip((np.arange(size) + 0.5) * h / size - 0.5, 0, None)
    low = np.minimum(places.astype(int), h - 1)
    high = np.minimum(low + 1, h - 1)
    part = places - low
    rows = x[low] * (1 - part)[:, None] + x[high] * part[:, None]
    return np.asarray(rows[:, low] * (1 - part) + rows[:, high] * part)


def numpy_masks(block: MixBlock, h_f: Array, h_r: Array, lam: float, size: int) -> Array:
    """Masks of one pair, shape (2, size, size), from features (C, h, w), position by position."""
    weights = {name: value.double().numpy() for name, value in block.named_parameters()}
    if block.lam_concat:
        h_f = np.concatenate((h_f, np.full((1, *h_f.shape[1:]), lam)))
        h_r = np.concatenate((h_r, np.full((1, *h_r.shape[1:]), 1 - lam)))
    positions = h_f.shape[1] * h_f.shape[2]

    def project(name: str, features: Array) -> Array:
        matrix = weights[f"{name}.weight"][:, :, 0, 0]
        projected = matrix @ features.reshape(len(features), positions)
        return np.asarray(projected + weights[f"{name}.bias"][:, None])

    logits = []
    for own, other in ((h_f, h_r), (h_r, h_f)):
        query, key, value = project("query", own), project("key", other), project("value", own)
        if block.relu:
            query, key = np.maximum(query, 0), np.maximum(key, 0)
        attention = numpy_softmax(query.T @ key / np.sqrt(len(query)), axis=1)
        mask = (attention @ value[0]).reshape(h_f.shape[1:])
        logits.append(numpy_upsample(mask, size))
    return numpy_softmax(np.stack(logits), axis=0)


def excited(block: MixBlock) -> MixBlock:
    """Give a block weights so large that its masks differ from one half."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.7, generator=generator)
    return block


@pytest.mark.parametrize("lam_concat", [True, False])
@pytest.mark.parametrize(("reduction", "relu"), [(2, False), (4, False), (2, True)])
def test_masks_equal_their_equations(lam_concat: bool, reduction: int, relu: bool) -> None:
    block = excited(MixBlock(6, reduction, lam_concat, relu=relu))
    rng = np.random.default_rng(0)
    h_f, h_r = rng.normal(size=(2, 5, 6, 4, 4))
    with torch.no_grad():
        found = block(torch.tensor(h_f).float(), torch.tensor(h_r).float(), 0.3, (9, 9))
        expected = [numpy_masks(block, h_f[i], h_r[i], 0.3, 9) for i in range(5)]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)
    assert np.ptp(expected) > 0.2


@pytest.mark.parametrize(("lam_concat", "count"), [(False, 66_049), (True, 66_306)])
def test_number_of_parameters_is_the_papers(lam_concat: bool, count: int) -> None:
    block = MixBlock(256, lam_concat=lam_concat)
    assert sum(parameter.numel() for parameter in block.parameters()) == count


def test_initial_weights_are_small_and_biases_zero() -> None:
    torch.manual_seed(0)
    block = MixBlock(256)
    assert block.query.weight.std().item() == pytest.approx(0.01, rel=0.05)
    biases = [value for name, value in block.named_parameters() if name.endswith("bias")]
    assert len(biases) == 3
    assert not any(bias.any() for bias in biases)


def test_masks_sum_to_one_for_half_precision_features_and_lambda_of_each_pair() -> None:
    block = excited(MixBlock(6))
    h_f, h_r = torch.rand(2, 5, 6, 4, 4, dtype=torch.float16)
    masks = block(h_f, h_r, torch.linspace(0.1, 0.9, 5), (8, 12))
    assert masks.shape == (5, 2, 8, 12)
    assert masks.dtype == torch.float32
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(5, 8, 12))


def test_lambda_matters_with_its_channel_only() -> None:
    features = torch.rand(2, 5, 6, 4, 4)

    def masks(block: MixBlock, lam: float) -> Tensor:
        found: Tensor = block(*features, lam, (8, 8))
        return found

    told, untold = excited(MixBlock(6)), excited(MixBlock(6, lam_concat=False))
    assert not torch.allclose(masks(told, 0.1), masks(told, 0.9))
    assert torch.equal(masks(untold, 0.1), masks(untold, 0.9))


def test_mix_weighs_each_pixel_of_all_colours() -> None:
    masks = torch.zeros(1, 2, 2, 2)
    masks[:, 0] = torch.tensor([[1.0, 0.0], [0.25, 0.5]])
    masks[:, 1] = 1 - masks[:, 0]
    mixed = mix(masks, torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))
    torch.testing.assert_close(mixed, masks[:, :1].expand(1, 3, 2, 2))


def test_gradients_pass_gradcheck() -> None:
    block = excited(MixBlock(2)).double()
    h_f, h_r = torch.rand(2, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*block.named_parameters(), strict=True)

    def masks(h_forget: Tensor, h_retain: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        found: Tensor = torch.func.functional_call(block, state, (h_forget, h_retain, 0.4, (3, 3)))
        return found

    assert torch.autograd.gradcheck(masks, (h_f, h_r, *parameters))
