"""The projection of the erasing space concept."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from mixunlearn.errors import InputError
from mixunlearn.methods.esc import ErasingSpaceConcept, main_directions
from mixunlearn.problem import Problem
from mixunlearn.representation import classifier, representations

CPU = torch.device("cpu")


def prepared(problem: Problem, **parameters: Any) -> ErasingSpaceConcept:
    method = ErasingSpaceConcept(**parameters)
    method.prepare(problem.context(CPU, 0))
    return method


def test_logits_are_those_of_the_projected_representation(problem: Problem) -> None:
    method = prepared(problem, share=0.05)
    original, retain = method.context.original, method.context.retain
    features_NE = representations(original, method.context.forget).double()
    # The authors' way: all left singular vectors of the transposed matrix but the first.
    left_EE = torch.linalg.svd(features_NE.T, full_matrices=True).U
    count = int(0.05 * features_NE.shape[1])
    kept_ER = left_EE[:, count:]
    layer = classifier(original, retain)
    seen_NE = representations(original, retain).double()
    expected = seen_NE @ kept_ER @ kept_ER.T @ layer.weight.double().T + layer.bias.double()
    scalars = method.epoch()
    found = method.model(retain.batch(torch.arange(len(retain))))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)
    squares = torch.linalg.svdvals(features_NE).square()
    left = squares[count:].sum() / squares.sum()
    assert scalars["loss"] == pytest.approx(left.item(), abs=1e-4)
    assert scalars["directions"] == count


def test_all_else_stays_and_a_second_epoch_gives_the_same(problem: Problem) -> None:
    method = prepared(problem)
    first = method.epoch()
    weights = {name: weight.clone() for name, weight in method.model.named_parameters()}
    assert method.epoch() == first
    layer = classifier(method.model, method.context.forget)
    for name, weight in method.model.named_parameters():
        assert torch.equal(weight, weights[name])
        same = torch.equal(weight, method.context.original.get_parameter(name))
        assert same == (weight is not layer.weight)


def test_there_are_never_more_directions_than_images() -> None:
    features_NE = torch.randn((3, 20), generator=torch.Generator().manual_seed(0))
    directions_DE = main_directions(features_NE, 0.5)
    torch.testing.assert_close(directions_DE @ directions_DE.T, torch.eye(3))
    assert len(main_directions(features_NE, 0.01)) == 1


def test_frozen_weights_cannot_be_projected(problem: Problem) -> None:
    method = prepared(problem)
    layer = classifier(method.model, method.context.forget)
    names = [name for name, weight in method.model.named_parameters() if weight is layer.weight]
    method.model.frozen = frozenset(names)
    with pytest.raises(InputError, match="last layer's weights are frozen or computed"):
        method.epoch()


def test_labels_are_not_needed(problem: Problem) -> None:
    assert prepared(replace(problem, with_labels=False)).epoch() == prepared(problem).epoch()
