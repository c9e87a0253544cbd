"""The trainables as Tune drives them: in their own process, reused, killed, resumed."""

import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray import tune

from distributed.search.storage_news import StorageNews
from mixunlearn.files import Files
from mixunlearn.problem import Problem
from mixunlearn.references import ReferenceStore
from mixunlearn.store import Store
from mixunlearn.trial import Trial
from trainables.checkpoint import identity, latest
from trainables.evaluate import TestResult as Result
from trainables.evaluate import TestTask as Task
from trainables.evaluate import evaluate_remotely, run_test_task
from trainables.reference import ReferenceTrainable, name_of
from trainables.unlearn import UnlearnTrainable

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("shared_ray")]

EPOCHS = 3
FIRST = {"lr": 1e-3, "gen_interval": 1, "adversary": "ema", "batch": 64, "trial": 0, "seed": 1}
SECOND = {"lr": 3e-4, "gen_interval": 2, "stage": "pool1", "trial": 1, "seed": 2}


class Killer(tune.Callback):  # type: ignore[misc] # Ray has no types
    """Kills the worker of a trial, once, after its second epoch."""

    killed = 0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result["training_iteration"] == 2 and not self.killed:
            self.killed = result["pid"]
            os.kill(self.killed, signal.SIGKILL)


class Thief(tune.Callback):  # type: ignore[misc]
    """Takes the folder of the run away and brings it back; then deletes it for good."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.aside = folder, folder.with_name("aside")
        self.said: list[str] = []
        self.news = StorageNews(Files.of(folder), self.said.append)
        self.killed = False

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.news.result(trial, result)
        match trial.config["trial"], result["epoch"]:
            case 0, 1 if self.killed:
                self.folder.unlink()
                self.aside.rename(self.folder)
            case 0, 1:
                self.folder.rename(self.aside)
                self.folder.touch()
            case 0, 2 if not self.killed:
                self.killed = True
                os.kill(result["pid"], signal.SIGKILL)
            case 1, 1:
                (run,) = self.folder.iterdir()
                shutil.rmtree(run)

    def on_checkpoint(self, **info: Any) -> None:
        self.news.checkpoint()


def trainable(problem: Problem, folder: Path) -> Any:
    """Return the trainable as a sweep gives it to Tune; its checkpoints are in the folder."""
    return tune.with_parameters(
        UnlearnTrainable,
        problem=problem,
        method="mixunlearn",
        objective="gap/avg",
        checkpoints=Files.of(folder),
        limit=None,
    )


def run(
    problem: Problem,
    configs: Sequence[dict[str, Any]],
    folder: Path,
    callbacks: Sequence[tune.Callback] = (),
) -> list[dict[str, Any]]:
    """Run configurations one after the other on one actor; return their last results."""
    results = tune.Tuner(
        tune.with_resources(trainable(problem, folder), {"cpu": 1}),
        param_space=tune.grid_search([dict(config) for config in configs]),
        tune_config=tune.TuneConfig(
            max_concurrent_trials=1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['trial']:04d}",
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            stop={"epoch": EPOCHS},
            callbacks=list(callbacks),
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
            verbose=0,
        ),
    ).fit()
    assert not results.errors
    return sorted((dict(result.metrics) for result in results), key=lambda m: m["config"]["trial"])


def here(
    problem: Problem,
    config: dict[str, Any],
    folder: Path,
    *,
    name: str = "run",
    epochs: int = EPOCHS,
) -> list[dict[str, Any]]:
    """Run a configuration in this process and save it at the end; return all results."""
    actor = trainable(problem, folder)(config=dict(config))
    results = [actor.train()]
    while not results[-1]["done"] and results[-1]["epoch"] < epochs:
        results.append(actor.train())
    place = folder / name / f"{config['trial']:04d}" / f"checkpoint_{len(results):06d}"
    place.mkdir(parents=True)
    actor.save(str(place))
    actor.stop()
    return results


def epochs_of(results: Sequence[dict[str, Any]]) -> list[int]:
    return [result["epoch"] for result in results]


def numbers(result: dict[str, Any]) -> dict[str, float]:
    """Return what must not depend on when and where a trial ran."""
    metrics = {name: value for name, value in result.items() if "/" in name}
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


_known: dict[tuple[int, str], dict[str, float]] = {}  # several tests compare with the same trial


def alone(problem: Problem, config: dict[str, Any]) -> dict[str, float]:
    """Return the last epoch's numbers of a trial without Ray."""
    content = {name: value for name, value in config.items() if name not in ("trial", "seed")}
    key = id(problem), json.dumps([content, config["seed"]])
    if key not in _known:
        trial = Trial(problem, "mixunlearn", content, config["seed"], torch.device("cpu"))
        _known[key] = numbers([trial.epoch() for _ in range(EPOCHS)][-1])
    return _known[key]


def test_a_trial_after_another_on_one_actor_is_the_trial_alone(
    problem: Problem, tmp_path: Path
) -> None:
    first, second = run(problem, [FIRST, SECOND], tmp_path)
    assert first["pid"] == second["pid"]
    assert len(numbers(second)) > 20
    assert numbers(second) == alone(problem, SECOND)
    assert numbers(first) == alone(problem, FIRST)


def test_a_killed_worker_goes_on_with_the_numbers_of_an_uninterrupted_trial(
    problem: Problem, tmp_path: Path
) -> None:
    killer = Killer()
    (result,) = run(problem, [FIRST], tmp_path, [killer])
    assert killer.killed not in (0, result["pid"])
    assert numbers(result) == alone(problem, FIRST)


