"""The losses against an independent float64 statement of the paper's equations."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mixunlearn.losses import contrastive_ratio, distillation_kl, sharpen, sim_loss

Array = npt.NDArray[np.float64]


def numpy_sharpen(p: Array, temperature: float) -> Array:
    powered = p ** (1 / temperature)
    return np.asarray(powered / powered.sum(axis=-1, keepdims=True))


def numpy_similarity(a: Array, b: Array) -> Array:
    norms = np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1))
    return np.asarray(1 - (a * b).sum(axis=1) / norms)


def numpy_ratio(
    a_r: Array, p_r: Array, a_f: Array, p_f: Array, w_r: float, w_f: float, tau: float
) -> float:
    total = 0.0
    for j in range(len(a_r)):
        pull = w_r * numpy_similarity(a_r[j : j + 1], p_r[j : j + 1])[0]
        push = np.log(
            sum(
                np.exp(w_f * numpy_similarity(a_f[i : i + 1], p_f[i : i + 1])[0] / tau)
                for i in range(len(a_f))
            )
        )
        total += pull - push
    return total


def probabilities(rng: np.random.Generator, rows: int, classes: int) -> Array:
    return rng.dirichlet(np.full(classes, 0.5), size=rows)


def tensors(*arrays: Array, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.tensor(array, dtype=dtype) for array in arrays]


def torch_ratio(arrays: list[Array], w_r: float, w_f: float, tau: float) -> float:
    a_r, p_r, a_f, p_f = tensors(*arrays)
    found = contrastive_ratio(a_r, p_r, a_f, p_f, w_r, w_f, tau)
    assert found.shape == ()
    return found.item()


@pytest.mark.parametrize("temperature", [0.1, 0.3, 1.0, 2.0])
def test_sharpen_equals_its_equation(temperature: float) -> None:
    p = probabilities(np.random.default_rng(0), 64, 10) + 1e-4
    p /= p.sum(axis=1, keepdims=True)
    (p_torch,) = tensors(p)
    expected = numpy_sharpen(p, temperature)
    np.testing.assert_allclose(sharpen(p_torch, temperature), expected, rtol=1e-5, atol=1e-7)


def test_sharpen_of_one_hot_and_of_zeros_stays_finite() -> None:
    one_hot = torch.eye(10)
    assert torch.equal(sharpen(one_hot, 0.1), one_hot)
    assert torch.isfinite(sharpen(one_hot, 0.3)).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_sharpen_refuses_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        sharpen(torch.full((1, 2), 0.5), temperature)


def test_sim_loss_equals_its_equation() -> None:
    rng = np.random.default_rng(1)
    a, b = probabilities(rng, 64, 10), probabilities(rng, 64, 10)
    a_torch, b_torch = tensors(a, b)
    expected = numpy_similarity(a, b)
    np.testing.assert_allclose(sim_loss(a_torch, b_torch), expected, rtol=1e-5, atol=1e-6)


def test_sim_loss_is_zero_where_alike_and_one_where_disjoint() -> None:
    one_hot = torch.eye(4)
    torch.testing.assert_close(sim_loss(one_hot, one_hot), torch.zeros(4))
    torch.testing.assert_close(sim_loss(one_hot, one_hot.roll(1, dims=1)), torch.ones(4))


@pytest.mark.parametrize("tau", [0.1, 1.0, 5.0, 20.0])
@pytest.mark.parametrize(("w_r", "w_f"), [(1.0, 1.0), (0.3, 0.7), (0.0, 1.0)])
def test_contrastive_ratio_equals_its_equation(w_r: float, w_f: float, tau: float) -> None:
    rng = np.random.default_rng(2)
    arrays = [probabilities(rng, 32, 10) for _ in range(4)]
    a_r, p_r, a_f, p_f = arrays
    expected = numpy_ratio(a_r, p_r, a_f, p_f, w_r, w_f, tau)
    assert torch_ratio(arrays, w_r, w_f, tau) == pytest.approx(expected, rel=1e-5)


def test_contrastive_ratio_sums_over_retain_when_the_batches_differ() -> None:
    rng = np.random.default_rng(3)
    a_r, p_r = probabilities(rng, 7, 5), probabilities(rng, 7, 5)
    a_f, p_f = probabilities(rng, 3, 5), probabilities(rng, 3, 5)
    expected = numpy_ratio(a_r, p_r, a_f, p_f, 1, 1, 2.0)
    assert torch_ratio([a_r, p_r, a_f, p_f], 1, 1, 2.0) == pytest.approx(expected, rel=1e-5)


def test_contrastive_ratio_takes_a_weight_for_each_sample() -> None:
    rng = np.random.default_rng(4)
    a_r, p_r, a_f, p_f = tensors(*[probabilities(rng, 6, 4) for _ in range(4)])
    weights = torch.full((6,), 0.4)
    torch.testing.assert_close(
        contrastive_ratio(a_r, p_r, a_f, p_f, weights, 1 - weights, 1.5),
        contrastive_ratio(a_r, p_r, a_f, p_f, 0.4, 0.6, 1.5),
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_equals_its_equation(temperature: float) -> None:
    rng = np.random.default_rng(6)
    logits, teacher = rng.normal(size=(16, 5), scale=3), probabilities(rng, 16, 5)
    q = numpy_sharpen(teacher, temperature)
    p = numpy_sharpen(np.exp(logits), temperature)  # softmax(z/T), computed in another way
    expected = temperature**2 * np.mean(np.sum(q * np.log(q / p), axis=1))
    logits_torch, teacher_torch = tensors(logits, teacher)
    found = distillation_kl(logits_torch, teacher_torch, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_distillation_is_zero_where_the_student_is_the_teacher() -> None:
    (logits,) = tensors(np.random.default_rng(7).normal(size=(16, 5), scale=9))
    found = distillation_kl(logits, torch.softmax(logits, dim=1), 3.0)
    assert found.item() == pytest.approx(0, abs=1e-5)


def test_gradients_pass_gradcheck() -> None:
    rng = np.random.default_rng(5)
    logits = [
        torch.tensor(rng.normal(size=(4, 3)), dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    ]
    targets = tensors(*[probabilities(rng, 4, 3) for _ in range(2)], dtype=torch.float64)

    def ratio(retain: Tensor, forget: Tensor) -> Tensor:
        a_r, a_f = torch.softmax(retain, dim=1), torch.softmax(forget, dim=1)
        return contrastive_ratio(a_r, targets[0], a_f, targets[1], 0.3, 0.7, 0.5)

    assert torch.autograd.gradcheck(ratio, logits)
    p = torch.tensor(probabilities(rng, 4, 3) + 0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q: sharpen(q, 0.3), (p,))
    assert torch.autograd.gradcheck(lambda z: distillation_kl(z, targets[0], 2.0), (logits[0],))
