"""The two teachers of bad teaching."""

import numpy as np
import pytest
import torch

from mixunlearn.inference import predict
from mixunlearn.methods.bad_teacher import BadTeacher
from mixunlearn.problem import Problem
from mixunlearn.signature import seed_for


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_each_half_of_a_batch_has_its_teacher(problem: Problem, temperature: float) -> None:
    method = BadTeacher(temperature=temperature)
    method.prepare(problem.context(torch.device("cpu"), 3))
    forget_B, retain_B = torch.arange(16), torch.arange(5, 21)
    first = method.update(forget_B, retain_B)
    # Before its first step the unlearner is the original, which is its own teacher on D_r.
    assert first["loss_retain"].item() == pytest.approx(0, abs=1e-5)
    images = torch.from_numpy(problem.forget.samples.images_NCHW[:16].copy())
    bad, _ = predict(problem.architecture.build(seed_for("bad teacher", 3)), images)
    q = bad.double().numpy() ** (1 / temperature)
    p = problem.forget.probs_NK[:16].astype(np.float64) ** (1 / temperature)
    q, p = (array / array.sum(axis=1, keepdims=True) for array in (q, p))
    expected = temperature**2 * np.mean(np.sum(q * np.log(q / p), axis=1))
    assert first["loss_forget"].item() == pytest.approx(expected, rel=1e-4)
    # In one pass over D_f and 30 % of D_r, as the authors make it, each image counts equally.
    weight = len(problem.forget.probs_NK) / (0.3 * len(problem.retain.probs_NK))
    total = weight * first["loss_forget"].item() + first["loss_retain"].item()
    assert first["loss"].item() == pytest.approx(total, rel=1e-5)


def test_for_one_class_of_ten_the_weight_is_that_of_the_authors() -> None:
    share = BadTeacher().forget_weight * 1 / 9
    assert share == pytest.approx(0.37, abs=0.001)
