"""Translates pydantic's errors into one line: key, value and remedy."""

from collections.abc import Callable, Sequence

from pydantic_core import ErrorDetails

from mixunlearn.errors import InputError

REMEDIES = {  # format strings, by the type of pydantic's error
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number, for example 8",
    "bool_type": "must be true or false",
    "float_type": "must be a number, for example 0.5",
    "finite_number": "must be a finite number",
    "list_type": "must be a list, for example [0]",
    # Double braces, because `format` fills in the bounds.
    "dict_type": "must be a mapping, for example {{lr: 1e-4}}",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping, for example {{kind: class}}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must be letters, digits and . _ - and start with a letter or digit",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
}


OF_A_NAME = "[key]"  # how pydantic marks that a name in a mapping is wrong, not what it stands for


def translated(
    error: ErrorDetails, *, unknown: Callable[[Sequence[str]], str], missing: str
) -> InputError:
    """Return an error of pydantic as an `InputError`.

    Args:
        error: what pydantic found.
        unknown: returns the remedy for an unknown key; called with its path, one name a level.
        missing: where the user finds an example with the missing key.
    """
    place = [str(part) for part in error["loc"]]
    if place[-1:] == [OF_A_NAME]:  # the name itself is the value
        place = place[:-2]
    key, value = ".".join(place), error["input"]
    if error["type"] == "extra_forbidden":
        return InputError(key, value, unknown(place))
    if error["type"] == "missing":
        return InputError(key, None, f"missing; {missing}")
    remedy = REMEDIES.get(error["type"], error["msg"]).format(**error.get("ctx", {}))
    return InputError(key, value, remedy)
