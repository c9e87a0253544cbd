"""Presets: the files in `experiments/`, found by name where the user has no such file."""

import uuid
from contextlib import suppress
from pathlib import Path

import yaml

from distributed.runtime.text import one_line
from mixunlearn.atomic import claim
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError, MixUnlearnError

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
    known = known_names(path.stem, presets(*FOLDERS[key]))
    return f"{missing}, and no preset has this name; {known}"


def names_file(words: str) -> bool:
    """Return whether a word that may stand for a file or for something else means a file."""
    path = Path(words)
    return words.endswith((SUFFIX, ".yml")) or named_file(path) != path


def about(path: Path) -> str:
    """Return what a preset is for: the first line of its comment."""
    return path.read_text().partition("\n")[0].removeprefix("#").strip()


def copy_preset(name: str, folder: Path) -> list[Path]:
    """Copy a preset to `folder / name.yaml`; return the new files.

    A plan of nights names its experiments: those that are not there yet are copied as well.

    Args:
        name: a key of `presets`.
        folder: where it goes, for example the current folder.

    Raises:
        InputError: there is no such preset, or a file of this name exists.
        MixUnlearnError: the file cannot be written.
    """
    known = presets(*dict.fromkeys(each for some in FOLDERS.values() for each in some))
    if name not in known:
        raise InputError("NAME", name, f"no such preset; {known_names(name, known)}")
    target = folder / f"{name}{SUFFIX}"
    if not _copied(known[name], target):
        remedy = "exists and is not overwritten; use it, or move it away"
        raise InputError("NAME", name, f"{target} {remedy}")
    named = yaml.safe_load(known[name].read_text()).get("experiments", ())
    beside = [(known[name].parent / each).resolve() for each in named]
    others = {each: folder / each.relative_to(PRESETS) for each in beside}
    return [target, *(other for each, other in others.items() if _copied(each, other))]


def _copied(preset: Path, target: Path) -> bool:
    """Copy a file; return False if there is one already."""
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(preset.read_bytes())
        return claim(temporary, target)
    except OSError as error:
        raise MixUnlearnError(f"{target}: {one_line(error)}; choose another folder") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
