"""What a request forgets: listed images, images of which there are copies, or whole classes."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed.runtime.text import one_line
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.named_rows import row_names
from mixunlearn.data.names import known_names, typed_path
from mixunlearn.errors import InputError

KEY = "--forget"
CLASS = "class:"
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
LONGEST_NUMBER = 9  # digits of the number of a class


def task_of(forget: str | Sequence[int], dataset: Dataset) -> dict[str, Any]:
    """Return the task for what must be forgotten.

    Args:
        forget: `class:NAME`, a file of ids, a folder with copies of the images, or rows.
        dataset: the images.

    Raises:
        InputError: there is no such file, or a copy has no counterpart.
    """
    if not isinstance(forget, str):
        return {"kind": "ids", "ids": list(forget)}
    if forget.startswith(CLASS):
        classes = _classes(forget.removeprefix(CLASS), dataset.classes)
        return {"kind": "class", "classes": classes}
    path = require_list(forget)
    return {"kind": "ids", "ids": copies(path, dataset) if path.is_dir() else str(path)}


def require_list(forget: str) -> Path:
    """Return the path of a list or of a folder of copies.

    Raises:
        InputError: there is none.
    """
    path = typed_path(KEY, forget)
    if not path.is_dir() and not path.is_file():
        remedy = "no such file or folder; give a list of ids, a folder of images, or class:NAME"
        raise InputError(KEY, forget, remedy)
    return path


def _classes(written: str, names: Sequence[str]) -> list[int | str]:
    """Return the classes in a text, which are separated by commas.

    A name goes before a number: where classes are called 10, 20 and so on, `class:10` is the class
    of that name, whatever its number is. So does a name with a comma.
    """
    parts = [written] if written in names else [part.strip() for part in written.split(",")]
    return [int(part) if _is_number(part) and part not in names else part for part in parts]


def _is_number(text: str) -> bool:
    # No digits of other scripts, which Python would take.
    return text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER


def copies(folder: Path, source: Dataset) -> list[str]:
    """Return the names that the source gives to the images in a folder of copies.

    Raises:
        InputError: an image has no counterpart, or several, or the folder cannot be read.
    """
    try:
        files = sorted(
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.suffix.lower() in PICTURES and path.is_file()
        )
    except OSError as error:
        remedy = f"cannot be read ({one_line(error)}); give a folder with the copies alone"
        raise InputError(KEY, str(folder), remedy) from error
    if not files:
        raise InputError(KEY, str(folder), "holds no image: give copies of the images")
    named = row_names(source)
    if "path" not in named:
        remedy = "the data set's images have no file names; give a list of rows, not a folder"
        raise InputError(KEY, str(folder), remedy)
    names = [name for name in named["path"]().to_pylist() if name is not None]
    whole, by_end = {*names}, dict[str, list[str]]()
    for name in names:
        by_end.setdefault(name.rpartition("/")[2], []).append(name)
    return [_counterpart(file, whole, by_end) for file in files]


def _counterpart(file: str, names: set[str], by_end: Mapping[str, Sequence[str]]) -> str:
    if file in names:
        return file
    alike = by_end.get(file.rpartition("/")[2], ())
    if len(alike) == 1:
        return alike[0]
    if alike:
        remedy = f"{len(alike)} images have this name ({alike[0]}, ...): keep their folders"
    else:
        remedy = f"no training image has this name; {known_names(file, sorted(names))}"
    raise InputError(KEY, file, remedy)


def without_lists(command: str) -> str:
    """Return a command without the names of its lists: a file can be called like a person.

    Args:
        command: as for a shell.
    """
    words = shlex.split(command)
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option not in (KEY, "--requests"):
            continue
        if equals and not value.startswith(CLASS):
            words[place] = f"{option}=LIST"
        elif not equals and place + 1 < len(words) and not words[place + 1].startswith(CLASS):
            words[place + 1] = "LIST"
    return shlex.join(words)
