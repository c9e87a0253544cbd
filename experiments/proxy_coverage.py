"""How often does the interval that proxies predict hold what a request then shows?

    PYTHONPATH=. python experiments/proxy_coverage.py --proxies 10 --requests 30 --home runs \
        --out requests.json

Random forget sets of MNIST, all of the same size and kind: the first are proxies, the others are
requests. Each is unlearned with the default configuration of a few methods, all from the same
original, and retrained once. The proxies predict the difference of each metric on `test`; a request
that was retrained shows it. The result is a JSON file. For each method:

- `covered`: the share of requests and metrics whose difference is in the 90 % interval; `metrics`
  has it by metric. All requests share the proxies, so this share varies more than its number of
  requests suggests.
- `splits`: the same for 3, 5 and 10 proxies drawn from all forget sets, mean of 500 draws; the
  others are the requests. This says how good the interval is, the first how good one prediction is.
- `state`: the prediction; `shown_within`: the share of requests whose differences are all within
  their margins.
- `unlearn_s`, `retrain_s`: mean seconds.

Each result is kept in a file beside it (`.jsonl`), and models are kept in the store. The same
command again computes only what is missing: after an interruption, or with more requests.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from distributed.plan.plan import Plan
from distributed.plan.proxies import Proxy, proxies
from experiments.pool import append, arguments, opened, parallel, read, train
from mixunlearn.atomic import replacing
from mixunlearn.evaluation import evaluation_set
from mixunlearn.evidence.prediction import predict, predicted_bias
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.signature import seed_for, signature
from mixunlearn.trial import Trial

FILE = Path(__file__).parent / "mnist_data.yaml"
SETTINGS = (
    "task={kind: random, fraction: 0.02}",
    "model.width=8",
    "references.originals=1",
    "references.seeds=1",
    "references.epochs=4",
    "search.epochs=1",
)
METHODS = ("finetune", "random_label", "salun")
DRAWN, DRAWS = (3, 5, 10), 500
CPU = torch.device("cpu")

Row: TypeAlias = dict[str, Any]
Array: TypeAlias = npt.NDArray[np.float64]  # (forget sets, metrics)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A forget set to unlearn.

    Args:
        references: the store of the original.
        proxy: the forget set, which is retrained already.
        method: the method.
        hyperparameters: its configuration.
        epochs: number of epochs.
        key: what determines the result.
    """

    references: ReferenceStore
    proxy: Proxy
    method: str
    hyperparameters: Mapping[str, Any]
    epochs: int
    key: str


def run(job: Job) -> Row:
    """Unlearn a forget set from the original, and compare it with the retrained model."""
    own = job.proxy.references
    problem = job.references.problem(with_labels=True).about(job.proxy.splits, own.evaluator("val"))
    seed = seed_for("proxy", job.proxy.number)
    trial = Trial(problem, job.method, job.hyperparameters, seed, CPU)
    for _ in range(job.epochs):
        trial.unlearn()
    evaluator = own.evaluator("test")
    found = evaluator.images.evaluate(trial.method.model).metrics
    (retrained,) = evaluator.references.evaluations
    return {
        "key": job.key,
        "method": job.method,
        "number": job.proxy.number,
        "differences": {name: found[name] - retrained.metrics[name] for name in found},
        "unlearn_s": trial.seconds,
        "retrain_s": evaluator.references.seconds[0],
    }


def jobs(plan: Plan) -> Iterator[Job]:
    """Yield the unlearning of each forget set with a method's default configuration."""
    method, epochs = plan.experiment.method, plan.epochs
    given = {name: value for name, value in plan.default.items() if value is not None}
    original = plan.references.key(plan.references.original)
    for proxy in proxies(plan):
        (reference,) = proxy.references.all_references
        content = [original, proxy.references.key(reference), method, given, epochs]
        yield Job(
            references=plan.references,
            proxy=proxy,
            method=method,
            hyperparameters=given,
            epochs=epochs,
            key=signature(content),
        )


