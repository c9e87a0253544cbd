"""Presets: the files in `experiments/`, found by name where the user has no such file."""

from pathlib import Path

from mixunlearn.data.names import known_names

PRESETS = Path(__file__).resolve().parents[2] / "experiments"
SUFFIX = ".yaml"
# Which of them can be meant by a word of a command; "" is the folder itself.
FOLDERS = {
    "EXPERIMENT": ("",),
    "COMPARISON": ("small", "paper"),
    "PLAN": ("nightly",),
    "FILE": ("", "small", "paper"),
}


def presets(*folders: str) -> dict[str, Path]:
    """Return the presets in some folders, by name, such as `mnist_class` or `nightly/mnist`."""
    found = [path for folder in folders for path in sorted((PRESETS / folder).glob(f"*{SUFFIX}"))]
    return {path.relative_to(PRESETS).with_suffix("").as_posix(): path for path in found}


def named_file(path: Path) -> Path:
    """Return the file that a user names: that one, or a preset where there is no such file.

    Args:
        path: a path, or a preset's name, with or without `experiments/` and `.yaml`.
    """
    name = path.as_posix().removeprefix(f"{PRESETS.name}/").removesuffix(SUFFIX)
    preset = presets("", "small", "paper", "nightly").get(name)
    return preset if preset and not path.is_file() else path


def no_such(path: Path, key: str) -> str:
    """Return what to say of a file that does not exist: the names of the presets, if it has any."""
    missing = "no such file or directory"
    if key not in FOLDERS:
        return missing
    return f"{missing}, and no preset; {known_names(path.stem, presets(*FOLDERS[key]))}"


def names_file(words: str) -> bool:
    """Return whether a word that may stand for a file or for something else means a file."""
    path = Path(words)
    return path.suffix in {SUFFIX, ".yml"} or named_file(path) != path
