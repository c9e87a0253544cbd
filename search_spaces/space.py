"""Search spaces as values: which parameters may vary, their bounds and their defaults."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError

Value: TypeAlias = float | int | str | bool


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """The fields of all parameters.

    Args:
        default: the published value or a first guess; trial 0 uses it.
        source: where the range and the default come from.
        unit: of the value; empty for a pure number.
        when: the parameter exists only if each of these names has one of its values.
        fixed: whether it keeps its default unless `search.space` changes it.
    """

    source: str
    unit: str = ""
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    fixed: bool = False


@dataclass(frozen=True, kw_only=True)
class Float(Parameter):
    """A number in [low, high], sampled uniformly or, with `log`, uniformly in its logarithm.

    Args:
        limits: the values that make sense, both included except a 0 with `log`; `search.space` may
            widen the range up to them.
    """

    low: float
    high: float
    default: float
    log: bool = False
    limits: tuple[float, float] = (0, math.inf)


@dataclass(frozen=True, kw_only=True)
class Int(Parameter):
    """An integer in [low, high], sampled uniformly or, with `log`, uniformly in its logarithm.

    Args:
        limits: the values that make sense, both included; `search.space` may widen the range up to
            them.
    """

    low: int
    high: int
    default: int
    log: bool = False
    limits: tuple[float, float] = (1, math.inf)


@dataclass(frozen=True, kw_only=True)
class Choice(Parameter):
    """One of a few values without an order."""

    options: tuple[Value, ...]
    default: Value


AnyParameter: TypeAlias = Float | Int | Choice


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Options that cannot be combined.

    Args:
        values: one option for each of several choices; the error message refuses the last.
        reason: why they cannot be combined.
    """

    values: Mapping[str, Value]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """The authors' own values where they differ from the defaults; a search tries them early.

    Args:
        values: by name; also of parameters that are fixed, and also outside of a range.
        source: where they are published.
    """

    values: Mapping[str, Value]
    source: str


