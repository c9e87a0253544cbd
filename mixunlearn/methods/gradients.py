"""Gradients of the cross entropy over whole sets, and the Fisher information computed from them.

The model is put into evaluation mode, so that samples do not depend on the statistics of their
batch and do not change those of the model. Shape suffixes: N samples, B batch, C channels,
H W pixels.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mixunlearn.data.batches import Samples
from mixunlearn.models import StagedModel

Weights: TypeAlias = dict[str, Tensor]

BATCH = 256
GRADIENT_BYTES = 512 * 2**20  # limit for the gradients of single samples in memory at a time


def dot(first: Weights, second: Weights) -> Tensor:
    """Return the inner product of two vectors with the shapes of a model's parameters."""
    return torch.stack([(first[name] * second[name]).sum() for name in first]).sum()


@torch.no_grad()
def mean_loss(model: StagedModel, samples: Samples) -> Tensor:
    """Return the mean cross entropy over all samples, in nats."""
    weights = _weights(model)
    return torch.cat([_losses(model, weights, *part) for part in _batches(samples)]).mean()


@torch.enable_grad()
def mean_gradient(model: StagedModel, samples: Samples) -> Weights:
    """Return the gradient of the mean cross entropy over all samples."""
    weights = _weights(model)

    def summed(images: Tensor, labels_B: Tensor) -> Weights:
        # Sums, because in a mean of means, images of a smaller last batch would count more.
        return _slopes(_losses(model, weights, images, labels_B).sum(), weights)

    return _mean(len(samples), (summed(*part) for part in _batches(samples)))


def diagonal_fisher(
    model: StagedModel, samples: Samples, factors_N: Tensor | None = None
) -> Weights:
    """Return the diagonal of the Fisher information: the mean squared gradient of one sample.

    It is the empirical Fisher information: the gradients are those of the cross entropy with the
    samples' labels. `GRADIENT_BYTES` limits the number of samples that are processed at once.

    Args:
        model: put into evaluation mode.
        samples: with labels.
        factors_N: ≥ 0, factors of the squares, before their mean is taken; `None` means 1.
    """
    weights = {name: weight.detach() for name, weight in _weights(model).items()}

    def loss(weights: Weights, image_CHW: Tensor, label: Tensor) -> Tensor:
        return _losses(model, weights, image_CHW[None], label[None]).sum()

    def squares(image_CHW: Tensor, label: Tensor, factor: Tensor) -> Weights:
        gradient = grad(loss)(weights, image_CHW, label)
        return {name: factor * value.square() for name, value in gradient.items()}

    def summed(images: Tensor, labels_B: Tensor, factors_B: Tensor) -> Weights:
        try:
            found = vmap(squares)(images, labels_B, factors_B)
        except RuntimeError:
            # Some models cannot be vectorised: they read a number (`item`) or write in place.
            return _squares_one_by_one(model, images, labels_B, factors_B)
        return {name: value.sum(0) for name, value in found.items()}

    # `vmap` holds a gradient of all weights for each image, so the batch depends on the model.
    room = GRADIENT_BYTES // sum(weight.nbytes for weight in weights.values())
    batch = min(max(room, 1), BATCH)
    if factors_N is None:
        factors_N = torch.ones(len(samples), device=samples.device)
    order = samples.in_order(batch)
    parts = ((samples.batch(part), samples.labels(part), factors_N[part]) for part in order)
    return _mean(len(samples), (summed(*each) for each in parts))


@torch.enable_grad()
def batch_fisher(model: StagedModel, parts: Iterable[tuple[Tensor, Tensor]]) -> Weights:
    """Return the mean square of the gradients of mini-batches, each of a mean cross entropy.

    For random batches of b images it is about `g² + (F − g²)/b`, with the mean gradient g and the
    diagonal F of the Fisher information.

    Args:
        model: put into evaluation mode.
        parts: at least one mini-batch: images and labels.
    """
    weights = _weights(model)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    count = 0
    for images, labels_B in parts:
        slopes = _slopes(_losses(model, weights, images, labels_B).mean(), weights)
        total = {name: total[name] + slopes[name].square() for name in total}
        count += 1
    return {name: value / count for name, value in total.items()}


@torch.enable_grad()
def _squares_one_by_one(
    model: StagedModel, images: Tensor, labels_B: Tensor, factors_B: Tensor
) -> Weights:
    """Return the sum of the squared gradients of single samples, each with a factor."""
    weights = _weights(model)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for image_CHW, label, factor in zip(images, labels_B, factors_B, strict=True):
        loss = _losses(model, weights, image_CHW[None], label[None]).sum()
        for name, slope in _slopes(loss, weights).items():
            total[name] += factor * slope.square()
    return total


@torch.enable_grad()
def fisher_product(
    model: StagedModel, samples: Samples, indices_N: Tensor, vector: Weights
) -> Weights:
    """Return `F v` with `F = (1/N) Σ g gᵀ`, the whole empirical Fisher information.

    The gradient g of a single sample is never computed: `Σ u g` is the gradient of the losses with
    weights u, and the derivatives with respect to u of its product with v are `gᵀ v`.

    Args:
        model: has P parameters.
        samples: with labels.
        indices_N: the samples that F is computed from.
        vector: v, with the shapes of the model's parameters.
    """
    weights = _weights(model)

    def product(images: Tensor, labels_B: Tensor) -> Weights:
        with sdpa_kernel(SDPBackend.MATH):  # the fused attentions have no second derivative
            losses_B = _losses(model, weights, images, labels_B)
        ones_B = torch.ones_like(losses_B, requires_grad=True)
        along = dot(_slopes(ones_B @ losses_B, weights, create_graph=True), vector)
        (slopes_B,) = torch.autograd.grad(along, ones_B, retain_graph=True)
        return _slopes(slopes_B @ losses_B, weights)

    parts = _batches(samples, indices_N)
    return _mean(len(indices_N), (product(*part) for part in parts))


def _weights(model: StagedModel) -> Weights:
    """Return what is trained by name, detached and with gradients; it shares the memory."""
    return {name: value.detach().requires_grad_() for name, value in model.trained()}


def _losses(model: StagedModel, weights: Weights, images: Tensor, labels_B: Tensor) -> Tensor:
    """Return each sample's cross entropy, shape (B,)."""
    # Not `model(images)`: gradients are taken of detached copies, as the model may be frozen.
    logits = functional_call(model.eval(), weights, (images,))
    return F.cross_entropy(logits, labels_B, reduction="none")


def _slopes(value: Tensor, weights: Weights, *, create_graph: bool = False) -> Weights:
    """Return the gradient of a number with respect to the weights; 0 for unused weights."""
    found = torch.autograd.grad(
        value, [*weights.values()], create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))


def _batches(
    samples: Samples, indices_N: Tensor | None = None, batch: int = BATCH
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels of some samples, or of all, in order."""
    parts = samples.in_order(batch) if indices_N is None else torch.split(indices_N, batch)
    for indices_B in parts:
        yield samples.batch(indices_B), samples.labels(indices_B)


def _mean(count: int, parts: Iterator[Weights]) -> Weights:
    """Return the sum of sums over batches, divided by the number of samples."""
    total = next(parts)
    for part in parts:
        total = {name: total[name] + value for name, value in part.items()}
    return {name: value / count for name, value in total.items()}
