"""Methods of one step, against their formulas on models small enough for dense matrices."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from mixunlearn.data.batches import PIXEL_MAX, Samples
from mixunlearn.methods.base import Context, OneStep
from mixunlearn.methods.fisher import MAX_INVERSE, TINY, Fisher
from mixunlearn.methods.influence import DAMPING, Influence, solve
from mixunlearn.methods.ssd import SSD
from mixunlearn.models.chain import Chain
from mixunlearn.signature import seed_for

CLASSES, SIDE, N_FORGET, N_RETAIN = 3, 4, 6, 30
CPU = torch.device("cpu")

Array = npt.NDArray[np.float64]


def linear(seed: int) -> Chain:
    """Return softmax regression on the pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, CLASSES))
    return Chain(stages={}, head=head, default_stage="")


def draw(count: int, seed: int) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 1, SIDE, SIDE)
    images_NCHW = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    images_NCHW[:, :, 0, 0] = 0  # a corner that is always empty
    labels_N = torch.randint(CLASSES, (count,), generator=generator)
    return Samples(images_NCHW=images_NCHW, labels_N=labels_N)


@pytest.fixture
def context() -> Context:
    return Context(
        original=linear(0).requires_grad_(False).eval(),
        fresh=linear,
        initial=linear,
        forget=draw(N_FORGET, 1),
        retain=draw(N_RETAIN, 2),
        held_out=draw(1, 3),
        classes=CLASSES,
        forgotten=(),
        seed=7,
    )


def gradients(model: nn.Module, samples: Samples) -> Array:
    """Return `(p − y) ⊗ (x, 1)` of each sample: weights row by row, then biases."""
    assert samples.labels_N is not None
    pixels = samples.whole().flatten(1).numpy() / PIXEL_MAX
    x = (pixels - 0.5) * 2
    weight, bias = (value.detach().numpy().astype(np.float64) for value in model.parameters())
    logits = x @ weight.T + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = p - np.eye(CLASSES)[samples.labels_N.numpy()]
    outer = (error[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    return np.concatenate((outer, error), axis=1)


def flat(model: nn.Module) -> Array:
    values = [value.detach().numpy().astype(np.float64).ravel() for value in model.parameters()]
    return np.concatenate(values)


def applied(method: OneStep, context: Context) -> tuple[Array, dict[str, float]]:
    """Return the weights after the step, and its scalars."""
    method.prepare(context)
    scalars = method.epoch()
    return flat(method.model), scalars


# SSD


@pytest.mark.parametrize(("alpha", "dampening"), [(1.0, 1.0), (1.5, 0.3), (0.7, 5.0)])
def test_ssd_dampens_what_matters_more_to_the_forget_set(
    context: Context, alpha: float, dampening: float
) -> None:
    of_forget, of_retain = (
        gradients(context.original, part) ** 2 for part in (context.forget, context.retain)
    )
    important = of_forget.mean(0)
    overall = np.concatenate((of_forget, of_retain)).mean(0)
    expected = flat(context.original)
    chosen = important > alpha * overall
    expected[chosen] *= np.minimum(dampening * overall[chosen] / important[chosen], 1)
    method = SSD(alpha=alpha, dampening=dampening, importance_batch=1)
    found, scalars = applied(method, context)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert scalars["dampened"] == pytest.approx(chosen.mean())
    assert 0 < chosen.mean() < 1


def test_ssd_leaves_everything_beyond_the_largest_ratio_there_can_be(context: Context) -> None:
    bound = (N_FORGET + N_RETAIN) / N_FORGET
    found, scalars = applied(SSD(alpha=1.001 * bound, importance_batch=1), context)
    np.testing.assert_array_equal(found, flat(context.original))
    assert scalars["dampened"] == 0


@pytest.mark.parametrize(("alpha", "dampening"), [(1.0, 1.0), (3.0, 0.5)])
def test_ssd_squares_the_gradients_of_mini_batches(
    context: Context, alpha: float, dampening: float
) -> None:
    """D_f is one batch of 6; D is cut into mini-batches of 9 of all images."""
    method = SSD(alpha=alpha, dampening=dampening, importance_batch=9)
    of_forget, of_retain = (
        gradients(context.original, part) for part in (context.forget, context.retain)
    )
    of_all = np.concatenate((of_forget, of_retain))
    order = np.random.default_rng(seed_for("importance", 7)).permutation(len(of_all))
    batches = of_all[order].reshape(-1, 9, of_all.shape[1]).mean(1)
    important, overall = of_forget.mean(0) ** 2, (batches**2).mean(0)
    expected = flat(context.original)
    chosen = important > alpha * overall
    expected[chosen] *= np.minimum(dampening * overall[chosen] / important[chosen], 1)
    found, scalars = applied(method, context)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert scalars["dampened"] == pytest.approx(chosen.mean())
    assert 0 < chosen.mean() < 1


def test_ssd_changes_something_at_its_default(context: Context) -> None:
    few = replace(
        context.forget,
        images_NCHW=context.forget.images_NCHW[:2],
        labels_N=torch.zeros(2, dtype=torch.int64),
    )
    found, scalars = applied(SSD(), replace(context, forget=few))
    assert 0 < scalars["dampened"] < 1
    assert (found != flat(context.original)).any()


# Influence


@pytest.mark.parametrize("alpha", [1.0, 10.0])
def test_influence_takes_the_step_of_the_whole_matrix(context: Context, alpha: float) -> None:
    of_forget, of_retain = (
        gradients(context.original, part) for part in (context.forget, context.retain)
    )
    matrix = of_retain.T @ of_retain / N_RETAIN + DAMPING * np.eye(of_retain.shape[1])
    share = N_FORGET / (N_FORGET + N_RETAIN)
    pull = share * (of_forget.mean(0) - of_retain.mean(0))
    step = alpha * np.linalg.solve(matrix, pull)
    found, scalars = applied(Influence(alpha=alpha), context)
    error = found - flat(context.original) - step
    assert np.linalg.norm(error) < 2e-3 * np.linalg.norm(step)
    assert scalars["step"] == pytest.approx(np.linalg.norm(step), rel=2e-3)


def test_the_solver_finds_what_a_dense_one_finds() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 7))
    matrix, right = root @ root.T + np.eye(7), rng.normal(size=7)
    dense = torch.from_numpy(matrix)
    found = solve(lambda vector: {"x": dense @ vector["x"]}, {"x": torch.from_numpy(right)})
    np.testing.assert_allclose(matrix @ found["x"].numpy(), right, atol=2e-3 * np.abs(right).max())


