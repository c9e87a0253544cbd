"""What every method must do, and what is special to MixUnlearn."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mixunlearn import testing
from mixunlearn.generator import MixBlock
from mixunlearn.methods import METHODS, Method
from mixunlearn.methods.mixunlearn import MixUnlearn
from mixunlearn.problem import Problem
from tests.quick_methods import quick
from tests.warm import PARENT

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent.parent / "golden"
EPOCHS = 3
# Enough of each method to forget something within three epochs of tiny data.
STRONG: dict[str, dict[str, Any]] = {
    "amnesiac": {"lr": 3e-3},
    "amun": {"lr": 3e-3, "with_forget": False},
    "ascent": {"lr": 3e-3},
    "bad_teacher": {"lr": 1e-3, "forget_weight": 10.0},
    "boundary": {"lr": 3e-3},
    "cf_k": {"lr": 3e-3},
    "cfw": {"lr": 0.02, "confuse": 1.0, "schedule_epochs": 3},
    "ct": {"lr": 3e-3},
    "delete": {"lr": 1e-3},
    "dsmixup": {},
    "esc": {},
    "eu_k": {"lr": 3e-3},
    "fcs": {},
    "finetune": {"lr": 3e-3},
    "fisher": {"alpha": 1e-6},
    "gli": {"lr": 3e-3, "lr_impair": 1e-3},
    "influence": {"alpha": 10.0},
    "jit": {},
    "kde": {"lr": 0.05, "lr_warmup": 0.02, "warmup_epochs": 1, "schedule_epochs": 3},
    "l1_sparse": {"lr": 3e-3, "gamma": 1e-3},
    "l2ul": {"lr": 0.01},
    "l_mix": {"lr": 1e-3},
    "laf": {"lr": 1e-3, "lr_ue": 1e-3, "tau": 0.5},
    "laf_r": {"lr": 1e-3, "lr_ue": 1e-3, "tau": 0.5, "lr_head": 1e-3},
    "lotus": {"lr": 1e-2, "alpha": 32.0, "retain_share": 1.0},
    "mixunlearn": {"lr": 1e-3},
    "msg": {"lr": 0.1, "share": 0.9},
    "mu_mis": {"lr": 1e-3},
    "neggrad": {"lr": 1e-3, "beta": 0.5},
    "original": {},
    "prmq": {"lr": 0.02, "share": 0.9},
    "rand_label_agnostic": {"lr": 1e-3, "forget_weight": 10.0},
    "random_label": {"lr": 1e-3, "forget_weight": 10.0},
    "retrain": {},
    "rni": {"lr": 0.02, "lr_last": 0.02, "fine_epochs": 2, "schedule_epochs": 3},
    "rum": {"lr": 3e-3, "middle": "neggrad", "high": "random_label", "schedule_epochs": 3},
    "salun": {"lr": 1e-3, "forget_weight": 10.0},
    "scrub": {"lr": 1e-3},
    "sfr_on": {},
    "sisa": {},
    "ssd": {"alpha": 5.0},
    "unroll": {"lr": 0.05, "sigma": 100.0},
    "unsir": {"share": 1.0},
}
DETERMINISTIC = {"esc", "influence", "original"}  # no random choice, with so few images
UNFORGETTING = {"finetune", "original"}  # baselines: they must at least not learn more


def prepared(name: str, problem: Problem, seed: int = 0, **parameters: Any) -> Method:
    method = METHODS[name](**parameters)
    method.prepare(problem.context(CPU, seed))
    return method


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_every_method_is_tested() -> None:
    assert set(STRONG) == set(METHODS)


RunsOf = Callable[[str], testing.Runs]


@pytest.fixture(scope="module")
def small(problem: Problem) -> Problem:
    """Five steps per epoch: enough for all clauses but that of forgetting."""
    forget, retain = testing.first(problem.forget, 40), testing.first(problem.retain, 160)
    return replace(problem, forget=forget, retain=retain)


@pytest.fixture(scope="module")
def runs_of(small: Problem) -> RunsOf:
    """The runs of a method that its tests share."""
    return cache(lambda name: testing.Runs(quick(name), small))


@pytest.mark.parametrize("name", METHODS)
class TestContract:
    def test_scalars_are_finite_and_their_names_stay(
        self, name: str, small: Problem, runs_of: RunsOf
    ) -> None:
        testing.check_scalars(quick(name), small, runs_of(name))

    def test_equal_seeds_give_equal_numbers_and_others_do_not(
        self, name: str, small: Problem, runs_of: RunsOf
    ) -> None:
        random = name not in DETERMINISTIC
        testing.check_seeds(quick(name), small, runs_of(name), random=random)

    def test_a_restored_state_goes_on_as_if_never_interrupted(
        self, name: str, small: Problem, runs_of: RunsOf
    ) -> None:
        testing.check_resume(quick(name), small, runs_of(name))

    def test_the_original_is_never_changed(
        self, name: str, small: Problem, runs_of: RunsOf
    ) -> None:
        testing.check_original(quick(name), small, runs_of(name))

    def test_it_forgets_more_than_the_original(self, name: str, problem: Problem) -> None:
        drop = 0 if name in UNFORGETTING else 50
        testing.check_forgets(METHODS[name], problem, STRONG[name], drop=drop)

    def test_it_works_without_labels_or_says_that_it_needs_them(
        self, name: str, small: Problem
    ) -> None:
        testing.check_labels(quick(name), small)

    def test_a_forget_set_smaller_than_a_batch_is_enough(
        self, name: str, tiny_forget_problem: Problem
    ) -> None:
        if METHODS[name].whole_classes:
            pytest.skip("a random task has no whole class to forget")
        testing.check_few(quick(name), tiny_forget_problem)


def test_a_problem_without_labels_is_the_one_that_methods_are_checked_on(
    problem: Problem, agnostic_problem: Problem
) -> None:
    without = replace(problem, with_labels=False).context(CPU, 0)
    assert without.forget.labels_N is None
    assert without.held_out.labels_N is None
    assert agnostic_problem.context(CPU, 0).retain.labels_N is without.retain.labels_N is None


@pytest.mark.parametrize("name", METHODS)
def test_numbers_are_those_of_the_golden_file(problem: Problem, name: str) -> None:
    """A refactoring must not change these; a deliberate change rewrites them and says why.

    Rewritten by: WRITE_GOLDEN=1 python -m pytest tests/core/test_methods.py -k golden
    """
    golden = GOLDEN / f"{name}.json"
    method = prepared(name, problem)
    found = [method.epoch() for _ in range(EPOCHS)]
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(json.dumps(found, indent=1) + "\n")
    for scalars, expected in zip(found, json.loads(golden.read_text()), strict=True):
        assert scalars == pytest.approx(expected, rel=2e-3, abs=1e-4)


def test_another_process_finds_the_same_numbers(problem: Problem, problem_file: Path) -> None:
    script = (
        "import sys, json, torch, pickle; torch.set_num_threads(1)\n"
        "from mixunlearn.methods import METHODS\n"
        "problem = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "method = METHODS['mixunlearn'](); "
        "method.prepare(problem.context(torch.device('cpu'), 5)); print(json.dumps(method.epoch()))"
    )
    run = subprocess.run(
        [*PARENT.quick, "-c", script, str(problem_file)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(run.stdout) == prepared("mixunlearn", problem, seed=5).epoch()


class TestMixUnlearn:
    def test_the_generators_step_leaves_the_unlearner_as_it_is_to_the_bit(
        self, batch_norm_problem: Problem
    ) -> None:
        method, forget_B, retain_B = self.ready(batch_norm_problem)
        before, generator = weights(method.model), weights(method.generator)
        images = self.images(method, forget_B, retain_B)
        method.update_generator(*images, forget_B, retain_B)
        assert equal(before, weights(method.model))
        assert all(parameter.grad is None for parameter in method.model.parameters())
        assert not equal(generator, weights(method.generator))

    def test_the_unlearners_step_leaves_the_generator_as_it_is_to_the_bit(
        self, batch_norm_problem: Problem
    ) -> None:
        method, forget_B, retain_B = self.ready(batch_norm_problem)
        before, generator = weights(method.model), weights(method.generator)
        images = self.images(method, forget_B, retain_B)
        method.update_unlearner(*images, forget_B, retain_B)
        assert equal(generator, weights(method.generator))
        assert all(parameter.grad is None for parameter in method.generator.parameters())
        assert not equal(before, weights(method.model))

    def test_the_generator_ascends_what_the_unlearner_descends(self, problem: Problem) -> None:
        adversarial, cooperative = (
            prepared("mixunlearn", problem, adversary=adversary, tau_gen=1.0, tau_mix=1.0)
            for adversary in ("unlearner", "none")
        )
        forget_B, retain_B = torch.arange(8), torch.arange(8)
        losses = []
        for method in (adversarial, cooperative):
            assert isinstance(method, MixUnlearn)
            images = self.images(method, forget_B, retain_B)
            method.step_number = 0
            losses.append(method.update_generator(*images, forget_B, retain_B)["loss_gen"])
        assert losses[0].item() == pytest.approx(-losses[1].item())

    @pytest.mark.parametrize("interval", [1, 2, 4, 8])
    def test_the_generator_is_updated_every_k_th_step(
        self, problem: Problem, interval: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        method = prepared("mixunlearn", problem, gen_interval=interval)
        steps: list[int] = []
        update = MixUnlearn.update_generator

        def spy(self: MixUnlearn, *arguments: Any) -> dict[str, torch.Tensor]:
            steps.append(self.step_number)
            return update(self, *arguments)

        monkeypatch.setattr(MixUnlearn, "update_generator", spy)
        method.epoch()
        total = -(-len(problem.retain.probs_NK) // method.batch)
        assert steps == list(range(0, total, interval))

    @pytest.mark.parametrize(
        ("variant", "scalars"),
        [
            ({"mixing": "mixup"}, {"loss", "loss_mix", "loss_real"}),
            ({"mixing": "none"}, {"loss", "loss_real"}),
            ({"real": False}, {"loss", "loss_mix", "loss_gen", "mask_forget"}),
            (
                {"adversary": "none"},
                {"loss", "loss_mix", "loss_real", "loss_gen", "mask_forget"},
            ),
        ],
        ids=["without MixBlock", "without L_mix", "without L_real", "without adversary"],
    )
    def test_variants_leave_out_what_they_say(
        self, problem: Problem, variant: dict[str, Any], scalars: set[str]
    ) -> None:
        method = prepared("mixunlearn", problem, **variant)
        assert method.epoch().keys() == scalars
        has_generator = any(isinstance(part, MixBlock) for part in method.parts().values())
        assert has_generator == ("loss_gen" in scalars)

    def test_plain_mixup_mixes_by_lambda(self, problem: Problem) -> None:
        method = prepared("mixunlearn", problem, mixing="mixup")
        assert isinstance(method, MixUnlearn)
        forget, retain = torch.ones(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
        mixed = method.mixture(forget, retain, torch.arange(2), torch.arange(2), torch.tensor(0.3))
        torch.testing.assert_close(mixed, torch.full((2, 1, 8, 8), 0.3))

    def test_without_sharpening_targets_are_the_originals_predictions(
        self, agnostic_problem: Problem
    ) -> None:
        method = prepared("mixunlearn", agnostic_problem, sharpen_T=1.0)
        assert isinstance(method, MixUnlearn)
        found = method.forget_targets_NK.numpy()
        np.testing.assert_allclose(found, agnostic_problem.forget.probs_NK, rtol=1e-5, atol=1e-7)

    def test_targets_with_labels_are_one_hot(self, problem: Problem) -> None:
        method = prepared("mixunlearn", problem)
        assert isinstance(method, MixUnlearn)
        found = method.retain_targets_NK.numpy()
        assert (found.max(axis=1) == 1).all()
        assert (found.argmax(axis=1) == problem.retain.samples.labels_N).all()

    @pytest.mark.parametrize("adversary", ["original", "ema"])
    def test_another_adversary_is_another_training(self, problem: Problem, adversary: str) -> None:
        usual = prepared("mixunlearn", problem, gen_interval=1)
        other = prepared("mixunlearn", problem, gen_interval=1, adversary=adversary)
        assert usual.epoch()["loss_gen"] != other.epoch()["loss_gen"]

    def test_the_moving_average_follows_the_unlearner(self, problem: Problem) -> None:
        method = prepared("mixunlearn", problem, adversary="ema")
        assert isinstance(method, MixUnlearn)
        start = weights(method.ema)
        method.epoch()
        name = "head.5.weight"
        moved = (method.ema.state_dict()[name] - start[name]).abs().sum()
        whole = (method.model.state_dict()[name] - start[name]).abs().sum()
        assert 0 < moved < whole

    def test_the_mask_penalty_pulls_the_mean_mask_to_lambda(self, problem: Problem) -> None:
        free = prepared("mixunlearn", problem, gen_interval=1, lr_gen=1e-2)
        held = prepared(
            "mixunlearn", problem, gen_interval=1, lr_gen=1e-2, mask_weight=10.0, alpha=4.0
        )
        masks = [(free.epoch()["mask_forget"], held.epoch()["mask_forget"]) for _ in range(EPOCHS)]
        free_mask, held_mask = masks[-1]
        assert abs(held_mask - 0.5) < abs(free_mask - 0.5)

    @staticmethod
    def ready(problem: Problem) -> tuple[MixUnlearn, torch.Tensor, torch.Tensor]:
        method = prepared("mixunlearn", problem, stage="block2")
        assert isinstance(method, MixUnlearn)
        method.model.train()
        return method, torch.arange(8), torch.arange(8)

    @staticmethod
    def images(
        method: MixUnlearn, forget_B: torch.Tensor, retain_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        context = method.context
        return context.forget.batch(forget_B), context.retain.batch(retain_B)


def test_a_demonstration_shows_the_masks_and_what_they_mix(problem: Problem) -> None:
    method = prepared("mixunlearn", problem, lr=1e-3)
    assert isinstance(method, MixUnlearn)
    method.epoch()
    before, state = weights(method.model), method.rng.bit_generator.state
    forget_B, retain_B = torch.arange(5), torch.arange(5, 10)
    lam_B = torch.linspace(0.1, 0.9, 5)
    masks, mixed = method.demonstrate(forget_B, retain_B, lam_B)
    assert masks.shape == (5, *problem.forget.samples.images_NCHW.shape[2:])
    assert 0 <= masks.min() < masks.max() <= 1
    forget = problem.forget.samples.images_NCHW[:5] / 255
    retain = problem.retain.samples.images_NCHW[5:10] / 255
    share = masks.numpy()[:, None]
    np.testing.assert_allclose(mixed, share * forget + (1 - share) * retain, atol=1e-6)
    alone, _ = method.demonstrate(forget_B[3:4], retain_B[3:4], lam_B[3:4])
    torch.testing.assert_close(alone[0], masks[3])  # each pair has its own λ
    assert equal(before, weights(method.model))
    assert method.rng.bit_generator.state == state
