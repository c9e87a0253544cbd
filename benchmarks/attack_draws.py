"""Whether the attack needs five draws while a search runs, and what share of a trial measuring is.

Random configurations of MixUnlearn unlearn one digit, a few epochs each, and are measured on `val`
after every epoch, as trials are. Prints Spearman's rank correlation of `gap/avg` with five draws
and with fewer, over all trials and over the better half (among which a search has to choose), and
the share of a trial's time that measuring takes.

    python -m benchmarks.attack_draws [digits|mnist5k] [trials]
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks import publish, say
from mixunlearn.data.sources import SOURCES
from mixunlearn.metrics import membership
from mixunlearn.metrics.gap import Evaluation, ReferenceSet
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.references import ReferenceStore
from mixunlearn.splits import make_splits
from mixunlearn.store import Store
from mixunlearn.trial import Trial
from search_spaces import SPACES
from search_spaces.space import Choice, Float, Int

GOAL = 0.95  # rank correlation from which fewer draws would do
DRAWS = (1, 2, 3, 5)
EPOCHS, REFERENCES = 3, 5
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A trial: its outputs on `val`, and the seconds of unlearning and measuring."""

    gaps: Mapping[int, float]  # by number of draws
    unlearning_s: float
    measuring_s: float


def main(source: str = "digits", trials: str = "24") -> None:
    """Measure and print the result."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = filled(Path(folder), source)
        found = [*measured(store, int(trials))]
    whole = {draws: correlation(found, draws) for draws in DRAWS[:-1]}
    better = sorted(found, key=lambda each: each.gaps[DRAWS[-1]])[: len(found) // 2]
    unlearning, measuring = (
        np.mean([getattr(each, name) for each in found]) for name in ("unlearning_s", "measuring_s")
    )
    publish(
        "attack_draws",
        [whole[1]],
        at_least=GOAL,
        source=source,
        trials=len(found),
        spearman={str(draws): round(value, 3) for draws, value in whole.items()},
        spearman_of_the_better_half={
            str(draws): round(correlation(better, draws), 3) for draws in DRAWS[:-1]
        },
        measuring_share=round(float(measuring / (measuring + unlearning)), 3),
        unlearning_s=round(float(unlearning), 3),
        measuring_s=round(float(measuring), 3),
    )


def correlation(found: Sequence[Measured], draws: int) -> float:
    """Return Spearman's correlation of the gaps with fewer draws and with all."""
    pairs = [[each.gaps[number] for each in found] for number in (draws, DRAWS[-1])]
    return float(spearmanr(*pairs).statistic)


def filled(folder: Path, source: str) -> ReferenceStore:
    """Return a store with an original and references of one data set."""
    dataset = SOURCES[source]()
    splits = make_splits(dataset, {"kind": "class", "classes": [0]})
    shape = Architecture.of(dataset, "cnn")
    stages = shape.build(0).stage_names
    store = ReferenceStore(
        store=Store(folder),
        dataset=dataset,
        splits=splits,
        architecture=shape,
        recipe=Recipe(epochs=8),
        references=REFERENCES,
        stages=stages,
    )
    store.fill(CPU, lambda member, epoch, loss: say(f"{member} {epoch}") if epoch == 8 else None)
    return store


def measured(store: ReferenceStore, count: int) -> Iterator[Measured]:
    """Run trials with random configurations and yield what was measured of each."""
    problem = store.problem(with_labels=True)
    evaluator = store.evaluator("val")
    outputs = [evaluator.images.outputs(store.load(each)) for each in store.all_references]
    references = {}
    for draws in DRAWS:
        with patch.object(membership, "DRAWS", draws):
            own = [evaluator.images.measure(each) for each in outputs]
        references[draws] = replace(evaluator.references, evaluations=own)
    rng = np.random.default_rng(0)
    for number in range(count):
        trial = Trial(problem, "mixunlearn", drawn(store, rng), number, CPU)
        measuring = 0.0
        for _ in range(EPOCHS):
            trial.unlearn()
            start = time.perf_counter()
            evaluator.evaluate(trial.method.model, trial.effort)
            measuring += time.perf_counter() - start
        last = evaluator.images.outputs(trial.method.model)
        gaps = {draws: gap(draws, references[draws], evaluator.images, last) for draws in DRAWS}
        say(f"trial {number}: {gaps}")
        yield Measured(gaps=gaps, unlearning_s=trial.seconds, measuring_s=measuring)


def gap(draws: int, references: ReferenceSet, images: object, outputs: object) -> float:
    """Return `gap/avg` with a number of draws, of the model and of the references."""
    with patch.object(membership, "DRAWS", draws):
        found: Evaluation = images.measure(outputs)  # type: ignore[attr-defined]
    return references.compare(found)["gap/avg"]


def drawn(store: ReferenceStore, rng: np.random.Generator) -> dict[str, object]:
    """Return a random configuration of the search space."""
    model = store.architecture.build(0)
    space = SPACES["mixunlearn"](model.stage_names, model.default_stage)
    found: dict[str, object] = {}
    for name, parameter in space.items():
        if parameter.fixed:
            found[name] = parameter.default
        elif isinstance(parameter, Choice):
            found[name] = parameter.options[rng.integers(len(parameter.options))]
        elif isinstance(parameter, Float | Int):
            low, high = parameter.low, parameter.high
            value = np.exp(rng.uniform(np.log(low), np.log(high))) if parameter.log else None
            plain = rng.uniform(low, high) if value is None else value
            found[name] = round(plain) if isinstance(parameter, Int) else float(plain)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