def test_the_solver_leaves_nothing_to_do_where_there_is_nothing() -> None:
    zero = {"x": torch.zeros(3)}
    assert not solve(lambda vector: vector, zero)["x"].any()


# Fisher


def noise(context: Context, alpha: float, seed: int = 7) -> Array:
    """Return the noise in units of the deviation that the formula gives it."""
    settings: dict[str, Any] = {**vars(context), "seed": seed}
    found, _ = applied(Fisher(alpha=alpha), Context(**settings))
    fisher = (gradients(context.original, context.retain) ** 2).mean(0)
    deviation = (alpha * np.minimum(1 / (fisher + TINY), MAX_INVERSE)) ** 0.25
    result: Array = (found - flat(context.original)) / deviation
    return result


def test_fisher_noise_has_the_formulas_variance(context: Context) -> None:
    unit = np.concatenate([noise(context, 1e-4, seed) for seed in range(40)])
    assert unit.std() == pytest.approx(1, abs=0.06)
    assert unit.mean() == pytest.approx(0, abs=0.06)
    # The same draw at every strength: so the deviation is right for each single weight.
    np.testing.assert_allclose(noise(context, 1e-4), noise(context, 1e-2), rtol=1e-3, atol=1e-3)


def test_fisher_noise_is_the_same_each_time_and_another_for_another_seed(context: Context) -> None:
    method = Fisher(alpha=1e-4)
    first, _ = applied(method, context)
    method.epoch()
    np.testing.assert_array_equal(first, flat(method.model))
    assert (noise(context, 1e-4, seed=8) != noise(context, 1e-4)).all()


def test_fisher_noise_of_the_authors_code(context: Context) -> None:
    """Their variances, one parameter at a time; class 1 is forgotten."""
    context = replace(context, forgotten=(1,))
    pixels = (context.retain.whole().flatten(1).double().numpy() / PIXEL_MAX - 0.5) * 2
    weight, bias = (value.detach().double().numpy() for value in context.original.parameters())
    logits = pixels @ weight.T + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    retain = replace(context.retain, probs_NK=torch.from_numpy(p).float())
    context = replace(context, retain=retain)
    fisher = np.zeros((CLASSES, SIDE**2 + 1))
    for label in range(CLASSES):
        error = p - np.eye(CLASSES)[label]
        inputs = np.concatenate((pixels, np.ones((len(pixels), 1))), axis=1)
        slopes = error[:, :, None] * inputs[:, None, :]
        fisher += (p[:, label, None, None] * slopes**2).mean(0)
    variance = 1e-2 * np.minimum(1 / (fisher + TINY), 100)
    variance[:, :-1] = variance[:, :-1].mean(1, keepdims=True)
    variance[1] = 1e-4
    deviation = np.sqrt(10 * variance)
    mean = np.concatenate((weight, bias[:, None]), axis=1)
    mean[1] = 0
    found = []
    for seed in range(60):
        drawn, _ = applied(Fisher(alpha=1e-2, variant="code"), replace(context, seed=seed))
        rows = np.concatenate(
            (drawn[: weight.size].reshape(weight.shape), drawn[weight.size :, None]), axis=1
        )
        found.append((rows - mean) / deviation)
    assert np.std(found) == pytest.approx(1, abs=0.04)
    assert np.std(found, axis=0).max() < 1.4
    assert np.std(found, axis=0).min() > 0.65
    assert np.abs(np.mean(found, axis=0)).max() < 0.55


# All


@pytest.mark.parametrize("method", [SSD, Fisher, Influence])
def test_a_step_has_no_settings_of_an_optimizer(method: type[OneStep]) -> None:
    with pytest.raises(TypeError, match="lr"):
        method(lr=1e-3)
