"""Translates pydantic's errors into one line each: key, value and remedy."""

from collections.abc import Callable, Iterable, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

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


OURS = "input_error"  # the type of an error that is an `InputError` already
UNKNOWN = "extra_forbidden"  # pydantic's name for a key that a section does not have
OF_A_NAME = "[key]"  # how pydantic marks that a name in a mapping is wrong, not what it stands for


def as_one_of_pydantics(error: InputError) -> PydanticCustomError:
    """Return an error of ours as one that a validator may raise: pydantic then goes on checking.

    Ours itself would end the check of the whole file. `translated` returns it unchanged.
    """
    return PydanticCustomError(OURS, "{error}", {"error": error})


def translated(
    error: ErrorDetails, *, unknown: Callable[[Sequence[str]], str], missing: str
) -> InputError:
    """Return an error of pydantic as an `InputError`.

    Args:
        error: what pydantic found.
        unknown: returns the remedy for an unknown key; called with its path, one name a level.
        missing: where the user finds an example with the missing key.
    """
    if error["type"] == OURS:
        ours: InputError = error["ctx"]["error"]
        return ours
    place = [str(part) for part in error["loc"]]
    if place[-1:] == [OF_A_NAME]:  # the name itself is the value
        place = place[:-2]
    key, value = ".".join(place), error["input"]
    if error["type"] == UNKNOWN:
        return InputError(key, value, unknown(place))
    if error["type"] == "missing":
        return InputError(key, None, f"missing; {missing}")
    remedy = REMEDIES.get(error["type"], error["msg"]).format(**error.get("ctx", {}))
    return InputError(key, value, remedy)


def all_translated(
    error: ValidationError, translate: Callable[[ErrorDetails], InputError]
) -> InputError:
    """Return the mistakes that pydantic found in a file: the first one, with the others.

    Unknown keys go first, then the others in the order of the keys. A key is named once. A missing
    key is left out where another one is unknown, which most probably is the missing one, misspelt.

    Args:
        error: what pydantic found.
        translate: returns one of its errors as ours.
    """
    unknown = {each["loc"][:-1] for each in error.errors() if each["type"] == UNKNOWN}
    found = [
        each
        for each in sorted(error.errors(), key=lambda each: each["type"] != UNKNOWN)
        if each["type"] != "missing" or each["loc"][:-1] not in unknown
    ]
    return together(map(translate, found))


def together(errors: Iterable[InputError]) -> InputError:
    """Return the first of several mistakes, with the others; of one key, only the first."""
    by_key: dict[str, InputError] = {}
    for error in errors:
        by_key.setdefault(error.key, error)
    first, *others = by_key.values()
    first.others = tuple(others)
    return first


def require_all(*checks: Callable[[], object]) -> None:
    """Make several checks that do not depend on each other.

    Raises:
        InputError: one of them did; with the mistakes that the others found.
    """
    found = []
    for check in checks:
        try:
            check()
        except InputError as error:
            found += [error, *error.others]
    if found:
        raise together(found)
