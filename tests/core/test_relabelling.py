"""Methods that teach other labels for the forget set, against their formulas."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.losses import sharpen
from mixunlearn.methods import METHODS
from mixunlearn.methods.boundary import Boundary, last_linear, nearest
from mixunlearn.methods.rand_label_agnostic import RandLabelAgnostic
from mixunlearn.methods.random_label import RandomLabel
from mixunlearn.methods.relabelling import Relabelling, best_wrong, random_wrong
from mixunlearn.methods.salun import SalUn, salient
from mixunlearn.models import StagedModel
from mixunlearn.models.chain import Chain
from mixunlearn.problem import Problem

CPU = torch.device("cpu")


def prepared(method: Any, problem: Problem, seed: int = 0) -> Any:
    method.prepare(problem.context(CPU, seed))
    return method


def log_softmax(logits_NK: Tensor) -> Tensor:
    """Return it in float64, computed in another way."""
    logits = logits_NK.detach().double()
    return logits - logits.exp().sum(dim=1, keepdim=True).log()


class TestWrongClasses:
    def test_random_ones_are_wrong_and_equally_likely(self) -> None:
        own = torch.arange(4).repeat(3000)
        found = random_wrong(np.random.default_rng(0), own, 4, ())
        counts = torch.stack([torch.bincount(found[own == c], minlength=4) for c in range(4)])
        assert (counts.diagonal() == 0).all()
        others = counts[~torch.eye(4, dtype=torch.bool)]
        assert (others - 1000).abs().max() < 5 * 26  # sd of a binomial: √(3000·⅓·⅔)

    def test_none_is_forgotten(self) -> None:
        own = torch.tensor([0, 1] * 50)
        found = random_wrong(np.random.default_rng(0), own, 4, (0, 1))
        assert set(found.tolist()) == {2, 3}

    def test_the_best_is_the_highest_allowed(self) -> None:
        scores = torch.tensor([[9.0, 5.0, 7.0], [9.0, 5.0, 7.0], [-9.0, -5.0, -7.0]])
        own = torch.tensor([0, 2, 1])
        assert best_wrong(scores, own, ()).tolist() == [2, 0, 2]
        assert best_wrong(scores, own, (0,)).tolist() == [2, 1, 2]

    def test_an_own_class_is_the_last_resort(self) -> None:
        assert best_wrong(torch.zeros(1, 3), torch.tensor([2]), (0, 1)).tolist() == [2]


class TestTargets:
    def test_random_label(self, problem: Problem) -> None:
        method: RandomLabel = prepared(RandomLabel(), problem)
        labels = torch.tensor(problem.forget.samples.labels_N)
        assert (method.forget_targets_N != labels).all()
        assert len(set(method.forget_targets_N.tolist())) == 9
        assert torch.equal(method.retain_targets_N, torch.tensor(problem.retain.samples.labels_N))

    def test_rand_label_agnostic(self, agnostic_problem: Problem) -> None:
        method: RandLabelAgnostic = prepared(RandLabelAgnostic(sharpen_T=0.5), agnostic_problem)
        likely = torch.tensor(agnostic_problem.forget.probs_NK).argmax(dim=1)
        assert (method.forget_targets_N != likely).all()
        expected = sharpen(torch.tensor(agnostic_problem.retain.probs_NK), 0.5)
        torch.testing.assert_close(method.retain_targets_N, expected)

    @pytest.mark.parametrize("name", ["random_label", "rand_label_agnostic", "salun"])
    def test_the_loss_is_the_sum_of_both_cross_entropies(self, name: str, problem: Problem) -> None:
        method = prepared(METHODS[name](), problem)
        assert isinstance(method, Relabelling)
        forget_B, retain_B = torch.arange(5), torch.arange(7, 12)
        logits = method.logits(forget_B, retain_B)
        targets = method.forget_targets_N[forget_B], method.retain_targets_N[retain_B]
        expected = 0.0
        # Each image of D_f counts once in an epoch, as each of D_r does.
        share = len(problem.forget.probs_NK) / len(problem.retain.probs_NK)
        for half, target, weight in zip(logits, targets, (share, 1), strict=True):
            one_hot = F.one_hot(target, 10) if target.dim() == 1 else target
            expected -= weight * (one_hot * log_softmax(half)).sum(dim=1).mean().item()
        assert method.update(forget_B, retain_B)["loss"].item() == pytest.approx(expected, rel=1e-5)


class TestWeight:
    @pytest.mark.parametrize("forget_weight", [1.0, 3.0])
    def test_an_epoch_counts_both_sets_as_two_passes_do(
        self, problem: Problem, forget_weight: float
    ) -> None:
        # With a rate of almost 0, the gradients of an epoch are all those at the original.
        method: RandomLabel = prepared(
            RandomLabel(optimizer="sgd", lr=1e-9, batch=8, forget_weight=forget_weight), problem
        )
        forget, retain = method.context.forget, method.context.retain
        expected, total = 0.0, 0.0
        for samples, targets, weight in (
            (forget, method.forget_targets_N, forget_weight),
            (retain, method.retain_targets_N, 1.0),
        ):
            order_N = torch.arange(len(samples))
            logs = log_softmax(method.model(samples.batch(order_N)))
            expected -= weight * logs[order_N, targets].sum().item()
        for forget_B, retain_B in method.pairs():
            total += len(retain_B) * method.update(forget_B, retain_B)["loss"].item()
        # D_f is repeated and cut off at the end of D_r, so some images count once less.
        assert total == pytest.approx(expected, rel=0.03)

    def test_a_set_smaller_than_a_batch_counts_as_one(self, tiny_forget_problem: Problem) -> None:
        method = prepared(RandomLabel(batch=16), tiny_forget_problem)
        indices_B = torch.arange(2)
        found = method.update(indices_B, indices_B)
        weight = (found["loss"] - found["loss_retain"]) / found["loss_forget"]
        assert len(method.context.forget) < 16
        assert weight.item() == pytest.approx(16 / len(method.context.retain), rel=1e-3)

    @pytest.mark.parametrize("name", ["random_label", "rand_label_agnostic", "salun"])
    def test_labels_may_be_drawn_again_among_all_classes(self, name: str, problem: Problem) -> None:
        kind: Any = METHODS[name]
        method, fixed = prepared(kind(new_labels="redrawn"), problem), prepared(kind(), problem)
        before, drawn = fixed.forget_targets_N.clone(), []
        for _ in range(20):
            method.epoch()
            drawn.append(method.forget_targets_N.clone())
        fixed.epoch()
        assert torch.equal(fixed.forget_targets_N, before)
        counts = torch.bincount(torch.cat(drawn), minlength=10)
        expected = len(torch.cat(drawn)) / 10  # also D_f's own class, 0
        assert (counts - expected).abs().max() < 5 * expected**0.5

    def test_labels_are_drawn_again_in_the_same_way_after_a_restart(self, problem: Problem) -> None:
        whole, before, after = (
            prepared(RandomLabel(new_labels="redrawn"), problem) for _ in range(3)
        )
        whole.epoch()
        before.epoch()
        after.load_state_dict(before.state_dict())
        assert after.epoch() == whole.epoch()


class TestSalUn:
    @pytest.mark.parametrize(("fraction", "chosen"), [(0.01, 1), (0.5, 3), (1.0, 6)])
    def test_the_largest_gradients_of_all_are_chosen(self, fraction: float, chosen: int) -> None:
        gradient = {"a": torch.tensor([[1.0, -6.0], [3.0, 0.5]]), "b": torch.tensor([-4.0, 2.0])}
        masks = salient(gradient, fraction)
        order = [("a", (0, 1)), ("b", (0,)), ("a", (1, 0)), ("b", (1,)), ("a", (0, 0))]
        assert sum(int(mask.sum()) for mask in masks.values()) == chosen
        assert all(masks[name][place] == 1 for name, place in order[:chosen])
        assert all(masks[name].shape == gradient[name].shape for name in gradient)

    def test_all_other_weights_keep_their_values(self, batch_norm_problem: Problem) -> None:
        method: SalUn = prepared(SalUn(fraction=0.1, lr=1e-2), batch_norm_problem)
        method.epoch()
        original = dict(method.context.original.named_parameters())
        moved = {
            name: weight.detach() != original[name]
            for name, weight in method.model.named_parameters()
        }
        assert all(not (moved[name] & (method.gradient_masks[name] == 0)).any() for name in moved)
        count = sum(weight.numel() for weight in moved.values())
        assert 0.08 < sum(int(changed.sum()) for changed in moved.values()) / count <= 0.11

    def test_weight_decay_leaves_them_alone_too(self, problem: Problem) -> None:
        method: SalUn = prepared(
            SalUn(fraction=0.2, optimizer="sgd", weight_decay=0.1, lr=0.01), problem
        )
        method.epoch()
        for name, mask in method.gradient_masks.items():
            weight, old = (
                method.model.get_parameter(name),
                method.context.original.get_parameter(name),
            )
            assert torch.equal(weight[mask == 0], old[mask == 0])
            assert (weight[mask == 1] != old[mask == 1]).any() or not mask.any()

    def test_the_saliency_is_that_of_the_original_on_the_forget_set(self, problem: Problem) -> None:
        method: SalUn = prepared(SalUn(fraction=0.3), problem)
        model = method.start(method.context)
        forget = method.context.forget
        order = torch.arange(len(forget))
        F.cross_entropy(model(forget.batch(order)), forget.labels(order)).backward()  # type: ignore[no-untyped-call]
        found = torch.cat([mask.flatten() for mask in method.gradient_masks.values()])
        sizes = torch.cat(
            [w.grad.abs().flatten() for w in model.parameters() if w.grad is not None]
        )
        assert found.mean().item() == pytest.approx(0.3, abs=0.01)
        assert sizes[found == 1].min() >= sizes[found == 0].max() * (1 - 1e-3)


class TestBoundary:
    def test_the_nearest_class_is_one_step_of_fgsm_away(self) -> None:
        model = Linear(pixels=4, classes=3)
        images = np.array([[0, 255, 100, 200], [10, 20, 30, 40]], np.uint8).reshape(2, 1, 2, 2)
        labels = np.array([0, 1])
        samples = Samples(images_NCHW=torch.tensor(images), labels_N=torch.tensor(labels))
        weight = model.layer.weight.detach().numpy().astype(np.float64)
        expected = []
        for image, label in zip(images.reshape(2, 4) / 255, labels, strict=True):
            logits = weight @ image
            softmax = np.exp(logits) / np.exp(logits).sum()
            slope = weight.T @ (softmax - np.eye(3)[label])
            shifted = weight @ np.clip(image + 0.3 * np.sign(slope), 0, 1)
            shifted[label] = -np.inf
            expected.append(int(shifted.argmax()))
        pixel_range = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        assert nearest(model, samples, 0.3, (), pixel_range).tolist() == expected

    def test_shrink_learns_the_nearest_classes(self, problem: Problem) -> None:
        method: Boundary = prepared(Boundary(), problem)
        labels = torch.tensor(problem.forget.samples.labels_N)
        assert (method.nearest_N != labels).all()
        forget_B = torch.arange(6)
        logs = log_softmax(method.model(method.context.forget.batch(forget_B)))
        expected = -logs[forget_B, method.nearest_N[forget_B]].mean().item()
        found = method.update(forget_B, forget_B)["loss"].item()
        assert found == pytest.approx(expected, rel=1e-5)

    def test_expand_is_a_model_with_a_class_more_that_is_pruned(self, problem: Problem) -> None:
        method: Boundary = prepared(Boundary(mode="expand", lr=3e-3), problem)
        wide = method.start(method.context)
        old, shadow = last_linear(wide, method.context.forget), method.shadow
        new = nn.Linear(old.in_features, 11)
        new.load_state_dict(
            {
                "weight": torch.cat((old.weight, shadow.weight)),
                "bias": torch.cat((old.bias, shadow.bias)),
            }
        )
        assert isinstance(wide, Chain)
        assert isinstance(wide.head, nn.Sequential)
        wide.head[-1] = new
        wide.train()
        method.model.train()
        optimizer = torch.optim.Adam(wide.parameters(), lr=3e-3)
        images = method.context.forget.batch(torch.arange(8))
        for forget_B in (torch.arange(8), torch.arange(8)):
            loss = F.cross_entropy(wide(images), torch.full((8,), 10))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            found = method.update(forget_B, forget_B)["loss"]
            torch.testing.assert_close(found, loss.detach(), rtol=1e-4, atol=1e-5)
        logits = method.model(images)
        assert logits.shape == (8, 10)
        torch.testing.assert_close(logits, wide(images)[:, :10], rtol=1e-3, atol=1e-3)

    def test_expand_goes_on_from_its_state(self, problem: Problem) -> None:
        whole, before, after = (
            prepared(Boundary(mode="expand", lr=1e-3), problem) for _ in range(3)
        )
        whole.epoch()
        before.epoch()
        after.load_state_dict(before.state_dict())
        assert after.epoch() == whole.epoch()

    def test_expand_needs_a_linear_layer_at_the_end(self, problem: Problem) -> None:
        head = nn.Sequential(nn.Conv2d(1, 10, 6), nn.Flatten())
        model = Chain({"only": nn.Conv2d(1, 1, 3)}, head, "only")
        with pytest.raises(InputError, match=r"search\.space\.mode = 'expand': .*; use shrink"):
            last_linear(model, problem.context(CPU, 0).forget)


class Linear(StagedModel):
    """A model whose gradient is known: logits are `W x`."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(pixels, classes, bias=False)
        values = np.random.default_rng(3).normal(size=(classes, pixels))
        self.layer.weight.data = torch.tensor(values, dtype=torch.float32)

    def forward_with_features(self, images: Tensor, names: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return self.layer(images.flatten(1)), {}
