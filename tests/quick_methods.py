"""Methods with defaults that compute less, for tests to which it does not matter how much."""

from dataclasses import field, make_dataclass
from typing import Any, cast

from mixunlearn.methods import METHODS, Method

QUICK: dict[str, dict[str, Any]] = {
    "amun": {"radius": 1.0},  # an example is found in one of the first balls
    "gli": {"noise_images": 8, "noise_steps": 4},
    "l2ul": {"adversaries": 4, "attack_steps": 2},
    "unsir": {"noise_images": 8, "noise_steps": 4},
}


def quick(name: str) -> type[Method]:
    """Return a method's class, with such defaults if it has some."""
    method = METHODS[name]
    changed = [
        (each, type(value), field(default=value)) for each, value in QUICK.get(name, {}).items()
    ]
    if not changed:
        return method
    made = make_dataclass(method.__name__, changed, bases=(method,), kw_only=True)
    return cast("type[Method]", made)
