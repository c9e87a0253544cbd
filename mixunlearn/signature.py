"""Names computed from content: equal settings always get the same name and the same seed."""

import hashlib
import json

SEED_BITS = 63  # so that a seed fits a signed 64-bit integer


def canonical(value: object) -> str:
    """Return the canonical JSON text of `value`: sorted keys, no spaces.

    Raises:
        TypeError: `value` holds something that is not plain data.
        ValueError: `value` holds NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def signature(value: object) -> str:
    """Return eight hex digits that name `value`."""
    # Short names may collide; the store notices, because it compares the whole payload.
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:8]


def seed_for(*parts: object) -> int:
    """Return a seed in [0, 2**63) for one purpose, for example `seed_for("split", 0)`.

    Every random choice uses a generator with such a seed. So no choice depends on how many numbers
    another choice has drawn.
    """
    digest = hashlib.sha256(canonical(parts).encode()).digest()
    return int.from_bytes(digest[:8]) >> (64 - SEED_BITS)
