"""What `unlearn` returns: the new model, how it came about, and how far it is from retraining.

Shape suffixes: N samples, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import nn

from mixunlearn.data.batches import Samples
from mixunlearn.data.given import Given, read_samples, require_classes
from mixunlearn.errors import InputError
from mixunlearn.evidence.estimate import LEVEL, Estimate, variance
from mixunlearn.inference import predict
from mixunlearn.methods import Context
from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.metrics.groups import holm
from mixunlearn.metrics.membership import Probabilities, attack_success
from mixunlearn.models import StagedModel
from mixunlearn.models.given import GivenModel
from mixunlearn.signature import seed_for
from mixunlearn.wording import counted

FEWEST = 3  # retrained models; with fewer, their spread is not known
NAMES = {
    "acc/train_forget": "accuracy on the forget set, %",
    "acc/train_retain": "accuracy on the retain set, %",
    "acc/held_out": "accuracy on held-out images, %",
    "acc/held_out_retain": "– of the kept classes, %",
    "acc/held_out_forget": "– of the forgotten classes, %",
    "mia/asr": "success of the membership attack, %",
}
HEADS = ("", "before", "after", "retrained", "difference", "90 % interval")

Metrics: TypeAlias = Mapping[str, float]
State: TypeAlias = Literal["unverified", "different", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """Measurements before and after unlearning, and what they show. `print` it to read it.

    Args:
        before, after: metrics of the given and of the unlearned model, in percent.
        retrained: the same of each retrained model.
        differences: metric -> after − mean of the retrained models, in percentage points.
        intervals: metric -> 90 % interval of this difference, if the unlearned model were one
            more retrained model; empty for fewer than three retrained models.
        state: "unverified": too few retrained models to test anything; "different": some metric
            differs from them by more than chance; "undecided": none does. That is no proof of
            equivalence, which a single unlearned model cannot give.
        reasons: why, in words.
    """

    before: Metrics
    after: Metrics
    retrained: Sequence[Metrics]
    differences: Metrics
    intervals: Mapping[str, tuple[float, float]]
    state: State
    reasons: Sequence[str]

    def __str__(self) -> str:
        """Return a table and the state with its reasons, as text."""
        used = len(HEADS) if self.intervals else len(HEADS) - 1 if self.retrained else 3
        rows = [HEADS[:used], *(self._row(name)[:used] for name in self.after)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, f"{self.state}: {'; '.join(self.reasons)}"])

    def _row(self, name: str) -> tuple[str, ...]:
        low, high = self.intervals.get(name, (np.nan, np.nan))
        values = [each[name] for each in self.retrained] or [np.nan]
        spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        return (
            NAMES[name],
            f"{self.before[name]:.1f}",
            f"{self.after[name]:.1f}",
            f"{np.mean(values):.1f}{spread}",
            f"{self.differences.get(name, np.nan):+.1f}",
            f"{low:+.1f} to {high:+.1f}",
        )


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """The result of `unlearn`.

    Args:
        model: the unlearned model: of the same class as the given one, with the same keys, on the
            same device and in the same mode.
        method: name of the method.
        history: for each epoch its number `epoch`, the `seconds` that unlearning has taken until
            then, and the method's losses.
    """

    model: nn.Module
    method: str
    history: Sequence[Mapping[str, float]]
    _given: GivenModel = field(repr=False)
    _after: StagedModel = field(repr=False)
    _context: Context = field(repr=False)
    _measured: Mapping[str, Samples] = field(repr=False)

    @property
    def seconds(self) -> float:
        """How long unlearning took, without reading and checking the data, in seconds."""
        return self.history[-1]["seconds"]

    def __repr__(self) -> str:
        """Return the method, its time and its last loss."""
        last = self.history[-1]
        epochs = counted(len(self.history), "epoch")
        words = f"{self.method}, {epochs}, {self.seconds:.1f} s, loss {last['loss']:.4g}"
        return f"Unlearned({type(self.model).__name__}: {words})"

    def evaluate(
        self,
        forget: Given | None = None,
        retain: Given | None = None,
        held_out: Given | None = None,
        retrained: nn.Module | Sequence[nn.Module] | None = None,
    ) -> Assessment:
        """Measure the model before and after unlearning, and compare it with retrained models.

        Args:
            forget: images with labels; see `unlearn`. `None` means those given to `unlearn`.
            retain: the same for images to keep.
            held_out: the same for images that no model was trained on.
            retrained: one or more models, trained without the forget set as the given one was
                trained with it. At least three are needed to test a difference.

        Raises:
            InputError: a set cannot be read, or a retrained model cannot be used.
            DivergedError: an output of a model is not finite.
        """
        sets = dict(self._measured)
        for key, given in (("forget", forget), ("retain", retain), ("held_out", held_out)):
            if given is not None:
                sets[key] = read_samples(key, given, unlabelled=True)
                require_classes(key, sets[key], self._given.classes)
        before = self._measure(self._context.original, sets)
        after = self._measure(self._after, sets)
        models = [retrained] if isinstance(retrained, nn.Module) else list(retrained or ())
        others = [self._measure(self._adopted(model, sets), sets) for model in models]
        return assess(before, after, others, _resolution(sets))

    def _adopted(self, model: nn.Module, sets: Mapping[str, Samples]) -> StagedModel:
        channels, height, width = sets["forget"].images_NCHW.shape[1:]
        adopted = GivenModel.adopt("retrained", model, (channels, height, width))
        if adopted.classes != self._given.classes:
            remedy = f"gives {adopted.classes} outputs, the given model {self._given.classes}"
            raise InputError("retrained", adopted.name, remedy)
        return adopted.original(self._context.device)

    def _measure(self, model: StagedModel, sets: Mapping[str, Samples]) -> dict[str, float]:
        device = self._context.device
        probs: dict[str, Probabilities] = {
            key: predict(model, samples.images_NCHW.to(device))[0].cpu().numpy()
            for key, samples in sets.items()
        }
        labels = {
            key: samples.labels_N.cpu().numpy()
            for key, samples in sets.items()
            if samples.labels_N is not None
        }
        found = {
            name: accuracy(probs[key][kept], labels[key][kept])
            for name, key, kept in self._shares(labels)
        }
        if _attacked(sets):
            found["mia/asr"] = attack_success(
                probs["retain"],
                probs["forget"],
                probs["held_out"],
                seed_for("attack", self._context.seed),
            )
        return found

    def _shares(self, labels: Mapping[str, npt.NDArray[np.int64]]) -> list[tuple[str, str, Any]]:
        """Return the accuracies that can be measured: name, set, and which of its images."""
        names = {"forget": "acc/train_forget", "retain": "acc/train_retain"}
        names["held_out"] = "acc/held_out"
        found: list[tuple[str, str, Any]] = [
            (names[key], key, slice(None)) for key in names if key in labels
        ]
        if self._context.forgotten and "held_out" in labels:
            gone = np.isin(labels["held_out"], self._context.forgotten)
            parts = (("acc/held_out_retain", ~gone), ("acc/held_out_forget", gone))
            found += [(name, "held_out", part) for name, part in parts if part.any()]
        return found


def assess(
    before: Metrics, after: Metrics, retrained: Sequence[Metrics], resolution: Metrics
) -> Assessment:
    """Compare a model with retrained ones, as if it could be one of them.

    Each difference is tested with Student's t for one further value (two-sided), all of them with
    Holm's correction at 5 %.

    Args:
        before: metrics of the given model, in percent.
        after: those of the unlearned model.
        retrained: those of each retrained model.
        resolution: metric -> its smallest step; the retrained models' spread counts at least so.
    """
    found = _differences(after, retrained, resolution)
    tested = len(retrained) >= FEWEST
    apart = _apart(found) if tested else []
    state: State = "different" if apart else "undecided" if tested else "unverified"
    return Assessment(
        before=before,
        after=after,
        retrained=retrained,
        differences={name: each.value for name, each in found.items()},
        intervals={name: each.interval for name, each in found.items()} if tested else {},
        state=state,
        reasons=_reasons(
            state,
            len(retrained),
            apart,
            blind=tested and not _apart(_differences(before, retrained, resolution)),
            attacked="mia/asr" in after,
        ),
    )


def _differences(
    metrics: Metrics, retrained: Sequence[Metrics], resolution: Metrics
) -> dict[str, Estimate]:
    return {
        name: _difference(value, [each[name] for each in retrained], resolution.get(name, 0.0))
        for name, value in metrics.items()
        if retrained
    }


def _apart(found: Mapping[str, Estimate]) -> list[str]:
    """Return what differs by more than chance."""
    ps = holm([each.beyond(0) for each in found.values()])
    return [NAMES[name].strip("– ") for name, p in zip(found, ps, strict=True) if p < LEVEL]


def _difference(value: float, retrained: Sequence[float], step: float) -> Estimate:
    """Return how far a value is from those of retrained models, with the error of one more."""
    count = len(retrained)
    spread = max(float(np.sqrt(variance(retrained))), step) if count > 1 else 0.0
    error = spread * np.sqrt(1 + 1 / count)
    return Estimate(value=value - float(np.mean(retrained)), error=error, freedom=max(count - 1, 1))


def _reasons(
    state: State, count: int, apart: Sequence[str], *, blind: bool, attacked: bool
) -> list[str]:
    models = counted(count, "retrained model")
    reasons = {
        "unverified": f"{models} to compare with, {FEWEST} are needed to test a difference",
        "different": f"from {models} in {', '.join(apart)}",
        "undecided": f"no difference from {models} is shown; that is no proof of equivalence",
    }
    found = [reasons[state]]
    if blind and state == "undecided":
        found.append("not even the model before unlearning differs: these numbers cannot tell")
    if not attacked:
        found.append("no membership attack: it needs two held-out images and the package xgboost")
    return found


def _attacked(sets: Mapping[str, Samples]) -> bool:
    enough = "held_out" in sets and len(sets["held_out"]) > 1
    return enough and find_spec("xgboost") is not None


def _resolution(sets: Mapping[str, Samples]) -> dict[str, float]:
    """Return the smallest step of each metric, in percentage points."""
    sizes = {key: len(samples) for key, samples in sets.items()}
    held_out = sizes.get("held_out", 0)
    counts = {
        "acc/train_forget": sizes["forget"],
        "acc/train_retain": sizes["retain"],
        "acc/held_out": held_out,
        # Each draw of the attack asks about n members and n others.
        "mia/asr": 2 * min(sizes["forget"], sizes["retain"], held_out // 2),
    }
    return {name: 100 / count for name, count in counts.items() if count}
