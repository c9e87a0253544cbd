"""Unlearning as one function call: a trained model, images to forget, images to keep."""

import difflib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from operator import index
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from mixunlearn.border import code_of_others
from mixunlearn.chance import own_chance
from mixunlearn.data.batches import Samples
from mixunlearn.data.given import Given, read_samples, require_classes
from mixunlearn.data.names import known_names
from mixunlearn.errors import DivergedError, InputError
from mixunlearn.inference import predict
from mixunlearn.methods import METHODS, Context, Method
from mixunlearn.models.ensemble import Ensemble
from mixunlearn.models.given import GivenModel
from mixunlearn.outcome import Unlearned
from mixunlearn.recipes import RULES
from mixunlearn.rehearsal import doubts
from mixunlearn.signature import seed_for
from mixunlearn.trial import Unlearning

# Of methods without a ceiling: as many as a search gives its trials, unless told otherwise.
EPOCHS = 6
SEEDS = 2**63
FEW = 4  # images of each set that the model is tried on
LABELS = ("aware", "agnostic")
USUAL = {"lr", "batch", "weight_decay"}  # they mean the same in a recipe
SPACE = "search.space."  # what keys of hyperparameters begin with in an experiment


def unlearn(
    model: nn.Module,
    forget: Given,
    retain: Given,
    method: str | type[Method] | Method = "mixunlearn",
    *,
    epochs: int | None = None,
    held_out: Given | None = None,
    labels: Literal["aware", "agnostic"] = "aware",
    forgotten: Sequence[int] = (),
    seed: int = 0,
    device: str | torch.device | None = None,
    fresh: Callable[[], nn.Module] | None = None,
    on_epoch: Callable[[Mapping[str, float]], object] | None = None,
    **hyperparameters: Any,  # noqa: ANN401 (each has a type of its own)
) -> Unlearned:
    """Let a trained model forget images; return a new model, and how it came about.

    The given model is not changed, nor are the global random generators. What the model froze
    (`requires_grad = False`) stays frozen. Dropout is off while unlearning, and as it was in the
    result. Images are held in memory; they are computed with in float32.

    Args:
        model: maps images (B, C, H, W) to logits (B, K); trained on `forget` and `retain`.
        forget: D_f, at least one image: a pair (images, labels) of tensors, NumPy arrays or
            lists; a data set, a list or a loader of pairs (image, label); `Samples`. Images are
            (N, C, H, W): floating point as the model takes them, or uint8, which is scaled to
            [0, 1]. Labels are 0 to K − 1, or one-hot.
        retain: D_r, at least one image.
        method: a key of `METHODS`, or a method: its class, or an instance with hyperparameters.
        epochs: at least 1; `None` means 6, as a search does. Methods that reach their end earlier
            do no more than that.
        held_out: images that the model was not trained on, for `evaluate` and for methods that use
            some.
        labels: "agnostic" hides all labels from the method; sets may then lack them.
        forgotten: the classes that are forgotten completely, if `forget` is whole classes.
        seed: of all random choices, in [0, 2**63).
        device: where to compute; `None` means the model's own device.
        fresh: builds an untrained model of the same class, for methods that need one. `None` means
            a copy with `reset_parameters` called on all its modules.
        on_epoch: called after each epoch with its entry of `history`.
        hyperparameters: of the method; the others have their defaults.

    Raises:
        InputError: an argument is wrong, or does not go with the others; nothing was computed.
        DivergedError: a loss or a weight is not finite.
    """
    _require_numbers(epochs, seed, labels)
    with own_chance(seed_for("chance", seed)):
        sets = _read({"forget": forget, "retain": retain, "held_out": held_out}, labels)
        channels, height, width = sets["forget"].images_NCHW.shape[1:]
        given = GivenModel.adopt("model", model, (channels, height, width), fresh)
        if not any(True for _ in given.staged.trained()):
            remedy = "has no weights that can be trained; call requires_grad_(True) on some"
            raise InputError("model", given.name, remedy)
        _require_labels(sets, given.classes)
        gone = _forgotten(forgotten, sets, given.classes)
        stage = given.staged.default_stage
        name, chosen = _method(method, hyperparameters, stage, EPOCHS if epochs is None else epochs)
        if why := chosen.incompatible("class" if gone else "data", labels):
            remedy = f"{why}; choose another method, or see forgotten= and labels="
            raise InputError("method", name, remedy)
        context = _context(given, sets, chosen, _device(device, given), labels, gone, seed)
        _tell_doubts(given, context)
        # A method says by its class how many epochs make sense.
        count = min(EPOCHS if epochs is None else epochs, chosen.ceiling or SEEDS)
        history = _run(name, given, chosen, context, count, on_epoch)
        return Unlearned(
            model=given.deliver(chosen.model),
            method=name,
            history=history,
            _given=given,
            _after=chosen.model,
            _context=context,
            _measured={key: samples for key, samples in sets.items() if len(samples)},
        )


