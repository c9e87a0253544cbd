"""Parquet files that a user names: a file, a folder, a pattern or a list, here or at an address.

Addresses are read through pyarrow's file systems: `s3://`, `gs://`, `abfs://`, `hdfs://`, and
`hf://` with the package huggingface_hub.
"""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from mixunlearn.data.names import typed_path
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.files import Files
from mixunlearn.redaction import redact, redact_address

Named: TypeAlias = (
    str | Sequence[str]
)  # what a user writes: a file, a folder, a pattern, or several

SCHEMES = ("s3", "gs", "gcs", "hf", "abfs", "abfss", "hdfs", "file")
SUFFIX = ".parquet"
ANONYMOUS = "//anonymous@"  # how Google's public buckets are opened; no secret
# What the parts of a data set are called in file names, as in train-00000-of-00002.parquet.
PART_NAMES = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a file is.

    Args:
        key: the setting that names the file, for error messages.
        path: of the file, in its file system.
        filesystem: `None`: this machine's.
        version: of a file elsewhere: its path, size and time; "" for one on this machine, which
            is known by its content.
    """

    key: str
    path: Path
    filesystem: fs.FileSystem | None = None
    version: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder that images may be linked from; `None` for files elsewhere."""
        return self.path.parent if self.filesystem is None else None


def find(key: str, text: Named) -> list[Place]:
    """Return the files that `text` names, in sorted order.

    Args:
        key: the setting it belongs to, for error messages.
        text: a file, a folder or a pattern; on this machine, or an address of `SCHEMES`. In an
            address, only `*` and `**` are special. Or several of these: the order in which they
            are listed does not matter.

    Raises:
        InputError: there is no such file, a file is named twice, or an address cannot be used.
        MixUnlearnError: the address does not answer.
    """
    if isinstance(text, str):
        return _find(key, text)
    found = sorted((place for each in text for place in _find(key, each)), key=_order)
    for one, other in pairwise(found):
        if _order(one) == _order(other):
            raise InputError(key, str(other.path), "is named twice in the list: name it once")
    return found


def _order(place: Place) -> tuple[str, str, str]:
    """Return what files are sorted by, as a pattern would: those of this machine come first."""
    if place.filesystem is None:
        return "", os.path.abspath(place.path), ""  # noqa: PTH100 (links are kept, `..` is not)
    return place.filesystem.type_name, str(place.path), place.version


def _find(key: str, text: str) -> list[Place]:
    scheme, mark, _ = text.partition("://")
    if mark and scheme.lower() not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        remedy = f"unknown kind of address: use a path, or an address that begins with {known}"
        raise InputError(key, redact_address(text), remedy)
    if mark and scheme.lower() != "file":
        return _elsewhere(key, scheme.lower() + text[len(scheme) :])  # pyarrow knows no S3://
    return [Place(key=key, path=path) for path in _here(key, _local(key, text) if mark else text)]


def _local(key: str, address: str) -> str:
    parts = urlsplit(address)
    if parts.hostname not in {None, "localhost"}:
        remedy = f"{parts.hostname} would be another machine: write file:///FOLDER, or a path"
        raise InputError(key, redact_address(address), remedy)
    return unquote(parts.path)


def _here(key: str, text: str) -> list[Path]:
    path = typed_path(key, text)
    if path.is_dir():
        return [path / name for name in _of_folder(key, text, [each.name for each in _list(path)])]
    # A file that exists is meant literally, even if its name contains * or [.
    if path.exists() or not glob.has_magic(text):
        return [path]
    # glob.glob, because Path.glob does not accept absolute patterns.
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
    if not found:
        raise InputError(key, text, f"no file matches (from {Path.cwd()}): correct the pattern")
    return found


