"""Which objective of a search finds configurations that the evidence calls equivalent?

    PYTHONPATH=. python experiments/objective.py --seeds 8 --home runs --out objective.jsonl

For each task and each seed, two searches: one minimises `gap/avg`, the other `gap/worst`, both on
`val` as a sweep does (the default first, then TPE; successive halving), but one trial at a time.
The winner then unlearns five originals, and is judged on `test` against references that the search
has not seen. An epoch that both searches ask for is computed once. Writes a JSON line for each
search; the last line of the output is their summary. Lines that are there already are not computed
again, so `--seeds 0` only prints the summary.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from distributed.plan.plan import Plan
from distributed.study.attempt import Attempt
from distributed.study.sampling import Sampling
from experiments.pool import append, arguments, fill, opened, parallel, read
from mixunlearn.errors import DivergedError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.evidence.states import EQUIVALENT
from mixunlearn.evidence.verdict import judge
from mixunlearn.metrics.table import AVERAGE, WORST
from mixunlearn.problem import Problem
from mixunlearn.references import Member
from mixunlearn.resume import State
from mixunlearn.signature import seed_for, signature
from mixunlearn.trial import Trial
from search_spaces.space import Value

FILE = Path(__file__).parent / "mnist_class.yaml"
RANDOM = "task={kind: random, fraction: 0.1}"
CASES: Mapping[str, Sequence[str]] = {
    "class, mixunlearn": [],
    "random, neggrad": [RANDOM, "method=neggrad"],
    "random, mixunlearn": [RANDOM],
}
OBJECTIVES = (AVERAGE, WORST)
ORIGINALS, SEARCHED, JUDGED = 5, 5, 16  # references of the search, and of the verdict
DIVERGED = "diverged"  # the winner, from another original
RUNGS = (1, 2, 4)  # epochs after which a search stops the worse half

Configuration = Mapping[str, Value]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Winner:
    """The best trial of a search."""

    trial: int
    hyperparameters: Configuration
    epochs: int
    value: float


@dataclass(kw_only=True)
class Curves:
    """Trials of one search seed; each epoch is computed once, whoever asks for it."""

    problem: Problem
    method: str
    seed: int
    device: torch.device
    trials: dict[str, Trial] = field(default_factory=dict)
    known: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def epoch(self, number: int, hyperparameters: Configuration, epoch: int) -> dict[str, float]:
        """Return what a trial reports after an epoch.

        Raises:
            DivergedError: it diverged.
        """
        key = signature([number, dict(hyperparameters)])
        if key not in self.trials:
            seed = seed_for("trial", self.seed, number)
            self.trials[key] = Trial(self.problem, self.method, hyperparameters, seed, self.device)
        found = self.known.setdefault(key, [])
        while len(found) < epoch:
            found.append(self.trials[key].epoch())
        return found[epoch - 1]


@dataclass
class Halving:
    """Successive halving as Ray's: at a rung, what is worse than the median of earlier stops."""

    rungs: dict[int, list[float]] = field(default_factory=lambda: {rung: [] for rung in RUNGS})

    def stops(self, epoch: int, value: float) -> bool:
        """Return whether a trial ends after an epoch."""
        earlier = self.rungs.get(epoch)
        if earlier is None:
            return False
        stops = bool(earlier) and value > float(np.median(earlier))
        earlier.append(value)
        return stops


def search(plan: Plan, seed: int, objective: str, curves: Curves) -> Winner:
    """Return the winner of a search."""
    sampling = Sampling(plan.space, plan.facts, plan.experiment.search.sampler, seed)
    halving, found = Halving(), []
    for number in range(plan.trials):
        hyperparameters, proposal = sampling.propose(number)
        attempt = Attempt(
            key=number,
            config={"trial": number},
            hyperparameters=proposal.params,
            distributions=proposal.distributions,
            began=datetime.now(UTC),
        )
        run(attempt, hyperparameters, plan.epochs, objective, curves, halving)
        sampling.tell(attempt, objective)
        if attempt.row and attempt.state is not State.FAILED:
            epochs, value = len(attempt.history), attempt.row[objective]
            found.append(Winner(number, hyperparameters, epochs, value))
    return min(found, key=lambda each: each.value)


def run(
    attempt: Attempt,
    hyperparameters: Configuration,
    epochs: int,
    objective: str,
    curves: Curves,
    halving: Halving,
) -> None:
    """Run a trial to its end, whatever that is, and write it into the attempt."""
    attempt.state = State.COMPLETE
    for epoch in range(1, epochs + 1):
        try:
            attempt.row = curves.epoch(attempt.number, hyperparameters, epoch)
        except DivergedError:
            attempt.state, attempt.row = State.FAILED, attempt.row or {}
            return
        attempt.history[epoch] = attempt.row
        if halving.stops(epoch, attempt.row[objective]):
            attempt.state = State.PRUNED
            return