def _run(
    name: str,
    given: GivenModel,
    method: Method,
    context: Context,
    epochs: int,
    on_epoch: Callable[[Mapping[str, float]], object] | None,
) -> list[dict[str, float]]:
    """Unlearn; return the history."""
    with _refused(name, given.name):
        unlearning = Unlearning(method, context)
        if isinstance(method.model, Ensemble):
            remedy = "gives several models instead of one of your class; choose another method"
            raise InputError("method", name, remedy)
    history: list[dict[str, float]] = []
    for number in range(1, epochs + 1):
        with _refused(name, given.name):
            losses = unlearning.unlearn()
        found = {key.removeprefix("train/"): value for key, value in losses.items()}
        history.append({"epoch": number, "seconds": unlearning.seconds, **found})
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def _require_numbers(epochs: object, seed: object, labels: object) -> None:
    if epochs is not None and (type(epochs) is not int or epochs < 1):
        raise InputError("epochs", epochs, "must be a whole number of at least 1")
    if type(seed) is not int or not 0 <= seed < SEEDS:
        raise InputError("seed", seed, "must be a whole number from 0 to 2**63 − 1")
    if labels not in LABELS:
        raise InputError("labels", labels, f"must be one of {', '.join(LABELS)}")


def _read(given: Mapping[str, Given | None], labels: str) -> dict[str, Samples]:
    """Return the sets by their keys; held-out images are none if none are given."""
    sets = {
        key: read_samples(key, found, unlabelled=labels == "agnostic")
        for key, found in given.items()
        if found is not None or key != "held_out"
    }
    first = sets["forget"].images_NCHW
    for key, samples in sets.items():
        images = samples.images_NCHW
        if (images.shape[1:], images.dtype) != (first.shape[1:], first.dtype):
            here, there = (
                f"{str(each.dtype)[6:]} {'×'.join(map(str, each.shape[1:]))}"
                for each in (images, first)
            )
            raise InputError(key, here, f"the images of forget are {there}; make them alike")
    none = Samples(images_NCHW=first[:0], labels_N=torch.zeros(0, dtype=torch.int64))
    return {"held_out": none, **sets}


def _require_labels(sets: Mapping[str, Samples], classes: int) -> None:
    """Check all labels; warn if the model has outputs for more."""
    for key, samples in sets.items():
        require_classes(key, samples, classes)
    known = [samples.labels_N for samples in sets.values() if samples.labels_N is not None]
    most = max((int(labels_N.max()) for labels_N in known if len(labels_N)), default=classes)
    if most + 1 < classes:
        words = f"the model has {classes} outputs, but no label is above {most}"
        warnings.warn(words, stacklevel=3)


def _forgotten(
    forgotten: Sequence[int], sets: Mapping[str, Samples], classes: int
) -> tuple[int, ...]:
    """Return the classes that are forgotten completely: all of D_f, and none of D_r."""
    try:
        gone = tuple(index(name) for name in forgotten)
    except TypeError as error:
        remedy = "must be class numbers, for example [0]"
        raise InputError("forgotten", forgotten, remedy) from error
    for name in gone:
        if not 0 <= name < classes:
            raise InputError("forgotten", name, f"must be a class, 0 to {classes - 1}")
    for key, inside in (("forget", True), ("retain", False)):
        labels_N = sets[key].labels_N
        if not gone or labels_N is None:
            continue
        stray = (torch.isin(labels_N, torch.tensor(gone)) != inside).nonzero()
        if len(stray):
            where = f"image {int(stray[0])} of {key} has the label {int(labels_N[stray[0]])}"
            remedy = f"{where}; forget must hold only forgotten classes, and retain none of them"
            raise InputError("forgotten", gone, remedy)
    return gone


