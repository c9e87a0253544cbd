"""How few forgotten images, left in the training data, can each metric find?

    PYTHONPATH=. python experiments/dose_response.py --models 16 --home runs --out dose.jsonl

References are retrained with 0, 1, 2, 5, 10 and 50 % of D_f left in: the same images for all models
of a dose, and those of a smaller dose among those of a larger one. Everything is measured on
`test`, so about half of the images that were left in are among those that are evaluated. There are
twice as many models without any, so that these can be compared with each other.

Writes a JSON line for each model. The output, a JSON line for each task, says for each metric and
dose, in images:

- `power`: the share of draws of 5 + 5 models in which it is told apart from dose 0 (Welch's t-test,
  p < 0.05; for `pe/…`, the 90 % interval is above the value of no difference). That of dose 0 is
  the share of false alarms.
- `p`: with all models, Holm-corrected over all metrics and doses of the task. `pe/…` has `all`
  instead: its value and its 90 % interval, not corrected.
- `equivalent`, of the task: the share of draws of 5 + 5 in which all metrics of the verdict are
  within their margins.
- `limit`: the smallest dose from which on all are told apart; with 5 + 5, in 80 % of the draws.

Lines that are there already are not computed again, so `--models 0` only prints the result.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from distributed.plan.plan import Plan
from experiments.pool import append, arguments, fill, opened, parallel, read, train
from mixunlearn.data.batches import Indices
from mixunlearn.data.labelled import LabelledImages
from mixunlearn.evaluation import EvaluationSet, evaluation_set
from mixunlearn.evidence.behaviour import BehaviourSet, behaviour_set
from mixunlearn.evidence.equivalence import biases
from mixunlearn.evidence.images import on_device
from mixunlearn.evidence.likelihood import Estimate, Sample, per_example
from mixunlearn.evidence.logit_margins import logit_margins
from mixunlearn.inference import predict
from mixunlearn.metrics.divergence import js_divergence
from mixunlearn.metrics.groups import holm
from mixunlearn.models import StagedModel
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.signature import seed_for

FILE = Path(__file__).parent / "mnist_class.yaml"
TASKS: Mapping[str, Sequence[str]] = {
    "class": [],
    "random": ["task={kind: random, fraction: 0.1}"],
}
ONE = ("references.originals=1", "references.seeds=1")
PERCENT = (0, 1, 2, 5, 10, 50)
FEW = 5  # models of each kind in a draw
LEVEL, POWER = 0.05, 0.8  # error of a test; the power that a detection limit asks for
DRAWS, PE_DRAWS = 1000, 100
BOOTSTRAP, PE_BOOTSTRAP = 500, 100
MOST = 250  # images of the control
NOTHING = {"auc": 0.5, "tpr_1": 1.0, "excess_auc": 0.0, "excess_tpr_1": 0.0}  # no difference

Array: TypeAlias = npt.NDArray[np.float64]
Row: TypeAlias = dict[str, Any]
Seeds: TypeAlias = Mapping[int, Sequence[int]]  # by dose in percent


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every model of a task is measured on.

    Args:
        images: of `test`.
        behaviour: images on which behaviour is measured.
        control: some of the images never trained on, without those of classes that are forgotten.
    """

    images: EvaluationSet
    behaviour: BehaviourSet
    control: LabelledImages

    @classmethod
    def of(cls, plan: Plan) -> "Bench":
        """Return the bench of a task; its first original must be in the store."""
        references = plan.references
        images = evaluation_set(references.dataset, references.splits, "test")
        unseen = images.held_out
        kept = unseen.ids_N[~np.isin(unseen.labels_N, images.forgotten)]
        return cls(
            images=images,
            behaviour=behaviour_set(images, references.load(references.original)),
            control=replace(unseen, ids_N=kept[:: -(-len(kept) // MOST)]),
        )

    def measure(self, model: StagedModel) -> dict[str, Any]:
        """Return all metrics of a model, its outputs on D_f, and margins on D_f and control."""
        found = self.images.evaluate(model)
        return {
            "metrics": dict(found.metrics) | self.behaviour.measure(model),
            "probs": found.forget_probs_NK.tolist(),
            "forget": margins(model, self.images.forget),
            "control": margins(model, self.control),
        }


def margins(model: StagedModel, images: LabelledImages) -> list[float]:
    """Return the margin of each image."""
    samples = on_device(images, next(model.parameters()).device)
    probs_NK = predict(model, samples.images_NCHW)[0].cpu().numpy()
    return [round(each, 4) for each in logit_margins(probs_NK[None], images.labels_N)[0].tolist()]


def left_in(references: ReferenceStore, percent: int) -> ReferenceStore:
    """Return a store whose references are trained on a share of D_f as well."""
    splits = references.splits
    rng = np.random.default_rng(seed_for("left in", splits.key))
    left = rng.permutation(splits.forget_N)[: images_of(references, percent)]
    return replace(
        references, splits=replace(splits, retain_N=np.sort(np.append(splits.retain_N, left)))
    )


def images_of(references: ReferenceStore, percent: int) -> int:
    """Return how many images a share of D_f is."""
    return round(len(references.splits.forget_N) * percent / 100)


def measured(plan: Plan, seeds: Seeds, device: torch.device, processes: int) -> Iterator[Row]:
    """Train models, by dose, and yield what is measured of each."""
    fill(plan.references, device, processes)
    stores = {percent: left_in(plan.references, percent) for percent in seeds}
    places = [(percent, seed) for percent in seeds for seed in seeds[percent]]
    jobs = [
        # Another seed at each dose: models of one seed start alike, so they are no two samples.
        (stores[percent], Member(role="reference", seed=1000 * percent + seed))
        for percent, seed in places
    ]
    models = (model for model, _ in train(jobs, device, processes))
    found = parallel(Bench.of(plan).measure, models, processes)
    for (percent, seed), values in zip(places, found, strict=True):
        images = images_of(plan.references, percent)
        yield {"dose": percent, "images": images, "seed": seed, **values}


def result(rows: Sequence[Row], declared: Mapping[str, float], processes: int) -> dict[str, Any]:
    """Return the power and the detection limit of each metric, in images left in."""
    images = {row["dose"]: row["images"] for row in sorted(rows, key=lambda row: int(row["dose"]))}
    found = {name: by_seed(values, images) for name, values in metric_values(rows, images).items()}
    # One family: all metrics at all doses.
    corrected = iter(holm([p for each in found.values() for p in each["p"].values()]))
    for each in found.values():
        each["p"] = {dose: next(corrected) for dose in each["p"]}
        each["limit, all"] = limit({dose: p < LEVEL for dose, p in each["p"].items()})
    samples = {dose: margins_of(rows, dose) for dose in images}
    jobs = [(images[dose], samples[0], samples[dose], dose == 0) for dose in images]
    parts = [*parallel(by_example, jobs, processes)]
    for name in parts[0]:
        few = {dose: part[name]["power"] for dose, part in zip(images.values(), parts, strict=True)}
        whole = {dose: part[name]["all"] for dose, part in zip(images.values(), parts, strict=True)}
        apart = {dose: each[1] > NOTHING[name] for dose, each in whole.items() if dose}
        found[f"pe/{name}"] = {
            "power": few,
            "all": whole,
            "limit, 5 + 5": limit({dose: each >= POWER for dose, each in few.items() if dose}),
            "limit, all": limit(apart),
        }
    counts = Counter(row["dose"] for row in rows)
    return {
        "models": {images[dose]: counts[dose] for dose in images},
        "equivalent": {images[dose]: equivalent(rows, dose, declared) for dose in images},
        "metrics": found,
    }


def metric_values(rows: Sequence[Row], doses: Iterable[int]) -> dict[str, dict[int, Array]]:
    """Return the values of all models by metric and dose; `div/js` is that to models of dose 0."""
    of_dose = {dose: [row for row in rows if row["dose"] == dose] for dose in doses}
    names = rows[0]["metrics"]
    found = {
        name: {dose: np.array([each["metrics"][name] for each in of_dose[dose]]) for dose in doses}
        for name in names
    }
    probs = {dose: [np.array(each["probs"]) for each in of_dose[dose]] for dose in doses}
    found["div/js"] = {
        dose: np.array(
            [np.mean([js_divergence(p, r) for r in probs[0] if r is not p]) for p in own]
        )
        for dose, own in probs.items()
    }
    return found


def by_seed(values: Mapping[int, Array], images: Mapping[int, int]) -> dict[str, Any]:
    """Return mean, power and p by dose of a metric with one value for each model."""
    rng, without = np.random.default_rng(0), values[0]
    power, p = {}, {}
    for dose, own in values.items():
        found = []
        for _ in range(DRAWS):
            order = rng.permutation(len(without))
            of_own = own[rng.permutation(len(own))[:FEW]] if dose else without[order[FEW : 2 * FEW]]
            found.append((of_own, without[order[:FEW]]))
        power[images[dose]] = float(np.mean(welch(*np.array(found).swapaxes(0, 1)) < LEVEL))
        if dose:
            p[images[dose]] = float(welch(own[None], without[None])[0])
    return {
        "mean": {images[dose]: round(float(own.mean()), 4) for dose, own in values.items()},
        "sd": round(float(without.std(ddof=1)), 4),
        "power": power,
        "p": p,
        "limit, 5 + 5": limit({dose: each >= POWER for dose, each in power.items() if dose}),
    }


def equivalent(rows: Sequence[Row], dose: int, margins: Mapping[str, float]) -> float:
    """Return the share of draws of 5 + 5 models in which all metrics are within their margins."""
    rng = np.random.default_rng(0)
    without, own = ([row["metrics"] for row in rows if row["dose"] == each] for each in (0, dose))
    found = 0
    for _ in range(DRAWS):
        order = rng.permutation(len(without))
        few = order[FEW : 2 * FEW] if not dose else rng.permutation(len(own))[:FEW]
        drawn, others = (
            {name: [models[index][name] for index in indices] for name in margins}
            for models, indices in ((own, few), (without, order[:FEW]))
        )
        found += all(each.state == "equivalent" for each in biases(drawn, others, margins))
    return found / DRAWS


def welch(first_DM: Array, second_DM: Array) -> Array:
    """Return the p values of D differences of means; 1 where all models are alike."""
    with warnings.catch_warnings():
        # Models that are all alike: their difference is certain, or there is none.
        warnings.simplefilter("ignore", RuntimeWarning)
        p_D = stats.ttest_ind(first_DM, second_DM, axis=1, equal_var=False).pvalue
    return np.where(np.isnan(p_D), 1.0, p_D)


def margins_of(rows: Sequence[Row], dose: int) -> tuple[Array, Array]:
    """Return the margins of all models of a dose, on D_f and on control."""
    own = [row for row in rows if row["dose"] == dose]
    return np.array([row["forget"] for row in own]), np.array([row["control"] for row in own])


def by_example(job: tuple[int, tuple[Array, Array], tuple[Array, Array], bool]) -> dict[str, Any]:
    """Return the power of evidence by example at a dose, and what it finds with all models."""
    seed, without, own, same = job
    rng, half = np.random.default_rng(seed), len(without[0]) // 2

    def found(own_M: Indices, without_M: Indices, draws: int) -> dict[str, Estimate]:
        sample, control = (
            Sample(unlearned_UN=mine[own_M], retrained_RN=theirs[without_M])
            for mine, theirs in zip(own, without, strict=True)
        )
        return per_example(sample, control, 0, draws=draws)

    counts = Counter[str]()
    for _ in range(PE_DRAWS):
        order = rng.permutation(len(without[0]))
        few = order[FEW : 2 * FEW] if same else rng.permutation(len(own[0]))[:FEW]
        drawn = found(few, order[:FEW], PE_BOOTSTRAP)
        counts.update(name for name, each in drawn.items() if each.low > NOTHING[name])
    every, others = np.arange(len(own[0])), np.arange(len(without[0]))
    whole = found(every[half:] if same else every, others[:half] if same else others, BOOTSTRAP)
    return {
        name: {
            "power": counts[name] / PE_DRAWS,
            "all": [round(value, 4) for value in (each.value, each.low, each.high)],
        }
        for name, each in whole.items()
    }


def limit(apart: Mapping[int, bool]) -> int | None:
    """Return the smallest number of images from which on all are told apart."""
    found = None
    for images, each in sorted(apart.items(), reverse=True):
        if not each:
            break
        found = images
    return found


def main() -> None:
    """Train, measure, and print what was found."""
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, default=Path("dose.jsonl"))
    parser.add_argument("--models", type=int, default=16, help="of each dose")
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS], default=[*TASKS])
    args = parser.parse_args()
    rows = read(args.out)
    known = {(row["task"], row["dose"], row["seed"]) for row in rows}
    for task in args.tasks:
        counts = {dose: args.models * (1 if dose else 2) for dose in PERCENT}
        seeds = {
            dose: [seed for seed in range(count) if (task, dose, seed) not in known]
            for dose, count in counts.items()
        }
        plan = opened(FILE, [*TASKS[task], *ONE, *args.settings], args.home)
        if any(seeds.values()):
            for row in measured(plan, seeds, args.device, args.processes):
                rows.append({"task": task, **row})
                append(args.out, rows[-1:])
        own = [row for row in rows if row["task"] == task]
        print(json.dumps({"task": task, **result(own, plan.margins, args.processes)}))  # noqa: T201


if __name__ == "__main__":
    main()
