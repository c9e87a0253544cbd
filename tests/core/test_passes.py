"""Images that pass through models, counted exactly."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from mixunlearn.data.batches import Samples
from mixunlearn.inference import predict
from mixunlearn.methods.gradients import batch_fisher, diagonal_fisher, mean_loss
from mixunlearn.models import build_model
from mixunlearn.models.ensemble import Ensemble
from mixunlearn.passes import Passes, again, counted
from mixunlearn.problem import Problem
from mixunlearn.trial import Trial

CPU = torch.device("cpu")
COUNT = 21


def samples() -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(
        images_NCHW=torch.randint(256, (COUNT, 1, 8, 8), dtype=torch.uint8, generator=generator),
        labels_N=torch.randint(3, (COUNT,), generator=generator),
    )


def small(name: str = "cnn") -> Any:
    return build_model(name, image_shape=(1, 8, 8), classes=3, seed=1, width=2)


def passes_of(problem: Problem, method: str, epochs: int = 2, **given: Any) -> Passes:
    trial = Trial(problem, method, given, 0, CPU)
    for _ in range(epochs):
        trial.epoch()  # its evaluation on `val` does not count
    assert trial.passes is not None
    return trial.passes


def test_finetuning_sees_the_retain_set_once_an_epoch(problem: Problem) -> None:
    retain = len(problem.retain.samples.ids_N)
    assert passes_of(problem, "finetune") == Passes(forward=2 * retain, backward=2 * retain)


def test_mixunlearn_sees_two_images_a_pair_and_their_mixture(problem: Problem) -> None:
    """Each pair: three images of the unlearner; its mask; then the generator's and its mixture."""
    retain = len(problem.retain.samples.ids_N)
    found = passes_of(problem, "mixunlearn", epochs=1, gen_interval=1)
    assert found == Passes(forward=(3 + 1 + 2) * retain, backward=(3 + 2) * retain)


def test_scrub_sees_the_forget_set_only_in_its_first_epochs(problem: Problem) -> None:
    forget, retain = (len(part.samples.ids_N) for part in (problem.forget, problem.retain))
    found = passes_of(problem, "scrub", epochs=3, msteps=1)
    assert found == Passes(forward=forget + 3 * retain, backward=forget + 3 * retain)


def test_a_pass_without_gradients_counts_forward_alone() -> None:
    model, found = small(), Passes()
    with counted(found):
        predict(model, samples().images_NCHW)
        mean_loss(model, samples())
    predict(model, samples().images_NCHW)
    assert found == Passes(forward=2 * COUNT)


@pytest.mark.parametrize("name", ["cnn", "convnet"])
def test_images_that_are_computed_together_by_vmap_count_each(name: str) -> None:
    model, found = small(name), Passes()
    with counted(found):
        diagonal_fisher(model, samples())
    assert found == Passes(forward=COUNT, backward=COUNT)
    with counted(found):
        images = samples().batch(torch.arange(COUNT))
        labels_N = samples().labels(torch.arange(COUNT))
        batch_fisher(model, [(images, labels_N)])
    assert found == Passes(forward=2 * COUNT, backward=2 * COUNT)


def test_an_ensemble_counts_its_members_only() -> None:
    found = Passes()
    with counted(found), torch.no_grad():
        Ensemble([small(), small()])(samples().batch(torch.arange(4)))
    assert found == Passes(forward=8)


def test_a_replayed_step_counts_once_more() -> None:
    step, found = Passes(forward=3, backward=2), Passes()
    again(step)  # nobody counts
    with counted(found):
        again(step)
        again(step)
    assert found == Passes(forward=6, backward=4)
    assert found.in_training == pytest.approx((6 + 2 * 4) / 3)


def test_counts_go_on_from_a_checkpoint_or_are_unknown(problem: Problem) -> None:
    first, second = (Trial(problem, "finetune", {}, 0, CPU) for _ in range(2))
    first.epoch()
    state = first.state_dict()
    second.load_state_dict(state)
    second.epoch()
    retain = len(problem.retain.samples.ids_N)
    assert second.passes == Passes(forward=2 * retain, backward=2 * retain)
    del state["passes"], state["at_once"]  # as an earlier version wrote it
    second.load_state_dict(state)
    assert not any(name.startswith("cost/") for name in second.epoch())
    assert second.at_once > 1  # who shared the device then is unknown


def test_a_trial_says_what_it_costs_beside_a_retraining(problem: Problem) -> None:
    found = Trial(problem, "finetune", {}, 0, CPU).epoch()
    retain, epochs = len(problem.retain.samples.ids_N), 6
    assert found["cost/images_forward"] == found["cost/images_backward"] == retain
    assert found["cost/ratio_to_retrain"] == pytest.approx(1 / epochs)
    assert found["time/at_once"] == 1
    assert found["time/ratio_to_retrain"] > 0
    shared = Trial(problem, "finetune", {}, 0, CPU, at_once=2).epoch()
    assert shared["time/at_once"] == 2
    assert "time/ratio_to_retrain" not in shared
    beside = replace(problem.evaluator.references, at_once=None)  # of an earlier version
    evaluator = replace(problem.evaluator, references=beside)
    old = Trial(replace(problem, evaluator=evaluator), "finetune", {}, 0, CPU).epoch()
    assert "time/ratio_to_retrain" not in old
