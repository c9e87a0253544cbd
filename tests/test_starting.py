"""How tests start processes, warm or cold, and that they import no more than they need."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.warm import COLD, PARENT, PATIENCE, Parent, Plain, is_cold
from tests.worker import COMMAND

ROOT = Path(__file__).parents[1]
COLLECT = """
import sys
import pytest

class OneOfEach:
    def pytest_collection_modifyitems(self, items):
        items[:] = {item.path: item for item in items}.values()

code = pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", *sys.argv[1:]], [OneOfEach()])
heavy = {"ray", "mlflow", "optuna", "distributed", "trainables"}
print("imported:", *sorted(heavy & set(sys.modules)))
sys.exit(code)
"""
CHOICE = "from tests.warm import BY_PIPE, PARENT; print(type(PARENT).__name__, len(BY_PIPE))"


def python(
    *words: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-c", *words],
        cwd=ROOT,
        env={**kept, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pure_functions_are_tested_without_ray_mlflow_and_optuna() -> None:
    # Files with no fixture, with a problem and its references, and with a summary: a test of each.
    tests = ("core/test_losses.py", "core/test_ct.py", "report/test_tables.py")
    done = python(COLLECT, *(f"tests/{each}" for each in tests))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.parametrize(
    ("platform", "environment", "cold"),
    [
        ("linux", {}, False),
        ("linux", {"TESTS_COLD": "0"}, False),
        ("linux", {"TESTS_COLD": "1"}, True),
        ("darwin", {}, True),
        ("win32", {"TESTS_COLD": "0"}, True),
    ],
)
def test_processes_start_cold_where_asked_or_where_nothing_else_works(
    platform: str, environment: dict[str, str], cold: bool
) -> None:
    assert is_cold(platform, environment) is cold


@pytest.mark.timeout(100)
def test_a_test_has_more_time_where_processes_start_cold(request: pytest.FixtureRequest) -> None:
    limit = request.node.get_closest_marker("timeout")
    assert limit
    assert limit.args == (100 * PATIENCE,)


@pytest.mark.parametrize(("variable", "expected"), [("0", "Parent 1"), ("1", "Plain 0")])
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere everything starts cold")
def test_the_variable_switches_the_fork_server_off(variable: str, expected: str) -> None:
    done = python(CHOICE, environment={"TESTS_COLD": variable})
    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize(
    "starter", [PARENT, *([] if COLD else [Plain()])], ids=lambda it: type(it).__name__
)
def test_a_command_is_started_and_tells_its_end(starter: Parent | Plain, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = starter.fork([COMMAND, "--help"], out.fileno(), err.fileno(), os.environ)
        assert process.wait(120) == 0
    assert process.poll() == process.returncode == 0
    assert "sweep" in (tmp_path / "out").read_text()
    process.send_signal(signal.SIGKILL)  # a signal to a process that has ended does nothing
