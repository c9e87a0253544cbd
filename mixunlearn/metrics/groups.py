"""Groups of methods that are not told apart, from the p-values of all pairs."""

from collections.abc import Collection, Iterable, Sequence
from itertools import count, islice
from string import ascii_lowercase

import numpy as np


def holm(ps: Sequence[float]) -> list[float]:
    """Return corrected probabilities of several tests; those that are NaN stay so and do not count.

    SciPy has no such correction; that of statsmodels collects all garbage at each call.

    Args:
        ps: in [0, 1], or NaN.

    Source: Holm 1979, Scand. J. Stat. 6, 65-70.
    """
    p = np.array(ps, dtype=float)  # a copy
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    raised = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return [float(value) for value in p]


def letters(names: Sequence[str], apart: Iterable[Collection[str]]) -> dict[str, str]:
    """Return for each method the letters of its groups: who shares a letter is not told apart.

    This is a compact letter display (Piepho 2004, J. Comput. Graph. Stat. 13(2), 456-466): from
    one group of all, each pair that is told apart splits the groups that hold both, and a group
    inside another one is dropped.

    Args:
        names: the methods, best first; the best one's group is "a".
        apart: the pairs that are told apart.
    """
    groups = [frozenset(names)]
    for first, second in apart:
        split = [
            part
            for group in groups
            for part in (
                (group - {first}, group - {second}) if {first, second} <= group else (group,)
            )
        ]
        unique = list(dict.fromkeys(split))
        groups = [group for group in unique if not any(group < other for other in unique)]
    place = {name: index for index, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(place[name] for name in group))
    signs = list(islice(_signs(), len(groups)))
    return {
        name: "".join(sign for sign, group in zip(signs, groups, strict=True) if name in group)
        for name in names
    }


def _signs() -> Iterable[str]:
    """Yield the letters, then letters with numbers: a, …, z, a1, …, z1, and so on."""
    yield from ascii_lowercase
    for number in count(1):
        yield from (f"{letter}{number}" for letter in ascii_lowercase)
