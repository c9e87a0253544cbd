"""Who can reach Ray: its token, and the folder of a Ray that runs on this machine."""

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixunlearn.errors import InputError, MixUnlearnError

TOKEN = "~/.ray/auth_token"
PREFIX, INNER = "r-", "ray"  # Ray lets everyone write in its folder: another is around it
LONGEST_SESSION = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
# The kernel allows 107 bytes for the path of a socket.
LONGEST_PLACE = 107 - len(f"/{PREFIX}12345678/{INNER}/{LONGEST_SESSION}")

logger = logging.getLogger(__name__)


def make_token() -> None:
    """Give this process, and the Ray that it starts, a token that is on no disk.

    A token that the environment has already is kept.
    """
    os.environ["RAY_AUTH_TOKEN"] = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)


def token() -> dict[str, str]:
    """Return the header with the token that Ray keeps on this machine, if there is one.

    Ray's client sends the token only if RAY_AUTH_MODE=token is set, which is easily forgotten.

    Raises:
        InputError: RAY_AUTH_TOKEN_PATH names a file that cannot be read, or other users can read
            the file and its mode cannot be changed.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return {}
    found = os.environ.get("RAY_AUTH_TOKEN") or _stored_token()
    return {"Authorization": f"Bearer {found.strip()}"} if found.strip() else {}


def _stored_token() -> str:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(os.path.expanduser(named or TOKEN))  # noqa: PTH111 - without a home, stays as it is
    try:
        found = path.read_text()
    except (OSError, ValueError) as error:
        if not named:
            return ""
        reason = getattr(error, "strerror", None) or str(error)
        remedy = f"{reason.lower()}; name the file with the token"
        raise InputError("RAY_AUTH_TOKEN_PATH", named, remedy) from error
    _hide(path)
    return found


def _hide(path: Path) -> None:
    """Make a file with a token its owner's alone: whoever reads it runs code as the owner.

    Raises:
        InputError: its mode cannot be changed.
    """
    if not path.stat().st_mode & 0o077:
        return
    try:
        path.chmod(0o600)
    except OSError as error:
        remedy = "other users can read it; make a copy of mode 600, and name that"
        raise InputError("RAY_AUTH_TOKEN_PATH", str(path), remedy) from error
    logger.warning(
        "%s: other users could read Ray's token, and now cannot; replace it on all machines if "
        "somebody may have read it",
        path,
    )


@contextmanager
def private_folder(*, keep: bool = False) -> Iterator[Path]:
    """Make a folder for a Ray on this machine, which no other user can enter; delete it at the end.

    It is in the first of RAY_TMPDIR, TMPDIR and /tmp that can be written and has a name short
    enough for the sockets in it (`LONGEST_PLACE`).

    Args:
        keep: whether it is not deleted; Ray's logs are in it.

    Raises:
        MixUnlearnError: there is no such folder.
    """
    folder = _made()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)  # a process of Ray may still write its log


def _made() -> Path:
    reasons = list[str]()
    for place in filter(None, (os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp")):
        if len(os.fsencode(place)) > LONGEST_PLACE:
            reasons.append(f"{place} has more than {LONGEST_PLACE} bytes")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as error:
            reasons.append(f"{place}: {(error.strerror or str(error)).lower()}")
    raise MixUnlearnError(
        f"no folder for Ray: {', '.join(reasons)}; set RAY_TMPDIR to a short path that is writable"
    )
