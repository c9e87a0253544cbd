"""DELETE against its formula, stated in another way."""

from typing import Any

import numpy as np
import pytest
import torch

from mixunlearn.methods.delete import Delete, without
from mixunlearn.problem import Problem

CPU = torch.device("cpu")


def prepared(method: Any, problem: Problem) -> Any:
    method.prepare(problem.context(CPU, 0))
    return method


@pytest.mark.parametrize("labels", ["aware", "agnostic"])
def test_the_loss_has_a_part_that_forgets_and_one_that_keeps(
    labels: str, problem: Problem, agnostic_problem: Problem
) -> None:
    """The paper's decoupling: −log(1 − u_y), and the divergence of the other classes alone."""
    each = problem if labels == "aware" else agnostic_problem
    method = prepared(Delete(), each)
    forget_B = torch.arange(9)
    logits = method.model(method.context.forget.batch(forget_B)).detach().double().numpy()
    u = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p = each.forget.probs_NK[:9].astype(float)
    # All of D_f is of class 0, and so are the original's predictions for these images.
    assert (p.argmax(axis=1) == 0).all()
    q = p[:, 1:] / p[:, 1:].sum(axis=1, keepdims=True)
    others = u[:, 1:] / u[:, 1:].sum(axis=1, keepdims=True)
    expected = -np.log(1 - u[:, 0]) + (q * np.log(q / others)).sum(axis=1)
    found = method.update(forget_B, torch.arange(9))["loss"].item()
    assert found == pytest.approx(expected.mean(), rel=1e-4)


def test_no_forgotten_class_is_taught_and_the_others_keep_their_ratios() -> None:
    p = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.1, 0.6, 0.2, 0.1]])
    found = without(p, torch.tensor([0, 1]), (0, 3))
    torch.testing.assert_close(found, torch.tensor([[0, 0.25, 0.75, 0], [0, 0, 1.0, 0]]))
    assert p[0, 0] == 0.5, "the original's predictions stay as they are"


def test_a_sure_original_is_no_difficulty() -> None:
    p = torch.tensor([[1.0, 6e-38, 2e-38], [1.0, 0.0, 0.0]])
    found = without(p, torch.tensor([0, 0]), ())
    torch.testing.assert_close(found, torch.tensor([[0, 0.75, 0.25], [0, 0.5, 0.5]]))


@pytest.mark.parametrize("norms", ["batch", "fixed"])
def test_batch_norm_may_keep_its_statistics(norms: str, batch_norm_problem: Problem) -> None:
    method = prepared(Delete(norms=norms), batch_norm_problem)
    statistics = {name: value.clone() for name, value in method.model.named_buffers()}
    method.epoch()
    same = [torch.equal(value, statistics[name]) for name, value in method.model.named_buffers()]
    assert all(same) == (norms == "fixed")
