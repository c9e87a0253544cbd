"""Several processes take the steps that one takes, with the same batches."""

import pickle
import subprocess
from pathlib import Path

import pytest
import torch

from mixunlearn.parallel import Team
from mixunlearn.problem import Problem
from tests.joint import Found, main
from tests.warm import PARENT

ROOT = Path(__file__).parents[2]
LIMIT_S = 300.0
PATIENT_S = 200.0


def started(problem: Path, team: Team, folder: Path, stage: str) -> subprocess.Popen[bytes]:
    """Start a process of a team in the background."""
    words = [problem, team.rank, team.size, folder / "meeting", folder / "found", stage]
    command = [*PARENT.quick, "-m", "tests.joint", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def together(problem: Problem, folder: Path, stage: str) -> Found:
    """Return what process 0 of two has found."""
    (folder / "problem").write_bytes(pickle.dumps(problem))
    processes = [
        started(folder / "problem", Team(rank=rank, size=2), folder, stage) for rank in range(2)
    ]
    for process in processes:
        process.communicate(timeout=LIMIT_S)
    assert [process.returncode for process in processes] == [0, 0]
    found: Found = torch.load(folder / "found")
    return found


@pytest.mark.parametrize(
    ("fixture", "stage"), [("problem", "pool2"), ("batch_norm_problem", "block2")]
)
def test_two_processes_find_what_one_finds(
    fixture: str, stage: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    problem: Problem = request.getfixturevalue(fixture)
    alone, found = main(problem, stage), together(problem, tmp_path, stage)
    assert alone.keys() == found.keys()
    for name, (weights, scalars) in alone.items():
        for key, value in weights.items():
            close = torch.allclose(found[name][0][key], value, atol=1e-5, rtol=1e-5)
            assert close, f"{name}: {key}"
        assert found[name][1] == pytest.approx(scalars, rel=1e-4, abs=1e-5), name


def test_a_process_ends_when_another_one_has_died(problem: Problem, tmp_path: Path) -> None:
    (tmp_path / "problem").write_bytes(pickle.dumps(problem))
    first, second = (
        started(tmp_path / "problem", Team(rank=rank, size=2), tmp_path, "pool2")
        for rank in range(2)
    )
    with first, second:
        assert second.stdout is not None
        assert second.stdout.readline() == b"joined\n"
        second.kill()
        assert first.wait(PATIENT_S) != 0


@pytest.mark.parametrize("count", [2, 3, 32, 33])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_row_is_computed_by_one_process(count: int, size: int) -> None:
    rows = [range(count)[Team(rank=rank, size=size).rows(count)] for rank in range(size)]
    assert [row for part in rows for row in part] == list(range(count))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