def fill(plan: Plan, processes: int) -> None:
    """Train the original, its reference, and the reference of each forget set."""
    stores = [plan.references, *(each.references for each in proxies(plan))]
    missing = [(store, member) for store in stores for member in store.missing()]
    models = [each for each in missing if not each[0].trained(each[1])]
    for (store, member), found in zip(models, train(models, CPU, processes), strict=True):
        store.keep(member, *found)
    for store, member in missing:
        if (store, member) not in models:
            again(store, member)


def again(store: ReferenceStore, member: Member) -> None:
    """Make what is missing of a trained model: its evaluations and outputs."""
    store.keep(member, store.load(member), store.seconds(member))


def judged(plan: Plan, rows: Sequence[Row], first: int) -> Row:
    """Return what the first forget sets predict, and what the others show."""
    names = list(plan.margins)
    table = np.array([[row["differences"][name] for name in names] for row in rows])
    steps = evaluation_set(plan.dataset, plan.splits, "test").resolution()
    told = predict(dict(zip(names, table[:first].T, strict=True)), plan.margins, steps)
    inside = covered(names, steps, table[:first], table[first:])
    within = np.abs(table[first:]) < np.array([plan.margins[name] for name in names])
    return {
        "requests": len(rows) - first,
        "proxies": first,
        "state": told.state,
        "reasons": list(told.reasons),
        "intervals": told.as_plain()["metrics"],
        "covered": float(inside.mean()),
        "metrics": dict(zip(names, inside.mean(axis=0).tolist(), strict=True)),
        "splits": {
            count: drawn(names, steps, table, count) for count in DRAWN if count < len(rows)
        },
        "shown_within": float(within.all(axis=1).mean()),
        **{
            name: float(np.mean([row[name] for row in rows])) for name in ("unlearn_s", "retrain_s")
        },
    }


def covered(
    names: Sequence[str],
    steps: Mapping[str, float],
    known: Array,
    others: Array,
) -> npt.NDArray[np.bool_]:
    """Return whether each difference of the others is in the interval: (requests, metrics)."""
    found = [
        predicted_bias(name, column, 1.0, steps[name])
        for name, column in zip(names, known.T, strict=True)
    ]
    low, high = (np.array([getattr(each, end) for each in found]) for end in ("low", "high"))
    return (low <= others) & (others <= high)


def drawn(names: Sequence[str], steps: Mapping[str, float], table: Array, count: int) -> Row:
    """Return the mean share of covered differences over random choices of the proxies."""
    rng, shares = np.random.default_rng(seed_for("splits", count)), []
    for _ in range(DRAWS):
        order = rng.permutation(len(table))
        inside = covered(names, steps, table[order[:count]], table[order[count:]])
        shares.append(inside.mean(axis=0))
    means = np.mean(shares, axis=0)
    by_metric = dict(zip(names, means.tolist(), strict=True))
    return {"covered": float(means.mean()), "metrics": by_metric}


def main() -> None:
    """Compute what is missing, and write the result."""
    parser = arguments(__doc__)
    parser.add_argument("--proxies", type=int, default=10)
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--out", type=Path, default=Path("requests.json"))
    args = parser.parse_args()
    total = f"references.proxies={args.proxies + args.requests}"
    settings = [*SETTINGS, total, *args.settings]
    plans = [opened(FILE, [*settings, f"method={each}"], args.home) for each in args.methods]
    kept = args.out.with_suffix(".jsonl")
    for plan in plans:
        fill(plan, args.processes)
        known = {row["key"] for row in read(kept)}
        missing = [job for job in jobs(plan) if job.key not in known]
        for row in parallel(run, missing, args.processes):
            append(kept, [row])
    rows = {row["key"]: row for row in read(kept)}
    found = partial(judged, first=args.proxies)
    result = {
        plan.experiment.method: found(plan, [rows[job.key] for job in jobs(plan)]) for plan in plans
    }
    with replacing(args.out) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: each["covered"] for name, each in result.items()}))  # noqa: T201


if __name__ == "__main__":
    main()
