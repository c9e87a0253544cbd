"""Figures about the code: sizes of files and functions, imports between parts, comments.

    python -m tests.structure [--at COMMIT ...]

prints one column for each commit and one for the working tree.
"""

import argparse
import ast
import io
import json
import subprocess
import sys
import tarfile
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import grimp
import networkx as nx
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mixunlearn", "trainables", "search_spaces", "report", "distributed")
LONG_FILE = 300  # lines


def measured(root: Path) -> dict[str, float]:
    """Return the figures of a checkout, by name."""
    sys.path.insert(0, str(root))
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    files = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    inside = [path for path in files if path.is_relative_to(root / "distributed")]
    sizes = [len(path.read_text().splitlines()) for path in inside]
    lengths = sorted(length for path in files for length in function_lengths(path))
    return {
        "distributed: parts in the folder": len(graph.find_children("distributed")),
        "distributed: files": len([path for path in inside if path.name != "__init__.py"]),
        "distributed: largest file, lines": max(sizes),
        f"distributed: files over {LONG_FILE} lines": sum(size > LONG_FILE for size in sizes),
        **imports_between_parts(graph),
        "all: largest file, lines": max(len(path.read_text().splitlines()) for path in files),
        "all: functions": len(lengths),
        "all: function length, median": median(lengths),
        "all: function length, 90th percentile": quantiles(lengths, n=10)[-1],
        "all: longest function": lengths[-1],
        "all: comments in 100 lines": comments_per_100_lines(files),
    }


def imports_between_parts(graph: grimp.ImportGraph) -> dict[str, float]:
    """Return figures about the imports between the parts of `distributed`.

    Floors are the parts on the longest path down; an arrow is a part that imports another one.
    """
    parts = nx.DiGraph()
    parts.add_nodes_from(graph.find_children("distributed"))
    fan_out = 0
    for module in graph.modules:
        if not module.startswith("distributed."):
            continue
        imported = graph.find_modules_directly_imported_by(module)
        fan_out = max(fan_out, len([name for name in imported if name.startswith(PACKAGES)]))
        above = part_of(module)
        below = {part_of(name) for name in imported if name.startswith("distributed.")}
        parts.add_edges_from((above, name) for name in below - {above})
    cycles = [group for group in nx.strongly_connected_components(parts) if len(group) > 1]
    return {
        "distributed: floors": len(nx.dag_longest_path(nx.condensation(parts))),
        "distributed: arrows": parts.number_of_edges(),
        "distributed: cycles": len(cycles),
        "distributed: largest fan-out of a file": fan_out,
    }


def part_of(module: str) -> str:
    """Return the child of `distributed` that a module belongs to."""
    return ".".join(module.split(".")[:2])


def function_lengths(path: Path) -> Iterator[int]:
    """Yield the lines of each function, signature included: no docstring, comment or blank line."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            numbers = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            if ast.get_docstring(node):
                docstring = node.body[0]
                numbers -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
            code = (lines[number - 1].strip() for number in numbers)
            yield sum(bool(line) and not line.startswith("#") for line in code)


def comments_per_100_lines(files: list[Path]) -> float:
    """Return the comments in 100 lines of code and docstrings; blank lines do not count."""
    comments = lines = 0
    for path in files:
        text = path.read_text()
        lines += sum(bool(line.strip()) for line in text.splitlines())
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        comments += sum(
            token.type == tokenize.COMMENT and "noqa" not in token.string for token in tokens
        )
    return 100 * comments / lines


def at_commit(commit: str) -> dict[str, float]:
    """Return the figures of a commit, measured by this script in another process."""
    with TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit, *PACKAGES], check=True, capture_output=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        words = [sys.executable, str(Path(__file__)), "--json", folder]
        run = subprocess.run(words, check=True, capture_output=True, text=True, cwd=folder)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def table(columns: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the figures side by side."""
    drawn = Table("figure", *columns)
    for name in next(iter(columns.values())):
        drawn.add_row(name, *(f"{figures[name]:.4g}" for figures in columns.values()))
    return drawn


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", nargs="*", default=[], metavar="COMMIT")
    parser.add_argument("--json", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.json:
        sys.stdout.write(json.dumps(measured(given.json)))
        return
    columns = {commit: at_commit(commit) for commit in given.at}
    Console().print(table({**columns, "here": measured(ROOT)}))


if __name__ == "__main__":
    main()
