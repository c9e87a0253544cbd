"""The scripts in `examples/` and the README's code work."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.warm import PARENT

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 40  # lines
PRINTED = {
    "compare_methods": r"(\w+ +\d+\.\d\d ± \d+\.\d\d pp \(n = 3\)\n){3}",
    "forget_37_images": r"Unlearned\(Net: neggrad, 3 epochs, .*\)\n +before .*difference\n"
    r"(accuracy .*\n){3}success .*\nunverified: 1 retrained model .*\n",
    "own_method": r"Balanced fulfils the contract of all methods\n",
    "unlearn_a_class": r"4 models trained\n(epoch \d: \d.* from retraining\n){3}",
}

pytestmark = pytest.mark.slow


def run(script: Path, folder: Path) -> str:
    """Run a script in a folder; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    out, err = folder / "out", folder / "err"
    with out.open("w") as printed, err.open("w") as said:
        words = [str(script)]
        process = PARENT.fork(words, printed.fileno(), said.fileno(), environment, folder)
        assert process.wait() == 0, err.read_text()
    return out.read_text()


def test_the_files_of_a_deletion_request_and_the_commands_of_its_page(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "deletion_request", tmp_path / "site")
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/requests.md").read_text(), re.S)
    commands = block.replace("\\\n", "").splitlines()
    assert commands[0] == "cd examples/deletion_request"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, more in {"python": [], "mixunlearn": ["-m", "mixunlearn"]}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join([*PARENT.quick, *more])} "$@"\n')
        program.chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    for command in commands[1:]:
        subprocess.run(
            shlex.split(command),
            cwd=tmp_path / "site",
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
    assert (tmp_path / "site/forgotten/model.safetensors").is_file()


def test_each_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES} == set(PRINTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    assert len(path.read_text().splitlines()) < LONGEST
    assert re.fullmatch(PRINTED[path.stem], run(path, tmp_path))


def test_an_example_trains_nothing_twice(tmp_path: Path) -> None:
    script = ROOT / "examples" / "unlearn_a_class.py"
    first, second = run(script, tmp_path), run(script, tmp_path)
    assert second == first.replace("4 models trained", "0 models trained")


def test_the_code_of_the_page_on_python_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    script = tmp_path / "page.py"
    script.write_text("".join(re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)))
    printed = run(script, tmp_path)
    assert printed.startswith("Unlearned(Sequential: salun, 6 epochs, ")
    assert re.search(r"^(different|undecided)( \S+){3}$", printed, re.M)
    assert (tmp_path / "unlearned.pt").exists()


def test_the_readme_s_code_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    script = tmp_path / "readme.py"
    script.write_text(code)
    numbers = [float(line) for line in run(script, tmp_path).split()]
    assert len(numbers) == 3
    assert min(numbers) >= 0
