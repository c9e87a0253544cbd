"""SCRUB's two passes, written out, and which weights SCRUB+R returns."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Samples, pairs, shuffled
from mixunlearn.inference import predict
from mixunlearn.methods.base import Context
from mixunlearn.methods.scrub import Kept, Scrub, of_same_classes
from mixunlearn.problem import Problem

CPU = torch.device("cpu")
RATE = 1e-3


def prepared(problem: Problem, **parameters: Any) -> Scrub:
    method = Scrub(lr=RATE, **parameters)
    method.prepare(problem.context(CPU, 0))
    return method


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def flat(model: torch.nn.Module) -> Tensor:
    return torch.cat([value.flatten() for value in weights(model).values()])


def written_out(
    context: Context, model: torch.nn.Module, epochs: int, pushing: int
) -> torch.nn.Module:
    """The model after some epochs; the first ones also maximise; T = 2, α = 0.3, γ = 0.7."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    rng = np.random.default_rng(context.seed)
    forget, retain = context.forget, context.retain

    def divergence(samples: Samples, indices_B: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = torch.log_softmax(context.original(samples.batch(indices_B)) / 2, dim=1)
        student = torch.log_softmax(logits / 2, dim=1)
        return 4 * (teacher.exp() * (teacher - student)).sum(dim=1).mean()

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for epoch in range(epochs):
        for forget_B in shuffled(rng, len(forget), 32, CPU) if epoch < pushing else ():
            step(-divergence(forget, forget_B, model(forget.batch(forget_B))))
        for _, retain_B in pairs(rng, len(forget), len(retain), 32, CPU):
            logits = model(retain.batch(retain_B))
            kl = divergence(retain, retain_B, logits)
            step(0.3 * kl + 0.7 * F.cross_entropy(logits, retain.labels(retain_B)))
    return model


@pytest.mark.parametrize("msteps", [0, 1])
def test_an_epoch_pushes_away_then_draws_near(problem: Problem, msteps: int) -> None:
    method = prepared(problem, alpha=0.3, gamma=0.7, msteps=msteps)
    began = flat(method.model)
    expected = written_out(method.context, deepcopy(method.model), epochs=2, pushing=msteps)
    method.epoch()
    method.epoch()
    error = torch.linalg.vector_norm(flat(method.model) - flat(expected))
    # All weights together: a push starts where the gradient is almost zero, so Adam turns rounding
    # errors into whole steps. That is at most 0.0012 of the way, on three instruction sets;
    # γ = 0.69 is 0.012 of it.
    assert error < 0.004 * torch.linalg.vector_norm(flat(expected) - began)


def test_rewinding_chooses_at_the_end_among_all_epochs_and_trains_on(problem: Problem) -> None:
    plain, rewound = prepared(problem), prepared(problem, rewind=True)
    forget = problem.context(CPU, 0).forget
    alike = of_same_classes(problem.context(CPU, 0).held_out, forget)
    epochs: list[tuple[float, dict[str, Tensor]]] = []
    for _ in range(5):
        assert plain.epoch() == rewound.epoch()
        torch.testing.assert_close(weights(rewound.student), weights(plain.model), rtol=0, atol=0)
        epochs.append((wrong(plain.model, forget), weights(plain.model)))
        wanted = wrong(plain.model, alike)
        distances = [abs(error - wanted) for error, _ in epochs]
        nearest = max(i for i, distance in enumerate(distances) if distance == min(distances))
        torch.testing.assert_close(weights(rewound.model), epochs[nearest][1], rtol=0, atol=0)


def test_an_early_epoch_is_delivered_if_the_last_one_asks_for_it(problem: Problem) -> None:
    """A comparison of each epoch with the best so far would have lost the first epoch's weights."""
    kept, model, found = Kept(), prepared(problem).model, [0.0, 0.0]
    for error in (0.3, 0.9, 1.0, 0.9):
        with torch.no_grad():
            next(iter(model.parameters())).fill_(error)
        kept.add(error, model)
        newest, early = (kept.nearest(wanted) for wanted in (0.95, 0.2))
        found = [next(iter(each.values())).mean().item() for each in (newest, early)]
        assert found[1] == pytest.approx(0.3)
    assert kept.errors == [0.3, 1.0, 0.9]
    assert found[0] == pytest.approx(0.9)  # as near as 1.0, and newer


def test_the_rate_falls_after_the_authors_epochs(problem: Problem) -> None:
    method, rates = prepared(problem, lr_decay=0.1), []
    for done in range(11):
        method.epochs_done = done
        rates.append(method.rate() / RATE)
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001])
    method.epochs_done = 9
    method.epoch()
    assert method.stepper.param_groups[0]["lr"] == pytest.approx(0.001 * RATE)


def test_the_pass_over_the_forget_set_has_its_own_batches(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, sizes = prepared(problem, forget_batch=8, batch=64), []
    step = Scrub.disagreement

    def spy(self: Scrub, samples: Samples, indices_B: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append((samples is self.context.forget, len(indices_B)))
        return step(self, samples, indices_B)

    monkeypatch.setattr(Scrub, "disagreement", spy)
    method.epoch()
    assert {size for of_forget, size in sizes if of_forget} <= {*range(1, 10)}
    assert sum(size for of_forget, size in sizes if of_forget) == len(method.context.forget)
    assert max(size for of_forget, size in sizes if not of_forget) >= 64


def wrong(model: Any, samples: Samples) -> float:
    assert samples.labels_N is not None
    probs_NK, _ = predict(model, samples.images_NCHW)
    return float(np.mean(probs_NK.argmax(dim=1).numpy() != samples.labels_N.numpy()))


def test_a_restored_state_has_both_models(problem: Problem) -> None:
    whole, before, after = (prepared(problem, rewind=True) for _ in range(3))
    whole.epoch()
    before.epoch()
    after.load_state_dict(before.state_dict())
    torch.testing.assert_close(weights(after.model), weights(whole.model), rtol=0, atol=0)
    assert after.epoch() == whole.epoch()
    for first, second in ((after.model, whole.model), (after.student, whole.student)):
        torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)
    assert after.kept.errors == whole.kept.errors


def test_held_out_images_are_of_the_forgotten_classes(problem: Problem) -> None:
    context = problem.context(CPU, 0)
    alike = of_same_classes(context.held_out, context.forget)
    assert alike.labels_N is not None
    assert context.held_out.labels_N is not None
    assert set(alike.labels_N.tolist()) == {0}
    assert len(alike) == (context.held_out.labels_N == 0).sum()


def test_without_any_all_held_out_images_are_taken(problem: Problem) -> None:
    context = problem.context(CPU, 0)
    assert context.forget.labels_N is not None
    unseen = replace(context.forget, labels_N=torch.full_like(context.forget.labels_N, 99))
    assert of_same_classes(context.held_out, unseen) is context.held_out


def test_the_student_starts_a_little_beside_the_original(problem: Problem) -> None:
    first, again = prepared(problem), prepared(problem)
    for name, weight in first.context.original.named_parameters():
        moved = first.model.get_parameter(name) / weight - 1
        assert 0 < moved.abs().max().item() < 0.01
        assert torch.equal(first.model.get_parameter(name), again.model.get_parameter(name))