@dataclass(frozen=True, kw_only=True)
class Court:
    """Judges configurations on `test`, by references that no search has seen."""

    plan: Plan
    device: torch.device

    def unlearned(self, winner: Winner, seed: int) -> list[Mapping[str, float]]:
        """Return the metrics of each original, unlearned anew with fresh seeds."""
        references = self.plan.references
        images = evaluation_set(references.dataset, references.splits, "test")
        found = []
        for original in range(ORIGINALS):
            trial = Trial(
                self.plan.problem(original),
                self.plan.experiment.method,
                winner.hyperparameters,
                seed_for("report", seed, original),
                self.device,
            )
            for _ in range(winner.epochs):
                trial.unlearn()
            found.append(images.evaluate(trial.method.model).metrics)
        return found

    def verdict(self, unlearned: Sequence[Mapping[str, float]]) -> dict[str, Any]:
        """Return the state, each bias in margins, and the worst of them."""
        store, margins = self.plan.references, self.plan.margins
        judges = (Member(role="reference", seed=SEARCHED + each) for each in range(JUDGED))
        kinds = {
            "unlearned": unlearned,
            "untouched": [store.evaluation(each, "test").metrics for each in store.all_originals],
            "retrained": [store.evaluation(each, "test").metrics for each in judges],
        }
        values = {
            kind: {name: [each[name] for each in models] for name in margins}
            for kind, models in kinds.items()
        }
        found = judge(**values, margins=margins, cost=float("nan"))
        scaled = {each.metric: each.value / each.margin for each in found.biases}
        return {
            "state": found.state,
            "worst": max(map(abs, scaled.values())),
            "average": float(np.mean([*map(abs, scaled.values())])),
            "biases": scaled,
        }


def compared(
    job: tuple[str, int], *, home: Path, device: torch.device, settings: Sequence[str], out: Path
) -> None:
    """Write what both objectives find with one search seed."""
    logging.getLogger("optuna").setLevel(logging.WARNING)
    case, seed = job
    plan = plan_of(case, home, settings)
    # The search knows only its own references; the store has those of the verdict as well.
    problem = replace(plan.references, references=SEARCHED).problem(with_labels=True)
    curves = Curves(problem=problem, method=plan.experiment.method, seed=seed, device=device)
    court, known, found = Court(plan=plan, device=device), dict[str, Any](), []
    for objective in OBJECTIVES:
        winner = search(plan, seed, objective, curves)
        key = signature([dict(winner.hyperparameters), winner.epochs])
        if key not in known:
            try:
                known[key] = court.verdict(court.unlearned(winner, seed))
            except DivergedError:
                known[key] = {"state": DIVERGED, "biases": {}}
        about = {"case": case, "seed": seed, "objective": objective}
        found.append(about | asdict(winner) | known[key])
    append(out, found)  # here, in the order in which they end: an interruption loses least


def plan_of(case: str, home: Path, settings: Sequence[str] = ()) -> Plan:
    """Return the plan of a case with the references of search and verdict."""
    counts = [f"references.originals={ORIGINALS}", f"references.seeds={SEARCHED + JUDGED}"]
    return opened(FILE, [*CASES[case], *counts, *settings], home)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return, by case and for all, how the objectives ended, and their paired difference."""
    by_pair: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        by_pair.setdefault((row["case"], row["seed"]), {})[row["objective"]] = row
    every = [(pair[AVERAGE], pair[WORST]) for pair in by_pair.values()]
    cases = dict.fromkeys(row["case"] for row in rows)
    by_case = {case: [pair for pair in every if pair[0]["case"] == case] for case in cases}
    return {name: contrast(pairs) for name, pairs in {**by_case, "all": every}.items()}


def contrast(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    """Return what pairs of searches found, and whether that tells the objectives apart."""
    equivalent = [tuple(row["state"] == EQUIVALENT for row in pair) for pair in pairs]
    only = [equivalent.count((True, False)), equivalent.count((False, True))]
    known = [pair for pair in pairs if DIVERGED not in (pair[0]["state"], pair[1]["state"])]
    return {
        **{
            name: ends(each)
            for name, each in zip(OBJECTIVES, zip(*pairs, strict=True), strict=True)
        },
        "same winner": sum(first["biases"] == second["biases"] for first, second in pairs),
        "only one is equivalent": dict(zip(OBJECTIVES, only, strict=True)),
        # The sign test: each of them is as likely as the other if the objectives are.
        "p": float(stats.binomtest(only[0], sum(only)).pvalue) if any(only) else 1.0,
        f"{WORST} - {AVERAGE}": {
            name: mean(second[name] - first[name] for first, second in known)
            for name in ("worst", "average")
        },
    }


def ends(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how often each state was reached, and the mean biases in margins."""
    return {
        "states": dict(Counter(row["state"] for row in rows)),
        **{
            name: mean(row[name] for row in rows if row["state"] != DIVERGED)
            for name in ("worst", "average")
        },
    }


def mean(values: Iterable[float]) -> dict[str, float]:
    """Return mean, standard error and number, and the p value of a mean of 0 (t-test)."""
    known = [*values]
    found = stats.ttest_1samp(known, 0)
    return {
        "mean": round(float(np.mean(known)), 3),
        "se": round(float(stats.sem(known)), 3),
        "p": round(float(found.pvalue), 4),
        "n": len(known),
    }


def main() -> None:
    """Fill the pools, search, judge, and print the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, default=Path("objective.jsonl"))
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--seeds", type=int, default=8, help="search seeds of each case")
    args = parser.parse_args()
    done = {(row["case"], row["seed"]) for row in read(args.out)}
    # By seed first: if it is interrupted, all cases have as many.
    jobs = [(case, seed) for seed in range(args.seeds) for case in args.cases]
    jobs = [job for job in jobs if job not in done]
    for case in dict.fromkeys(case for case, _ in jobs):
        fill(plan_of(case, args.home, args.settings).references, args.device, args.processes)
    places = {"home": args.home, "device": args.device, "settings": args.settings, "out": args.out}
    for _ in parallel(partial(compared, **places), jobs, args.processes):
        pass
    print(json.dumps(summary(read(args.out))))  # noqa: T201


if __name__ == "__main__":
    main()
