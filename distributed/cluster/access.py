"""Ray's token: whoever knows it can run code as the user of a sweep."""

import logging
import os
import secrets
from pathlib import Path

from mixunlearn.errors import InputError

TOKEN = "~/.ray/auth_token"

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
    if not path.is_file() or not path.stat().st_mode & 0o077:
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
