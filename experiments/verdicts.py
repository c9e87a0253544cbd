"""How often verdicts are right: real models in stated roles, drawn again and again from a pool.

    PYTHONPATH=. python experiments/verdicts.py [FILE] [--set KEY=VALUE] --models 5 --home runs

The pool is trained once, by `mixunlearn references FILE --set references.originals=16 --set
references.seeds=56 --home runs`, or by `experiments/pool.py` with the same options. FILE is
experiments/mnist_class.yaml unless it is given.

Prints one JSON line: the share of draws in which each role gets each state.
`exact`: retrained models in the role of unlearned ones. `margin`: the same, moved to the margin in
one metric, each in turn. `half`: moved by half of it. `untouched`: originals as they are.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.pool import arguments, opened
from mixunlearn.evidence.states import STATES
from mixunlearn.evidence.verdict import judge

FILE = Path(__file__).parent / "mnist_class.yaml"
POOL = ["references.originals=16", "references.seeds=56"]
Values = dict[str, list[float]]


def pool(
    file: Path, settings: Sequence[str], home: Path
) -> tuple[Values, Values, dict[str, float]]:
    """Return the values of all originals, of all references, and the margins."""
    plan = opened(file, [*settings, *POOL], home)
    references = plan.references
    untouched = [references.evaluation(each, "test") for each in references.all_originals]
    retrained = references.evaluator("test").references
    originals = {name: [each.metrics[name] for each in untouched] for name in plan.margins}
    return originals, {name: retrained.values(name) for name in plan.margins}, plan.margins


def drawn(values: Mapping[str, Sequence[float]], indices: Sequence[int]) -> Values:
    """Return the values of some models."""
    return {name: [each[index] for index in indices] for name, each in values.items()}


def moved(values: Values, metric: str, by: float) -> Values:
    """Return the values with one metric moved."""
    return {**values, metric: [value + by for value in values[metric]]}


def main() -> None:
    """Draw, judge and print."""
    parser = arguments(__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=FILE)
    parser.add_argument("--models", type=int, default=5, help="originals and references of a draw")
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    originals, retrained, margins = pool(args.file, args.settings, args.home)
    rng, count = np.random.default_rng(0), args.models
    roles: dict[str, Counter[str]] = {}

    def tell(role: str, unlearned: Values, untouched: Values, references: Values) -> None:
        found = judge(unlearned, untouched, references, margins, cost=1.0)
        roles.setdefault(role, Counter())[found.state] += 1

    for _ in range(args.draws):
        nothing = drawn(originals, rng.permutation(size(originals))[:count].tolist())
        order = rng.permutation(size(retrained)).tolist()
        exact = drawn(retrained, order[:count])
        references = drawn(retrained, order[count : 2 * count])
        tell("exact", exact, nothing, references)
        tell("untouched", nothing, nothing, references)
        for name, margin in margins.items():
            # Towards the middle of the scale: there are no values beyond 0 and 100 %.
            sign = 1 if np.mean(references[name]) < 50 else -1  # noqa: PLR2004
            tell(f"margin of {name}", moved(exact, name, sign * margin), nothing, references)
            tell(f"half of {name}", moved(exact, name, sign * margin / 2), nothing, references)
    spreads = {name: round(float(np.std(v, ddof=1)), 3) for name, v in retrained.items()}
    shares = {
        role: {state: counts[state] / args.draws for state in STATES if counts[state]}
        for role, counts in roles.items()
    }
    print(  # noqa: T201
        json.dumps({"models": count, "draws": args.draws, "sd": spreads, "shares": shares})
    )


def size(values: Values) -> int:
    """Return the number of models."""
    return len(next(iter(values.values())))


if __name__ == "__main__":
    main()
