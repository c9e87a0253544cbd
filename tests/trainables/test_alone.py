"""Work that is timed has its device to itself."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from mixunlearn.files import Files
from mixunlearn.own_recipe import OwnRecipe
from mixunlearn.problem import Problem
from mixunlearn.references import ReferenceStore
from trainables.alone import alone, beside
from trainables.evaluate import TestTask as Task
from trainables.evaluate import run_test_task
from trainables.hardware import at_once

CPU = torch.device("cpu")
SOON_S = 0.2


def test_work_waits_for_what_is_timed_and_the_other_way_round(tmp_path: Path) -> None:
    done = list[str]()

    def timed() -> None:
        with alone(CPU, tmp_path):
            done.append("timed")

    def shared() -> None:
        with beside(CPU, tmp_path):
            done.append("shared")

    with beside(CPU, tmp_path):
        other, waiting = threading.Thread(target=shared), threading.Thread(target=timed)
        other.start()
        other.join()  # work runs beside other work
        waiting.start()
        waiting.join(SOON_S)
        assert done == ["shared"]
    waiting.join()
    with alone(CPU, tmp_path):
        other = threading.Thread(target=shared)
        other.start()
        other.join(SOON_S)
        assert done == ["shared", "timed"]
    other.join()
    assert done == ["shared", "timed", "shared"]


def test_the_lock_is_of_one_user_and_leads_nowhere_else(tmp_path: Path) -> None:
    with alone(CPU, tmp_path) as had_it:
        assert had_it
        (path,) = tmp_path.iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
    with beside(CPU, tmp_path):  # the file of an earlier process is taken again
        assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")  # as another user could
    with alone(CPU, tmp_path) as had_it:
        assert not had_it
    assert not (tmp_path / "elsewhere").exists()


def test_outside_of_ray_a_trial_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # another test may have started it
    assert at_once(1, 0) == 1


def test_a_timed_task_is_measured_beside_a_retraining(
    problem: Problem, references: ReferenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.evaluate.TIMED_S", 0.0)
    task = Task(method="finetune", hyperparameters={}, seed=1, epochs=1, trial=None, most=8)
    evaluator, runs = references.evaluator("test"), Files.of(tmp_path)
    found = run_test_task(problem, evaluator, replace(task, timed=references.recipe), 1, runs)
    seconds = found.metrics["time/unlearn_s"], found.metrics["time/retrain_s"]
    assert found.metrics["time/ratio_to_retrain"] == pytest.approx(seconds[0] / seconds[1])
    assert found.metrics["time/at_once"] == 1
    # A user's own training cannot be cut into pieces.
    own = OwnRecipe(function="a:b", digest="0" * 64)
    other = run_test_task(problem, evaluator, replace(task, timed=own), 1, runs)
    assert "time/retrain_s" not in other.metrics
    # Neither how it is timed nor beside what changes the model.
    accuracies = [each.metrics["acc/test"] for each in (found, other)]
    assert accuracies[0] == accuracies[1]


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
def test_a_worker_counts_the_trials_that_its_node_has_room_for() -> None:
    remote = ray.remote(at_once).options(num_cpus=0)
    cpus = int(ray.cluster_resources()["CPU"])
    asked = [(1, 0, None), (0.5, 0, None), (1, 0, 1), (100, 0, None), (0.5, 1, None)]
    found = ray.get([remote.remote(*each) for each in asked])
    assert found == [cpus, 2 * cpus, 1, 1, 1]
