"""The key of a home, and the digests of forget sets that are made with it.

Row numbers can be guessed: there are few. So a plain digest of them would give them away; one that
depends on a key does not, as long as the key is kept.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

from distributed.requests.files import KEY, locked, records_folder
from distributed.runtime.text import one_line
from mixunlearn.atomic import replacing, sync
from mixunlearn.errors import CorruptError, MixUnlearnError
from mixunlearn.regular import MIB, read_regular
from mixunlearn.signature import canonical

BYTES = 32  # of the key


def forget_digest(home: Path, images: Iterable[int] | bytes) -> str:
    """Return the digest of a forget set: HMAC-SHA256 in hex, with the key of the home.

    The key is made by the first call.

    Args:
        home: where results are kept.
        images: row numbers, in any order, or bytes that stand for the images.

    Raises:
        CorruptError: the file of the key holds something else.
        MixUnlearnError: the key cannot be read or written.
    """
    if not isinstance(images, bytes):
        images = canonical(sorted({int(row) for row in images})).encode()
    return hmac.new(_key(home), images, hashlib.sha256).hexdigest()


def _key(home: Path) -> bytes:
    path = records_folder(home) / KEY
    try:
        if not path.exists():
            _make(home, path)
        content = read_regular(path, MIB)
    except OSError as error:
        remedy = "run this as the user who owns the home"
        raise MixUnlearnError(f"{path}: {one_line(error)}; {remedy}") from error
    try:
        key = bytes.fromhex(content.decode())
    except ValueError:
        key = b""
    if len(key) != BYTES:
        remedy = "restore it from a backup; without it, no forget set of a record can be confirmed"
        raise CorruptError(f"{path} is not a key of {BYTES} bytes; {remedy}")
    return key


def _make(home: Path, path: Path) -> None:
    """Make the key, unless another process was faster."""
    with locked(home):
        if path.exists():
            return
        with replacing(path) as temporary:
            # Its owner's alone before anything is in it, also in the home of a group.
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_hex(BYTES) + "\n")
        sync(path.parent)  # a key that a power cut takes back would leave digests without a key