def _method(
    method: str | type[Method] | Method, hyperparameters: Mapping[str, Any], stage: str, epochs: int
) -> tuple[str, Method]:
    """Return the name of a method and a new instance of it."""
    if isinstance(method, Method):
        if hyperparameters:
            name = next(iter(hyperparameters))
            raise InputError(name, hyperparameters[name], "set it in the method that you give")
        return type(method).__name__, replace(method) if is_dataclass(method) else deepcopy(method)
    if isinstance(method, str) and method not in METHODS:
        raise InputError("method", method, f"unknown; {known_names(method, METHODS)}")
    kind = METHODS[method] if isinstance(method, str) else method
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise InputError("method", type(method).__name__, "must be a key of METHODS, or a Method")
    name = method if isinstance(method, str) else kind.__name__
    known = [field.name for field in fields(kind) if field.init]
    for key, value in hyperparameters.items():
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=3, cutoff=0.0)
            words = f"did you mean {' or '.join(nearest)}?" if nearest else "it has none"
            raise InputError(key, value, f"is no hyperparameter of {name}; {words}")
        _require_usual(key, value)
    # A method's own defaults are a stage of one of our models, and a run of another length.
    defaults = kind.planned(epochs) | ({"stage": stage} if "stage" in known else {})
    with _refused(name, "this configuration"):
        return name, kind(**{**defaults, **hyperparameters})


def _require_usual(key: str, value: object) -> None:
    """Check a hyperparameter that nearly all methods have; PyTorch would not name it."""
    if key in USUAL:
        right, remedy = RULES[key]
        if not right(value.item() if isinstance(value, np.generic) else value):
            raise InputError(key, value, remedy)


def _device(device: str | torch.device | None, given: GivenModel) -> torch.device:
    if device is None:
        return given.device

    def refusal(reason: str) -> InputError:
        return InputError("device", str(device), f"cannot be used ({reason})")

    with code_of_others(refusal):
        return torch.zeros(1, device=device).device


def _context(
    given: GivenModel,
    sets: Mapping[str, Samples],
    method: Method,
    device: torch.device,
    labels: str,
    forgotten: tuple[int, ...],
    seed: int,
) -> Context:
    original = given.original(device)
    stage = getattr(method, "stage", "")
    if stage and stage not in original.stages_with((stage,)):
        raise InputError("stage", stage, known_names(stage, original.stage_names))

    def taught(samples: Samples) -> Samples:
        images_NCHW = samples.images_NCHW.to(device)
        seen = None if labels == "agnostic" or samples.labels_N is None else samples.labels_N
        labels_N = None if seen is None else seen.to(device)
        if not len(samples):
            return Samples(images_NCHW=images_NCHW, labels_N=labels_N)
        probs_NK, features = predict(original, images_NCHW, (stage,) if stage else ())
        return replace(
            samples,
            images_NCHW=images_NCHW,
            labels_N=labels_N,
            probs_NK=probs_NK,
            features=features,
        )

    try:
        found = {key: taught(samples) for key, samples in sets.items()}
    except DivergedError as error:
        raise InputError("model", given.name, f"{error.args[0]}; give a sound model") from error
    return Context(
        original=original,
        fresh=given.untrained,
        initial=given.untrained,
        forget=found["forget"],
        retain=found["retain"],
        held_out=found["held_out"],
        classes=given.classes,
        forgotten=forgotten,
        seed=seed,
    )


def _tell_doubts(given: GivenModel, context: Context) -> None:
    """Warn of a model that draws random numbers, or gives probabilities."""
    parts = (context.forget, context.retain)
    few = [each.batch(torch.arange(min(FEW, len(each)), device=context.device)) for each in parts]
    with code_of_others(lambda reason: InputError("model", given.name, f"fails ({reason})")):
        found = doubts(deepcopy(context.original), torch.cat(few))
    for doubt in found:
        warnings.warn(f"model: {given.name} {doubt}", stacklevel=3)


@contextmanager
def _refused(name: str, what: str) -> Iterator[None]:
    """Say which method fails if a block does, with the keys of `unlearn`."""

    def refusal(reason: str) -> InputError:
        return InputError("method", name, f"does not work with {what} ({reason}); choose another")

    with code_of_others(refusal):
        try:
            yield
        except InputError as error:
            key = "model" if error.key == "model.name" else error.key.removeprefix(SPACE)
            raise InputError(key, error.value, error.remedy) from error
