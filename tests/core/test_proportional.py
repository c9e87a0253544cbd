"""Methods that draw batches from D_f and D_r together, against their formulas."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.inference import predict
from mixunlearn.methods.amnesiac import Amnesiac
from mixunlearn.methods.amun import Amun
from mixunlearn.methods.lotus import Lotus, one_hot
from mixunlearn.problem import Problem

CPU = torch.device("cpu")
STILL = {"optimizer": "sgd", "lr": 1e-9, "batch": 24}  # an epoch that leaves the original as it is


def prepared(method: Any, problem: Problem, seed: int = 0) -> Any:
    method.prepare(problem.context(CPU, seed))
    return method


def log_softmax(logits_NK: Tensor) -> Tensor:
    """Return it in float64, computed in another way."""
    logits = logits_NK.detach().double()
    return logits - logits.exp().sum(dim=1, keepdim=True).log()


def every(samples: Samples) -> Tensor:
    return samples.batch(torch.arange(len(samples)))


@pytest.mark.parametrize(
    ("method", "sets"),
    [(Amnesiac(**STILL), 1), (Amun(**STILL), 2), (Amun(with_forget=False, **STILL), 1)],  # type: ignore[arg-type]
    ids=["amnesiac", "amun", "amun without D_f"],
)
def test_an_epoch_counts_each_image_once(method: Any, sets: int, problem: Problem) -> None:
    prepared(method, problem)
    forget, retain = method.context.forget, method.context.retain
    assert len(method.taught) == sets * len(forget)
    expected = 0.0
    for samples in (method.taught, retain):
        logs = log_softmax(method.model(every(samples)))
        expected -= logs[torch.arange(len(samples)), samples.labels_N].sum().item()
    total, seen, sizes = 0.0, [], set()
    for forget_B, retain_B in method.pairs():
        total += (len(forget_B) + len(retain_B)) * method.update(forget_B, retain_B)["loss"].item()
        seen += [*forget_B.tolist(), *(retain_B + len(method.taught)).tolist()]
        sizes.add(len(forget_B))
    assert sorted(seen) == list(range(len(method.taught) + len(retain)))
    assert len(sizes) > 2, "the share of D_f in a batch is left to chance"
    assert total == pytest.approx(expected, rel=1e-4)


def test_amnesiac_labels_are_wrong(problem: Problem) -> None:
    method = prepared(Amnesiac(), problem)
    assert (method.taught.labels_N != method.context.forget.labels_N).all()
    assert len(set(method.taught.labels_N.tolist())) == 9
    assert method.taught.images_NCHW is method.context.forget.images_NCHW


class TestAmun:
    def test_examples_are_near_and_of_another_class(self, problem: Problem) -> None:
        method = prepared(Amun(), problem)
        forget, count = method.context.forget, len(method.context.forget)
        examples, itself = torch.split(every(method.taught), count)
        labels, own = torch.split(method.taught.labels_N, count)
        assert torch.equal(itself, every(forget))
        assert torch.equal(own, forget.labels_N)
        assert (labels != own).all()
        predicted = method.context.original(examples).argmax(dim=1)
        assert torch.equal(predicted, labels)
        lengths = (examples - itself).flatten(1).norm(dim=1)
        right = method.context.original(itself).argmax(dim=1) == own
        assert ((lengths > 0) == right).all()
        assert 0 <= examples.min() < examples.max() <= 1

    def test_the_rate_falls_after_each_epoch(self, problem: Problem) -> None:
        method = prepared(Amun(optimizer="sgd", lr=1e-2, lr_decay=0.1), problem)
        for expected in (1e-2, 1e-3):
            method.epoch()
            assert method.stepper.param_groups[0]["lr"] == pytest.approx(expected)


class TestLotus:
    def test_the_loss_is_the_cross_entropy_with_noisy_targets(self, problem: Problem) -> None:
        method = prepared(Lotus(), problem)
        method.tau = 3.0
        rng = np.random.default_rng()
        rng.bit_generator.state = method.rng.bit_generator.state
        forget_B, retain_B = torch.arange(5), torch.arange(7, 11)
        logs = log_softmax(torch.cat(method.logits(forget_B, retain_B))).numpy()
        p_forget = problem.forget.probs_NK[:5].astype(float)
        p_retain = problem.retain.probs_NK[7:11].astype(float)
        scores = (p_forget * np.exp(rng.gumbel(size=(5, 10)))) ** (1 / 3)
        drawn = (p_retain * np.exp(rng.gumbel(size=(4, 10)))).argmax(axis=1)
        soft = scores / scores.sum(axis=1, keepdims=True)
        expected = -(soft * logs[:5]).sum() - logs[5:][np.arange(4), drawn].sum()
        assert method.update(forget_B, retain_B)["loss"].item() == pytest.approx(expected / 9, 1e-4)

    def test_classes_of_d_r_are_drawn_with_the_originals_probabilities(
        self, problem: Problem
    ) -> None:
        method = prepared(Lotus(), problem)
        p = torch.tensor([0.6, 0.3, 0.1, 0.0])
        found = one_hot(method.noisy(p.expand(20_000, 4))).mean(dim=0)
        torch.testing.assert_close(found, p, atol=0.02, rtol=0)

    def test_the_temperature_follows_the_accuracies(
        self, problem: Problem, tiny_forget_problem: Problem
    ) -> None:
        for each, alpha in ((problem, 2.0), (tiny_forget_problem, 8.0)):
            method = prepared(Lotus(alpha=alpha), each)
            context = method.context
            seen, unseen = (
                (predict(context.original, part.images_NCHW)[0].argmax(1) == part.labels_N)
                .float()
                .mean()
                .item()
                for part in (context.forget, context.held_out)
            )
            if context.forgotten:
                unseen = 0.0
            tau = method.epoch()["tau"]
            assert tau == pytest.approx(math.exp(alpha * (seen - unseen)), rel=1e-4)

    def test_it_stops_when_d_f_is_forgotten(self, batch_norm_problem: Problem) -> None:
        method = prepared(Lotus(lr=0.1), batch_norm_problem)
        method.unseen = 1.02
        before = {name: value.clone() for name, value in method.model.state_dict().items()}
        assert math.isfinite(method.epoch()["loss"])
        for name, value in method.model.state_dict().items():
            assert torch.equal(value, before[name]), name

    def test_a_part_of_d_r_is_used(self, problem: Problem) -> None:
        method = prepared(Lotus(retain_share=0.25), problem)
        passes = [
            sorted(torch.cat([retain_B for _, retain_B in method.pairs()]).tolist())
            for _ in range(2)
        ]
        assert passes[0] == passes[1] == sorted(set(passes[0]))
        assert len(passes[0]) == round(0.25 * len(method.context.retain))

    def test_it_needs_images_that_were_not_seen(self, tiny_forget_problem: Problem) -> None:
        context = tiny_forget_problem.context(CPU, 0)
        none = Samples(images_NCHW=context.held_out.images_NCHW[:0])
        with pytest.raises(InputError, match=r"held_out = None: needed by lotus; give some"):
            Lotus().prepare(replace(context, held_out=none))
