"""A copy of a deletion record beside the weights that it is about: are both as they were?"""

from collections.abc import Sequence
from pathlib import Path

from distributed.requests.record import Chain, DeletionRecord, read
from distributed.runtime.text import one_line
from mixunlearn.errors import CorruptError, InputError
from mixunlearn.files import digest
from mixunlearn.regular import require_regular

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".tar")  # suffixes of files of weights


def check_copy(path: Path, chain: Chain) -> list[str]:
    """Return what is wrong with a copied record, or with the weights beside it; one line each.

    If there are no weights beside it, nothing is said about them.

    Args:
        path: the copy, for example record.json in the folder that a request has written.
        chain: the records of the home.

    Raises:
        InputError: there is no such file.
    """
    try:
        require_regular(path)
    except OSError as error:
        raise InputError("FILE", str(path), f"{one_line(error)}; name a record") from error
    try:
        record = read(path)
    except CorruptError as error:
        return [f"{path.parent}: {error}"]
    return [*_stranger(path, record, chain.records), *_weights(path, record)]


def _stranger(path: Path, record: DeletionRecord, known: Sequence[DeletionRecord]) -> list[str]:
    """Return that a record is not in the chain, and what differs from the one in its place."""
    if record in known:
        return []
    own = next((each.as_json() for each in known if each.number == record.number), None)
    if own is None:
        return [f"{path}: the chain has no record {record.number}"]
    differing = [name for name, value in record.as_json().items() if own[name] != value]
    what = f"is not record {record.number} of the chain"
    return [f"{path}: {what}; what differs: {', '.join(differing)}"]


def sound(path: Path) -> str:
    """Return in a line what was checked of a copy with which nothing is wrong."""
    weights = "the weights beside it are its own" if _beside(path) else "no weights beside it"
    return f"{path} is in the chain; {weights}"


def _beside(path: Path) -> list[Path]:
    found = [each for each in sorted(path.parent.iterdir()) if each.suffix in WEIGHTS]
    return [each for each in found if each.is_file()]


def _weights(path: Path, record: DeletionRecord) -> list[str]:
    files = _beside(path)
    try:
        if not files or record.model.file in map(digest, files):
            return []
    except OSError as error:
        return [f"{path.parent}: the weights cannot be read: {one_line(error)}"]
    names = ", ".join(each.name for each in files)
    return [f"{path.parent}: the weights ({names}) are not those of record {record.number}"]
