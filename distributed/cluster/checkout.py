"""The program's files, and the archive of them that a cluster gets.

In a checkout these are the files that git tracks; of a wheel, those that came with it.
"""

import os
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mixunlearn.errors import InputError, MixUnlearnError

ROOT = Path(__file__).resolve().parents[2]
IN_WHEEL = "_program"  # this folder's name in a wheel, where the library is around it
# All that is shipped where there is no git, as from an image: the program, and nothing of its user.
PROGRAM = ("distributed", "mixunlearn", "report", "search_spaces", "trainables")
PRESETS = "experiments/"
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first date that a ZIP file can hold


def git(*words: str) -> str:
    """Return what git prints about the checkout.

    Raises:
        OSError, subprocess.SubprocessError: there is no git, it fails, or this is no checkout.
    """
    if _installed():  # git would speak of the repository in which the virtual environment is
        raise FileNotFoundError(f"{ROOT} is no checkout")
    command = ["git", "-C", str(ROOT), *words]
    run = subprocess.run(command, check=True, capture_output=True, timeout=10)
    return os.fsdecode(run.stdout).strip()


def users_folder() -> Path:
    """Return the folder whose files can be shipped: the checkout; with a wheel, the current one."""
    return Path.cwd() if _installed() else ROOT


def name_there(path: Path) -> str | None:
    """Return the name under which a cluster has a file; `None`: it cannot be shipped."""
    folders = [each for each in (ROOT, users_folder()) if path.is_relative_to(each)]
    return path.relative_to(folders[0]).as_posix() if folders else None


@contextmanager
def archive(asked: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a ZIP file of what a cluster gets; it is deleted at the end.

    Its bytes depend only on the names and contents: Ray does not send again what it has. It is
    laid out as a checkout, also if the program came in a wheel.

    Args:
        asked: files and folders that are shipped as well, see `users_folder`.

    Raises:
        InputError: one of them is missing or outside; or a link leads to what is not shipped.
        MixUnlearnError: git cannot list the files.
    """
    files = shipped(asked)
    with TemporaryDirectory(prefix="mixunlearn-") as folder:
        path = Path(folder) / "checkout.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name in sorted(files):
                member = zipfile.ZipInfo(name, EARLIEST)
                made.writestr(member, files[name].read_bytes(), zipfile.ZIP_DEFLATED)
        yield path


def shipped(asked: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the files that a cluster gets, by their name there; see `archive`.

    These are the files that git tracks, as they are now; without git, the program's own.
    """
    base = users_folder()
    own = _of_wheel() if _installed() else {}
    names = {*([] if own else _of_checkout()), *(file for path in asked for file in _asked(path))}
    # Git also lists files that were deleted, and folders of submodules that were never fetched.
    present = sorted(
        name for name in names if (base / name).is_symlink() or (base / name).is_file()
    )
    for name in present:
        _refuse_link_out(name, names)
        if name in own and not name.startswith(PRESETS):
            raise InputError("--ship", name, "the program has a file of this name; rename yours")
    return own | {name: base / name for name in present}


def _installed() -> bool:
    """Return whether the program came in a wheel; then there is no checkout."""
    return ROOT.name == IN_WHEEL


def _of_wheel() -> dict[str, Path]:
    """Return the files of the wheel by their names in a checkout; also if links lead to them."""
    library = ROOT.parent
    others = {name: ROOT / name for name in _below(ROOT, ROOT)}
    return others | {
        name: library.parent / name
        for name in _below(library, library.parent)
        if not name.startswith(f"{library.name}/{IN_WHEEL}/")
    }


def _of_checkout() -> list[str]:
    return _tracked() or [file for name in PROGRAM for file in _below(ROOT / name, ROOT)]


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
    base = users_folder()
    place = Path(os.path.abspath(path))  # noqa: PTH100 - a link is shipped under its own name
    if _installed() and place.is_relative_to(ROOT):  # a preset is shipped anyway
        return []
    if not place.is_relative_to(base) or place == base:
        raise InputError("--ship", str(path), f"only what is in {base} can be shipped")
    if not place.exists():
        raise InputError("--ship", str(path), f"no such file or folder in {base}")
    return _below(place, base)


def _below(place: Path, base: Path) -> list[str]:
    """Return the names of a file, or of all files in a folder, without what Python has compiled."""
    files = [place] if not place.is_dir() else place.rglob("*")
    return [
        file.relative_to(base).as_posix()
        for file in files
        if (file.is_symlink() or not file.is_dir()) and "__pycache__" not in file.parts
    ]


def _refuse_link_out(name: str, names: set[str]) -> None:
    """Check that a file, if a link leads to it, is one that is shipped anyway.

    Raises:
        InputError: nobody asked for the content to which the link leads.
    """
    base = users_folder()
    real = (base / name).resolve()
    if not real.is_relative_to(base) or real.relative_to(base).as_posix() not in names:
        remedy = "a link to what is not shipped itself; replace it by a copy, or remove it"
        raise InputError("checkout" if base == ROOT else "--ship", name, remedy)