def test_no_trial_fails_because_its_checkpoints_cannot_be_written_or_are_gone(
    problem: Problem, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    thief = Thief(folder)
    first, second = run(problem, [FIRST, SECOND], folder, [thief])
    assert numbers(first) == alone(problem, FIRST)
    assert numbers(second) == alone(problem, SECOND)
    assert thief.killed
    away, back, gone, again = thief.said
    assert away.startswith("checkpoints cannot be written: ")
    assert away.endswith("; going on without them")
    assert f"the folder {folder}/" in gone
    assert back == again == "checkpoints are written again"
    assert not list(folder.glob("*/*/checkpoint_*[!0-9]*"))


def test_a_checkpoint_of_which_the_record_knows_nothing_is_not_taken(
    problem: Problem, tmp_path: Path
) -> None:
    here(problem, FIRST, tmp_path, epochs=1)
    here(problem, FIRST, tmp_path, epochs=2, name="run-2")
    # A record that was lost, one that was put back from a copy, and the whole one.
    for recorded, expected in ((0, [1, 2, 3]), (1, [1, 2, 3]), (2, [2, 3])):
        results = here(problem, {**FIRST, "recorded": recorded}, tmp_path, name=f"a-{recorded}")
        assert epochs_of(results) == expected
        assert numbers(results[-1]) == alone(problem, FIRST)


def test_a_trial_of_an_earlier_run_goes_on_from_its_checkpoint(
    problem: Problem, tmp_path: Path
) -> None:
    before = here(problem, FIRST, tmp_path, epochs=2)
    after = here(problem, FIRST, tmp_path, name="run-2")
    assert epochs_of(after) == [2, 3]  # the decision on the last evaluated epoch is repeated
    assert numbers(after[0]) == numbers(before[-1])
    assert numbers(after[-1]) == alone(problem, FIRST)


def test_a_damaged_checkpoint_is_passed_over(problem: Problem, tmp_path: Path) -> None:
    here(problem, FIRST, tmp_path, epochs=1)
    here(problem, FIRST, tmp_path, epochs=2, name="run-2")
    (newest,) = tmp_path.glob("run-2/*/checkpoint_*/state.safetensors")
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    results = here(problem, FIRST, tmp_path, name="run-3")
    assert epochs_of(results) == [1, 2, 3]
    assert numbers(results[-1]) == alone(problem, FIRST)


def test_a_checkpoint_of_another_trial_is_not_taken(problem: Problem, tmp_path: Path) -> None:
    here(problem, FIRST, tmp_path, epochs=2)
    other = {**SECOND, "trial": FIRST["trial"]}
    results = here(problem, other, tmp_path, name="run-2")
    assert epochs_of(results) == [1, 2, 3]
    assert numbers(results[-1]) == alone(problem, other)


def test_what_a_method_raises_ends_its_trial_without_another_try(
    problem: Problem, tmp_path: Path
) -> None:
    lacking = replace(problem.evaluator.references, seconds=[1.0])
    evaluator = replace(problem.evaluator, references=lacking)
    (result,) = here(replace(problem, evaluator=evaluator), FIRST, tmp_path)
    assert np.isnan(result["gap/avg"])
    assert result["failure"] == "IndexError: list index out of range"
    # A retry with the missing part does not continue from where it failed.
    assert numbers(here(problem, FIRST, tmp_path, name="run-2")[-1]) == alone(problem, FIRST)


def test_a_diverged_trial_reports_nan_and_ends(problem: Problem, tmp_path: Path) -> None:
    broken = {name: np.full_like(array, np.nan) for name, array in problem.original.items()}
    (result,) = run(replace(problem, original=broken), [FIRST], tmp_path)
    assert np.isnan(result["gap/avg"])
    assert result["training_iteration"] == 1
    assert "diverged" in result["failure"]


def test_an_examination_goes_on_from_a_checkpoint_to_the_same_model(
    references: ReferenceStore, problem: Problem, tmp_path: Path
) -> None:
    hyperparameters = {
        name: value for name, value in FIRST.items() if name not in ("trial", "seed")
    }
    here(problem, FIRST, tmp_path)
    tasks = [
        Task(
            method="mixunlearn",
            hyperparameters=hyperparameters,
            seed=1,
            epochs=EPOCHS + 1,
            trial=trial,
        )
        for trial in (0, None)
    ]
    evaluator, files = references.evaluator("test"), Files.of(tmp_path)
    resumed: Result = ray.get(evaluate_remotely.remote(problem, evaluator, tasks[0], 1, files))
    whole = run_test_task(problem, evaluator, tasks[1], 1, files)
    assert latest(Files.of(tmp_path), "0000", identity("mixunlearn", hyperparameters, 1))
    assert numbers(dict(resumed.metrics)) == numbers(dict(whole.metrics))
    assert all((resumed.weights[name] == whole.weights[name]).all() for name in whole.weights)
    assert "acc/test_retain" in whole.metrics


def test_a_killed_reference_is_the_reference_of_an_uninterrupted_training(
    references: ReferenceStore, tmp_path: Path
) -> None:
    member = references.members[1]
    empty = replace(references, store=Store(tmp_path / "store"))
    killer = Killer()
    tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                ReferenceTrainable, stores=[empty], checkpoints=Files.of(tmp_path)
            ),
            {"cpu": 1},
        ),
        param_space={"wanted": {"store": 0, "members": [asdict(member)]}},
        tune_config=tune.TuneConfig(
            trial_dirname_creator=lambda trial: name_of(references, [member])
        ),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            callbacks=[killer],
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
            verbose=0,
        ),
    ).fit()
    assert killer.killed
    whole, killed = references.load(member).state_dict(), empty.load(member).state_dict()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert empty.evaluation(member, "test").metrics == references.evaluation(member, "test").metrics
