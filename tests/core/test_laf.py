"""LAF's representations, autoencoders and losses against independent statements of them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mixunlearn.errors import InputError
from mixunlearn.methods.laf import Laf, fit, misfit, untrained
from mixunlearn.methods.laf_r import LafR
from mixunlearn.models.chain import Chain
from mixunlearn.models.wrapped import Wrapped
from mixunlearn.precision import FLOAT32
from mixunlearn.problem import Problem
from mixunlearn.representation import classifier, representation, representations
from mixunlearn.vae import VAE

CPU = torch.device("cpu")


def prepared(problem: Problem, method: Laf) -> Any:
    method.prepare(problem.context(CPU, 0))
    return method


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / norms)


def test_the_classifier_makes_logits_of_representations(batch_norm_problem: Problem) -> None:
    context = batch_norm_problem.context(CPU, 0)
    model, order = context.original, torch.arange(len(context.forget))
    images = context.forget.batch(order)
    seen = representation(model, images)
    head = classifier(model, context.forget)
    torch.testing.assert_close(head(seen), model(images))
    torch.testing.assert_close(representations(model, context.forget), seen)
    assert not head._forward_pre_hooks


def test_the_classifier_is_the_layer_that_is_called_last(problem: Problem) -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(6, 10), nn.Linear(64, 6)

        def forward(self, images: torch.Tensor) -> Any:
            return self.last(self.first(images.flatten(1)))

    network, samples = Reversed(), problem.context(CPU, 0).forget
    model = Wrapped(network, (1, 8, 8)).eval()
    assert classifier(model, samples) is network.last
    assert representations(model, samples).shape == (len(samples), 6)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_classifier_is_the_layer_that_gives_the_logits(problem: Problem, scaled: bool) -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.side = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, images: torch.Tensor) -> Any:
            features = images.flatten(1)
            logits = self.side(features) if scaled else self.main(features)
            other = self.main(2 * features) if scaled else self.side(2 * features)
            # Scaled, the logits are no layer's output, and the layer called last is taken.
            return other * 2 if scaled else (logits, other)[0]

    network, samples = Auxiliary(), problem.context(CPU, 0).forget
    model = Wrapped(network, (1, 8, 8)).eval()
    assert classifier(model, samples) is network.main


@pytest.mark.parametrize("inner", [nn.Identity(), nn.Linear(6, 6)])
def test_a_model_whose_last_layer_is_not_linear_has_no_classifier(
    problem: Problem, inner: nn.Module
) -> None:
    head = nn.Sequential(inner, nn.Conv2d(1, 10, (6, 6)), nn.Flatten())
    model = Chain({"only": nn.Conv2d(1, 1, 3)}, head, "only")
    with pytest.raises(InputError, match=r"model\.name = 'Chain': its last layer is not linear"):
        classifier(model, problem.context(CPU, 0).forget)


def test_the_loss_of_an_autoencoder_equals_its_equation() -> None:
    vae, x, noise = VAE(20, 4), random(7, 20), random(7, 4)
    with torch.no_grad():
        hidden = vae.encoder(x).double().numpy()
        mean, log_variance = hidden[:, :4], hidden[:, 4:]
        latent = mean + np.exp(log_variance / 2) * noise.numpy()
        restored = vae.decoder(torch.from_numpy(latent).float()).numpy()
        found = vae.loss(x, noise).item()
    variance = np.exp(log_variance)
    kl = -0.5 * np.sum(1 + np.log(variance) - mean**2 - variance, axis=1)
    distance = np.sum((restored - x.numpy()) ** 2, axis=1)
    assert found == pytest.approx(np.mean(distance + 0.025 * kl), rel=1e-4)


def test_an_autoencoder_fits_its_own_better_than_others() -> None:
    own, other = random(300, 16) * 0.2 + 1, random(299, 16) * 0.2 - 1
    vae = untrained(own, 4, seed=0)
    before = misfit(vae, own).item()
    fit(vae, own, np.random.default_rng(0), FLOAT32)
    assert misfit(vae, own).item() < before
    assert misfit(vae, own).item() < misfit(vae, other).item() - 0.2
    assert not any(weight.requires_grad for weight in vae.parameters())


def test_fixed_norms_keep_the_originals_statistics(batch_norm_problem: Problem) -> None:
    batch, fixed = (prepared(batch_norm_problem, Laf(norms=name)) for name in ("batch", "fixed"))
    kept = []
    for method in (batch, fixed):
        before = {name: value.clone() for name, value in method.model.named_buffers()}
        method.epoch()
        after = dict(method.model.named_buffers())
        kept.append(all(torch.equal(before[name], after[name]) for name in before))
    assert kept == [False, True]


def test_an_epoch_may_end_with_the_shorter_set(problem: Problem) -> None:
    whole, short = (prepared(problem, Laf(passes=name, batch=8)) for name in ("retain", "shorter"))
    forget, retain = (len(part) for part in (whole.context.forget, whole.context.retain))
    assert forget < retain
    assert sum(1 for _ in short.pairs()) == -(-forget // 8)
    assert sum(len(retain_B) for _, retain_B in whole.pairs()) == retain


def test_the_losses_equal_their_equations(problem: Problem) -> None:
    method = prepared(problem, Laf(lr_ue=1e-12, tau=3.0))
    forget_B, retain_B = torch.arange(12), torch.arange(30, 42)
    # Not the original's weights: its representations are those to compare with.
    with torch.no_grad():
        for weight in method.model.parameters():
            weight.mul_(1.1)
    e_f, e_r = (
        representations(method.model.eval(), samples)[indices_B]
        for samples, indices_B in (
            (method.context.forget, forget_B),
            (method.context.retain, retain_B),
        )
    )
    known_f, known_r = (
        representations(method.context.original, samples)[indices_B].numpy()
        for samples, indices_B in (
            (method.context.forget, forget_B),
            (method.context.retain, retain_B),
        )
    )
    ratios = np.exp(1 - cosine(e_r.numpy(), known_r)) / np.sum(
        np.exp((1 - cosine(e_f.numpy(), known_f)) / 3.0)
    )
    misfits = []
    for vae, e in ((method.vae, e_r), (method.forget_vae, e_f)):
        with torch.no_grad():
            distance = ((vae(e) - e) ** 2).sum(dim=1).double().numpy()
        misfits.append(np.mean(np.exp(distance / (distance + 1))))
    scalars = method.update(forget_B, retain_B)
    assert scalars["loss_ue"].item() == pytest.approx(misfits[0] - misfits[1], abs=1e-4)
    assert scalars["loss_ra"].item() == pytest.approx(np.mean(np.log(ratios)), abs=1e-3)


def test_the_autoencoders_learn_once(problem: Problem) -> None:
    method = prepared(problem, Laf())
    untaught = method.vae.decoder[0].weight.clone()
    method.epoch()
    taught = method.vae.decoder[0].weight.clone()
    method.epoch()
    assert not torch.equal(untaught, taught)
    assert torch.equal(method.vae.decoder[0].weight, taught)


def test_without_repair_the_classifier_stays_and_with_it_alone_is_repaired(
    problem: Problem,
) -> None:
    plain, repairing = prepared(problem, Laf()), prepared(problem, LafR(lr_head=1e-2))
    forget = plain.context.forget
    original = classifier(plain.context.original, forget).weight
    for method in (plain, repairing):
        method.update(torch.arange(8), torch.arange(8))
    assert torch.equal(classifier(plain.model, forget).weight, original)
    assert not torch.equal(classifier(repairing.model, forget).weight, original)
    repaired = {id(weight) for weight in classifier(repairing.model, forget).parameters()}
    for (name, weight), other in zip(
        repairing.model.named_parameters(), plain.model.parameters(), strict=True
    ):
        assert id(weight) in repaired or torch.equal(weight, other), name
