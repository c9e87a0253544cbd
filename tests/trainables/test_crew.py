"""A trial with several GPUs: its worker and helpers; here on CPUs, with Ray's real actors."""

import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import get, tune
from ray.tune import PlacementGroupFactory

import trainables.crew
from mixunlearn.files import Files
from mixunlearn.parallel import joined
from mixunlearn.problem import Problem
from mixunlearn.references import ReferenceStore
from mixunlearn.store import Store
from mixunlearn.trial import Trial
from tests.problems import recipe_of
from trainables import evaluate
from trainables.crew import Crew, crew_of_trial
from trainables.evaluate import TestTask as Task
from trainables.evaluate import unlearned
from trainables.reference import ReferenceTrainable
from trainables.unlearn import UnlearnTrainable

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray", "one_thread"),
]

CPU = torch.device("cpu")
TWO = PlacementGroupFactory([{"CPU": 1, "GPU": 2}])
SGD = {"optimizer": "sgd", "lr": 0.01}


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Paired(UnlearnTrainable):
    """A worker that believes it has two GPUs; it kills its helper once, in its second epoch."""

    trial_resources = TWO

    def setup(self, config: dict[str, Any], **given: Any) -> None:  # type: ignore[override]
        self.mark = Path(config.pop("mark"))
        super().setup(config, **given)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return super().reset_config({k: v for k, v in new_config.items() if k != "mark"})

    def step(self) -> dict[str, Any]:
        if self.trial.epochs_done == 1 and not self.again and not self.mark.exists():
            self.mark.touch()
            (helper,) = self.crew.helpers
            os.kill(get(helper.__ray_call__.remote(lambda me: os.getpid())), signal.SIGKILL)
        return super().step() | {"processes": joined().size}


def test_a_trial_goes_on_after_its_helper_was_killed(problem: Problem, tmp_path: Path) -> None:
    trainable = tune.with_parameters(
        Paired,
        problem=problem,
        method="random_label",
        objective="gap/avg",
        checkpoints=Files.of(tmp_path / "runs"),
        limit=None,
    )
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={**SGD, "trial": 0, "seed": 1, "mark": str(tmp_path / "killed")},
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(tmp_path / "runs"),
            stop={"epoch": 3},
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            verbose=0,
        ),
    ).fit()
    assert (tmp_path / "killed").exists()
    metrics = results[0].metrics
    assert metrics is not None
    assert (metrics["processes"], metrics["epoch"]) == (2, 3)
    alone = Trial(problem, "random_label", SGD, 1, CPU)
    expected = [alone.epoch() for _ in range(3)][-1]
    for name in ("train/loss", "cost/images_forward", "acc/val_retain"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-4)


class Trained(ReferenceTrainable):
    """A worker that believes it has two GPUs."""

    trial_resources = TWO


def actor(store: ReferenceStore, folder: Path) -> Any:
    """Return the trainable of the original, in this process."""

    class Here(Trained):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, stores=[store], checkpoints=Files.of(folder))

    return Here(config={"wanted": {"store": 0, "members": [asdict(store.original)]}})


def test_originals_are_trained_by_a_crew(references: ReferenceStore, tmp_path: Path) -> None:
    recipe = replace(recipe_of(references), epochs=2, optimizer="sgd", lr=0.02)
    alone, shared = (
        replace(references, store=Store(tmp_path / name), recipe=recipe) for name in ("a", "b")
    )
    training = actor(shared, tmp_path / "runs")
    assert joined().size == 2
    assert not training.train()["done"]
    assert training.train()["done"]
    training.stop()
    assert joined().size == 1
    expected = alone.training(alone.original, CPU)
    for _ in range(2):
        expected.epoch()
    for name, value in shared.load(shared.original).state_dict().items():
        torch.testing.assert_close(value, expected.model.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_tests_are_unlearned_by_a_crew(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "gpus_of_task", lambda: 2.0)
    crews: list[Crew] = []

    def made(*given: Any) -> Crew:
        crews.append(crew_of_trial(*given))
        return crews[-1]

    monkeypatch.setattr(evaluate, "crew_of_trial", made)
    task = Task(method="random_label", hyperparameters=SGD, seed=1, epochs=1, trial=None)
    trial, effort = unlearned(problem, task, CPU, 1)
    assert [crew.size for crew in crews] == [2]
    assert joined().size == 1
    alone = Trial(problem, "random_label", SGD, 1, CPU)
    alone.unlearn()
    for name, value in alone.method.model.state_dict().items():
        torch.testing.assert_close(
            trial.method.model.state_dict()[name], value, atol=1e-5, rtol=1e-4
        )
    assert effort.passes == alone.passes


def test_what_fails_in_all_processes_fails_as_it_does_in_one(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainables.crew, "GRACE_S", 1.0)
    crew = crew_of_trial(problem, "neggrad", 2, CPU)
    hyperparameters = {**SGD, "lr": float("nan")}
    with crew:
        crew.start("neggrad", hyperparameters, 1)
        trial = Trial(problem, "neggrad", hyperparameters, 1, CPU)
        with pytest.raises(Exception, match="nan"), crew.epoch():
            trial.unlearn()
        with pytest.raises(ZeroDivisionError), crew.epoch():
            raise ZeroDivisionError
        assert not crew.helpers
        assert joined().size == 1


def test_a_method_without_steps_is_alone(problem: Problem) -> None:
    assert crew_of_trial(problem, "ssd", 2, CPU).size == 1
    assert crew_of_trial(problem, "neggrad", 0.25, CPU).size == 1
    assert crew_of_trial(problem, "neggrad", 3, CPU).size == 3