class Space(Mapping[str, AnyParameter]):
    """Parameters by name, in an order in which their conditions can be checked.

    Args:
        rules: combinations that no configuration may have, and the authors' own configuration.
        parameters: by name.
    """

    def __init__(self, *rules: Conflict | Published, **parameters: AnyParameter) -> None:
        self._parameters = parameters
        self._conflicts = tuple(rule for rule in rules if isinstance(rule, Conflict))
        self._published = tuple(rule for rule in rules if isinstance(rule, Published))

    def __getitem__(self, name: str) -> AnyParameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def active(self, name: str, values: Mapping[str, Value]) -> bool:
        """Return whether a parameter exists, given the values of the parameters before it."""
        # A parameter that does not exist has no value, so what depends on it does not exist either.
        return all(values.get(key) in allowed for key, allowed in self[name].when.items())

    def reachable(self, name: str) -> bool:
        """Return whether a parameter exists in any configuration of the space."""
        return all(
            not (parameter := self.get(key)) or any(map(allowed.__contains__, values(parameter)))
            for key, allowed in self[name].when.items()
        )

    def defaults(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """Return the default configuration: only parameters that exist in it.

        Args:
            given: other facts that conditions may name, such as `labels`.
        """
        return self._filled({}, given)

    def published(self, given: Mapping[str, Value]) -> list[dict[str, Value]]:
        """Return the authors' own configuration, complete; nothing if it is that of the defaults.

        Args:
            given: other facts that conditions may name, such as `labels`.
        """
        found = [self._filled(each.values, given) for each in self._published]
        return [values for values in found if values != self.defaults(given)]

    def options(self, name: str) -> list[Value]:
        """Return the options of a choice: those that a search may draw, and the authors' own."""
        parameter = self[name]
        drawn = parameter.options if isinstance(parameter, Choice) else ()
        return [*drawn, *(each.values[name] for each in self._published if name in each.values)]

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Return whether all values are ones that a search may draw."""
        return all(_allows(self[name], value) for name, value in values.items())

    def _filled(self, chosen: Mapping[str, Value], given: Mapping[str, Value]) -> dict[str, Value]:
        """Return a configuration: the chosen values, and the defaults of all others."""
        values = dict(given)
        for name, parameter in self.items():
            if self.active(name, values):
                values[name] = chosen.get(name, parameter.default)
        return {name: value for name, value in values.items() if name in self}

    def size(self, given: Mapping[str, Value]) -> float:
        """Return the number of configurations; infinite if a number with a fraction varies.

        Args:
            given: other facts that conditions may name, such as `labels`.
        """
        return self._size(list(self), dict(given))

    def _size(self, names: list[str], known: dict[str, Value]) -> float:
        """Return in how many ways the parameters `names` can follow the values before them."""
        if not names:
            return 1
        name, *others = names
        if not self.active(name, known):
            return self._size(others, known)
        parameter = self[name]
        if parameter.fixed or isinstance(parameter, Choice):
            return sum(self._size(others, {**known, name: each}) for each in values(parameter))
        steps = parameter.high - parameter.low + 1 if isinstance(parameter, Int) else math.inf
        varies = parameter.high > parameter.low
        # No condition names a number, so that any one stands for all.
        return (steps if varies else 1) * self._size(others, {**known, name: parameter.default})

    def narrowed(self, wishes: Mapping[str, object], *, widen: bool = False) -> "Space":
        """Return the space with each named parameter fixed to a value or narrowed.

        Args:
            wishes: name -> a value, which fixes the parameter, or a list: two bounds of a number,
                or some options of a choice.
            widen: whether bounds may lie outside of a number's range, within its limits.

        Raises:
            InputError: a name is unknown, a value is outside the parameter's range, or the result
                allows a conflict.
        """
        for name in wishes:
            if name not in self:
                remedy = f"no such parameter; {known_names(name, self)}"
                raise InputError(f"search.space.{name}", wishes[name], remedy)
        changed = {
            name: _narrow(name, parameter, wishes[name], widen) if name in wishes else parameter
            for name, parameter in self.items()
        }
        # What the user asks for goes before what the authors published.
        kept = [each for each in self._published if _agrees(each, changed, wishes)]
        space = Space(*self._conflicts, *kept, **changed)
        # After narrowing, because a fixed parameter has only its default until then.
        space._refuse_conflicts()
        return space

    def _refuse_conflicts(self) -> None:
        for conflict in self._conflicts:
            if all(value in values(self[name]) for name, value in conflict.values.items()):
                *others, last = conflict.values
                given = ", ".join(f"{name} = {conflict.values[name]!r}" for name in others)
                remedy = f"with {given} {conflict.reason}; leave one of them out"
                raise InputError(f"search.space.{last}", conflict.values[last], remedy)


def values(parameter: AnyParameter) -> tuple[Value, ...]:
    """Return the values that conditions can name: the options, or only the default if fixed."""
    if parameter.fixed or not isinstance(parameter, Choice):
        return (parameter.default,)
    return parameter.options


def _allows(parameter: AnyParameter, value: Value) -> bool:
    """Return whether a search may draw a value: the default only, if the parameter is fixed."""
    if parameter.fixed or isinstance(parameter, Choice):
        return value in values(parameter)
    return parameter.low <= value <= parameter.high  # type: ignore[operator]


def _agrees(
    published: Published, parameters: Mapping[str, AnyParameter], wishes: Mapping[str, object]
) -> bool:
    """Return whether what the authors published is allowed by what the user asks for."""
    shared = [name for name in wishes if name in published.values]
    return all(_allows(parameters[name], published.values[name]) for name in shared)


def _narrow(name: str, parameter: AnyParameter, wish: object, widen: bool) -> AnyParameter:
    """Return a parameter fixed to one value or narrowed to a list."""
    if isinstance(parameter, Choice):
        wished = wish if isinstance(wish, list) else [wish]
        options = tuple(_option(name, value, parameter.options) for value in wished)
        if not options:
            raise InputError(f"search.space.{name}", wish, "needs at least one option")
        if len(set(options)) < len(options):
            raise InputError(f"search.space.{name}", wish, "lists an option twice; list each once")
        # Trial 0 uses the default, so it must be one of the values that are left.
        default = parameter.default if parameter.default in options else options[0]
        # Not fixed any more: who names a parameter wants it to vary, or to have this one value.
        return replace(parameter, options=options, default=default, fixed=False)
    kind = int if isinstance(parameter, Int) else float
    low, high = map(kind, _bounds(name, parameter, wish, widen))
    # As above: trial 0 must lie within the narrowed range.
    default = kind(min(max(parameter.default, low), high))
    return replace(parameter, low=low, high=high, default=default, fixed=False)  # type: ignore[arg-type]


def _option(name: str, value: object, options: tuple[Value, ...]) -> Value:
    """Return the option that equals a value; 1 does not equal True."""
    for option in options:
        if option == value and isinstance(option, bool) == isinstance(value, bool):
            return option
    known = ", ".join(map(str, options))
    raise InputError(f"search.space.{name}", value, f"not an option; there are {known}")


def _bounds(name: str, parameter: Float | Int, wish: object, widen: bool) -> tuple[float, float]:
    """Return the two bounds in a list, or a single value as both bounds."""
    kind = int if isinstance(parameter, Int) else int | float
    bounds = wish if isinstance(wish, list) else [wish, wish]
    # In Python, True is an int too, but no bound.
    numbers = [value for value in bounds if isinstance(value, kind) and not isinstance(value, bool)]
    if len(numbers) != 2 or len(bounds) != 2 or numbers[0] > numbers[1]:  # noqa: PLR2004
        what = "a whole number" if isinstance(parameter, Int) else "a number"
        raise InputError(f"search.space.{name}", wish, f"give {what} or a list of two, low to high")
    least, most = parameter.limits if widen else (parameter.low, parameter.high)
    low, high = numbers
    positive = parameter.log and not least  # a logarithm of 0 does not exist
    if not least <= low <= high <= most or (positive and not low) or math.isinf(high):
        within = f"lie within {least:g} … {most:g}"
        if math.isinf(most):
            within = f"be finite and {'above' if positive else 'at least'} {least:g}"
        raise InputError(f"search.space.{name}", wish, f"must {within}")
    return low, high
