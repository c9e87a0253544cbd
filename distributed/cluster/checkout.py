"""The checkout: its files that git tracks, and the archive of them that a cluster gets."""

import os
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mixunlearn.errors import InputError, MixUnlearnError

ROOT = Path(__file__).resolve().parents[2]
# All that is shipped where there is no git, as from an image: the program, and nothing of its user.
PROGRAM = ("distributed", "mixunlearn", "report", "search_spaces", "trainables")
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first date that a ZIP file can hold


def git(*words: str) -> str:
    """Return what git prints about the checkout.

    Raises:
        OSError, subprocess.SubprocessError: there is no git, or it fails.
    """
    command = ["git", "-C", str(ROOT), *words]
    run = subprocess.run(command, check=True, capture_output=True, timeout=10)
    return os.fsdecode(run.stdout).strip()


@contextmanager
def archive(asked: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a ZIP file of what a cluster gets; it is deleted at the end.

    Its bytes depend only on the names and contents: Ray does not send again what it has.

    Args:
        asked: files and folders in the checkout that are shipped although git does not track them.

    Raises:
        InputError: one of them is missing or outside; or a link leads to what is not shipped.
        MixUnlearnError: git cannot list the files.
    """
    names = shipped(asked)
    with TemporaryDirectory(prefix="mixunlearn-") as folder:
        path = Path(folder) / "checkout.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name in names:
                member = zipfile.ZipInfo(name, EARLIEST)
                made.writestr(member, (ROOT / name).read_bytes(), zipfile.ZIP_DEFLATED)
        yield path


def shipped(asked: Sequence[Path] = ()) -> list[str]:
    """Return the names of the files that a cluster gets, relative to the checkout; see `archive`.

    These are the files that git tracks, as they are now; without git, the program's own.
    """
    own = _tracked() or [file for name in PROGRAM for file in _below(ROOT / name)]
    names = {*own, *(file for path in asked for file in _asked(path))}
    # Git also lists files that were deleted, and folders of submodules that were never fetched.
    present = sorted(
        name for name in names if (ROOT / name).is_symlink() or (ROOT / name).is_file()
    )
    for name in present:
        _refuse_link_out(name, names)
    return present


def _tracked() -> list[str]:
    """Return the files that git tracks; none if the checkout is none of git."""
    if not (ROOT / ".git").exists():
        return []
    try:
        return list(filter(None, git("ls-files", "-z", "--recurse-submodules").split("\0")))
    except (OSError, subprocess.SubprocessError) as error:
        said = os.fsdecode(getattr(error, "stderr", None) or b"") or str(error)
        remedy = "only files that git tracks are shipped, so it must work here"
        raise MixUnlearnError(f"{ROOT}: git fails: {' '.join(said.split())}; {remedy}") from error


def _asked(path: Path) -> Iterable[str]:
    place = Path(os.path.abspath(path))  # noqa: PTH100 - a link is shipped under its own name
    if not place.is_relative_to(ROOT) or place == ROOT:
        raise InputError("--ship", str(path), f"only what is in {ROOT} can be shipped")
    if not place.exists():
        raise InputError("--ship", str(path), "no such file or folder in the checkout")
    return _below(place)


def _below(place: Path) -> list[str]:
    """Return the names of a file, or of all files in a folder, without what Python has compiled."""
    files = [place] if not place.is_dir() else place.rglob("*")
    return [
        file.relative_to(ROOT).as_posix()
        for file in files
        if (file.is_symlink() or not file.is_dir()) and "__pycache__" not in file.parts
    ]


def _refuse_link_out(name: str, names: set[str]) -> None:
    """Check that a file, if a link leads to it, is one that is shipped anyway.

    Raises:
        InputError: nobody asked for the content to which the link leads.
    """
    real = (ROOT / name).resolve()
    if not real.is_relative_to(ROOT) or real.relative_to(ROOT).as_posix() not in names:
        remedy = "a link to what is not shipped itself; replace it by a copy, or remove it"
        raise InputError("checkout", name, remedy)