def _list(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # no permission; what a folder without files is told helps here as well
        return []


def _of_folder(key: str, text: str, names: Sequence[str]) -> list[str]:
    """Return the Parquet files among the names in a folder, all of one part of the data.

    Raises:
        InputError: there are none, or they are of several parts.
    """
    found = sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith("."))
    place, _, query = text.partition("?")
    inside = f"{place.rstrip('/')}/{{}}{'?' if query else ''}{query}"
    if not found:
        remedy = f"is a folder without {SUFFIX} files: name others, {inside.format('*')}"
        raise InputError(key, text, remedy)
    prefixes = {re.split(r"[-_.]", name)[0] for name in found}
    if len({PART_NAMES[prefix] for prefix in prefixes if prefix in PART_NAMES}) > 1:
        known = sorted(prefixes & PART_NAMES.keys())
        example = inside.format(f"{known[-1]}-*{SUFFIX}")
        remedy = f"has files of several parts ({', '.join(known)}): name one part, {example}"
        raise InputError(key, text, remedy)
    return found


def _elsewhere(key: str, text: str) -> list[Place]:
    shown = redact_address(text)
    _refuse_secret(key, text, shown)
    address, mark, query = text.partition("?")
    fixed, star, pattern = address.partition("*")
    base, _, begun = fixed.rpartition("/") if star else (address, "", "")
    filesystem, root = _opened(key, base + mark + query)
    try:
        if star:
            return _matching(key, text, filesystem, root, begun + star + pattern)
        (info,) = filesystem.get_file_info([root])
        if info.type == fs.FileType.Directory:
            listed = filesystem.get_file_info(fs.FileSelector(root))
            wanted = _of_folder(key, text, [each.base_name for each in listed])
            return _places(key, filesystem, [each for each in listed if each.base_name in wanted])
    except (OSError, pa.ArrowException) as error:
        raise unanswered(key, shown, error) from None
    if not info.is_file:
        raise InputError(key, shown, "no such file or folder: correct the address")
    return _places(key, filesystem, [info])


def _refuse_secret(key: str, text: str, shown: str) -> None:
    """Refuse an address with a password: it would be kept in plain text with the study."""
    plain = text.replace(ANONYMOUS, "//", 1)
    if redact_address(plain) != plain:
        remedy = "holds a secret: put it into the environment (AWS_ACCESS_KEY_ID, ...)"
        raise InputError(key, shown, remedy)


def _opened(key: str, address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address and the path in it."""
    files = Files(address)
    try:
        return files.filesystem, files.path
    except InputError as error:
        raise InputError(key, redact_address(address), error.remedy) from None
    except MixUnlearnError as error:
        raise MixUnlearnError(str(error).replace("storage.files", key, 1)) from None
    except ImportError:
        remedy = "needs a package: pip install huggingface_hub"
        raise InputError(key, redact_address(address), remedy) from None


def _matching(
    key: str, text: str, filesystem: fs.FileSystem, root: str, pattern: str
) -> list[Place]:
    """Return the files below a folder whose path in it matches a pattern."""
    selector = fs.FileSelector(root, allow_not_found=True, recursive="/" in pattern)
    wanted = _expression(pattern)
    start = len(root.rstrip("/")) + 1
    infos = filesystem.get_file_info(selector)
    found = [info for info in infos if info.is_file and wanted.fullmatch(info.path[start:])]
    if not found:
        raise InputError(key, redact_address(text), "no file matches: correct the pattern")
    return _places(key, filesystem, found)


def _expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern of files as a regular expression: `*` in a name, `**/` for any folders."""
    pieces = {"**/": "(?:.*/)?", "*": "[^/]*"}
    split = re.split(r"(\*\*/|\*)", pattern)
    return re.compile("".join(pieces.get(piece, re.escape(piece)) for piece in split))


def _places(key: str, filesystem: fs.FileSystem, infos: Sequence[fs.FileInfo]) -> list[Place]:
    return [
        Place(
            key=key,
            path=Path(info.path),
            filesystem=filesystem,
            version=f"{info.path} {info.size} {info.mtime_ns}",
        )
        for info in sorted(infos, key=lambda info: info.path)
    ]


def unanswered(key: str, shown: str, error: Exception) -> MixUnlearnError:
    """Return the error for an address that gave none or an unexpected answer."""
    reason = redact(str(error).partition("\n")[0].partition("; Details: ")[0])
    return MixUnlearnError(f"{key} = {shown!r}: {reason}; try again later, or correct it")
