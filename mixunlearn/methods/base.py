"""The interface of all unlearning methods, and their common epoch loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mixunlearn.acceleration import Step, Steps
from mixunlearn.augmentation import augmented
from mixunlearn.data.batches import Indices, Samples, pairs
from mixunlearn.errors import InputError
from mixunlearn.models import StagedModel
from mixunlearn.optimization import SGD, adam, take_step
from mixunlearn.precision import FLOAT32, Precision

MOMENTUM = 0.9  # of SGD, in all methods that offer it


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything that a method may use.

    Args:
        original: the trained model that must forget; frozen, never changed.
        fresh: builds an untrained model of the same kind from a seed.
        initial: builds the model that originals and references start from, from a seed: an
            untrained one, or one with pretrained weights.
        forget: D_f.
        retain: D_r.
        held_out: images for tuning that no model was trained on, with labels.
        classes: number of classes.
        forgotten: the classes that a class task forgets completely, () for other tasks.
        seed: determines all random choices of the method.
        precision: of each step.
        augmentation: how the original's training changed its images at random; a key of
            `mixunlearn.augmentation.AUGMENTATIONS`.
        capture: whether steps may be captured and replayed; see `mixunlearn.acceleration`.
    """

    original: StagedModel
    fresh: Callable[[int], StagedModel]
    initial: Callable[[int], StagedModel]
    forget: Samples
    retain: Samples
    held_out: Samples
    classes: int
    forgotten: tuple[int, ...]
    seed: int
    precision: Precision = FLOAT32
    augmentation: str = "none"
    capture: bool = True

    @property
    def device(self) -> torch.device:
        """The device of the samples and the models."""
        return self.forget.images_NCHW.device

    @property
    def pixel_range(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value that a pixel can have, (C, 1, 1), float32.

        They are 0 and 1 for uint8. For floating-point images, which may be scaled in any way, they
        are those found in each channel of D_f and D_r.
        """
        sets = [self.forget.images_NCHW, self.retain.images_NCHW]
        if sets[0].dtype == torch.uint8:
            low_C11 = torch.zeros(sets[0].shape[1], 1, 1, device=self.device)
            return low_C11, low_C11 + 1
        lows = torch.stack([images.amin((0, 2, 3)) for images in sets]).amin(0)
        highs = torch.stack([images.amax((0, 2, 3)) for images in sets]).amax(0)
        return lows.float()[:, None, None], highs.float()[:, None, None]

    def augment(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Return images to learn from, changed at random as those the original has learned from.

        Args:
            images: (B, C, H, W), as `Samples.batch` returns them.
            rng: the method's own, which is part of its state.
        """
        return augmented(images, self.augmentation, rng)


class Stateful(Protocol):
    """A model or an optimizer: something whose state can be saved."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state as nested plain containers of tensors and numbers."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Load a state."""


@dataclass(kw_only=True)
class Method(ABC):
    """One way to unlearn; its fields are its hyperparameters.

    A subclass defines in `update` what one step does with one batch of pairs.

    Attributes:
        needs_labels: whether it cannot work without labels.
        whole_classes: whether it can only forget whole classes.
        passes_over: the set that one epoch passes over once; the other set is repeated as needed.
        ceiling: number of epochs after which nothing changes any more; `None` if there is no limit.
        capturable: whether the operations of a step depend on nothing but tensors, the models'
            modes and `step_kind`, so that steps can be captured and replayed
            (`mixunlearn.acceleration`). Classes of other packages do not inherit it.
        course: the hyperparameter that is the number of epochs of the run unless it is given;
            empty if the method does not depend on it.

    Args:
        lr: learning rate of the optimizer on the unlearner, > 0.
        batch: pairs in a step, at least 1.
        optimizer: "adam" or "sgd", which has momentum 0.9.
        weight_decay: L2 penalty ≥ 0, which the optimizer adds to the gradient.
    """

    needs_labels: ClassVar[bool]
    whole_classes: ClassVar[bool] = False
    passes_over: ClassVar[Literal["retain", "forget"]] = "retain"
    ceiling: ClassVar[int | None] = None
    course: ClassVar[str] = ""
    capturable: ClassVar[bool] = False

    lr: float = 1e-4
    batch: int = 32
    optimizer: str = "adam"
    weight_decay: float = 0.0

    @classmethod
    def incompatible(cls, task: str, labels: str) -> str | None:
        """Return why the method cannot be used for a kind of task, `None` if it can.

        Args:
            task: kind of the task, "class" if whole classes are forgotten.
            labels: "aware" or "agnostic".
        """
        if labels == "agnostic" and cls.needs_labels:
            return "needs labels"
        if task != "class" and cls.whole_classes:
            return "can forget nothing but whole classes"
        return None

    @classmethod
    def planned(cls, epochs: int) -> dict[str, Any]:
        """Return the hyperparameters that are the number of epochs of a run unless given."""
        return {cls.course: epochs} if cls.course else {}

    def prepare(self, context: Context) -> None:
        """Build the unlearner and everything else that is trained; only the seed decides how."""
        self.context = context
        self.gradient_masks: dict[str, Tensor] = {}
        # NumPy's: draws are the same on every device, and its state is plain data for checkpoints.
        self.rng = np.random.default_rng(context.seed)
        self.model = self.start(context)
        self.stepper = self.stepper_for(self.model, self.lr)
        self._steps = Steps(
            type(self).__name__,
            self.parts,
            self.rng,
            context.device,
            wanted=context.capture and self.can_capture(),
        )

    @classmethod
    def can_capture(cls) -> bool:
        """Return whether steps can be captured; a class from elsewhere must say so itself."""
        for kind in cls.__mro__:
            if "capturable" in vars(kind):
                return bool(vars(kind)["capturable"])
            if not kind.__module__.startswith("mixunlearn."):
                break
        return False

    def run_step(self, step: Step, *indices: Tensor, kind: Hashable = ()) -> Mapping[str, Tensor]:
        """Take a step, captured where that is possible; return its scalars.

        Args:
            step: a method that changes nothing but `parts`; see `update`.
            indices: what it is called with.
            kind: what its operations depend on beside tensors and the models' modes.
        """
        return self._steps.take(step, *indices, kind=kind)

    @property
    def captured_kinds(self) -> int:
        """Return how many kinds of steps are replayed; see `mixunlearn.acceleration`."""
        return self._steps.captured_kinds

    def step_kind(self) -> Hashable:
        """Return what the operations of the next `update` depend on, beside tensors and modes."""
        return ()

    def before_step(self) -> None:  # noqa: B027 (by default, nothing does)
        """Change what differs from step to step on the CPU, such as a learning rate."""

    def stepper_for(self, module: nn.Module, lr: float) -> torch.optim.Optimizer:
        """Return the optimizer of a module's weights that the hyperparameters ask for.

        Raises:
            InputError: it is neither "adam" nor "sgd".
        """
        if self.optimizer == "sgd":
            decay = self.weight_decay
            return SGD(module.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=decay)
        if self.optimizer != "adam":
            raise InputError("search.space.optimizer", self.optimizer, "must be adam or sgd")
        return adam(module, lr, self.weight_decay)

    def start(self, context: Context) -> StagedModel:
        """Return the model that unlearning starts from: a copy of the original."""
        model = deepcopy(context.original)
        # The original is frozen as a whole, and so is its copy.
        model.thaw()
        return model

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r or D_f and return the mean of each step's scalars."""
        # In each epoch, because the evaluation between epochs leaves the model in evaluation mode.
        self.set_mode()
        scalars: dict[str, list[Tensor]] = {}
        with self.context.precision.forward(self.context.device):
            for number, (forget_B, retain_B) in enumerate(self.pairs()):
                self.step_number = number
                self.before_step()
                found = self.run_step(self.update, forget_B, retain_B, kind=self.step_kind())
                for name, scalar in found.items():
                    scalars.setdefault(name, []).append(scalar)
        # Read once per epoch: reading a number in each step would stall a GPU.
        return {name: torch.stack(values).mean().item() for name, values in scalars.items()}

    def set_mode(self) -> None:
        """Put the unlearner into the mode for all steps of an epoch: training mode by default."""
        self.model.train()
        if min(self.passed_over(), self.batch) == 1:
            settle(self.model)

    def passed_over(self) -> int:
        """Return the number of images that one epoch passes over."""
        context = self.context
        return len(context.forget if self.passes_over == "forget" else context.retain)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the epoch's batches: forget indices (B,) and retain indices (B,)."""
        forget, retain = self.context.forget, self.context.retain
        if self.passes_over == "forget":
            swapped = pairs(self.rng, len(retain), len(forget), self.batch, self.context.device)
            return ((forget_B, retain_B) for retain_B, forget_B in swapped)
        return pairs(
            self.rng,
            len(forget),
            len(retain),
            self.batch,
            self.context.device,
            self.pairing_classes(),
        )

    def pairing_classes(self) -> tuple[Indices, Indices] | None:
        """Return the classes of D_f and D_r if a pair's classes must differ, else `None`."""
        return None

    @abstractmethod
    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on a batch of pairs and return detached scalars, at least `loss`.

        If the method is `capturable`, what it draws, and other numbers that differ from step to
        step, come from `mixunlearn.host_values.from_host`; it reads no number from a tensor.
        """

    def images(self, samples: Samples, indices_B: Tensor) -> Tensor:
        """Return a batch of images to learn from, (B, C, H, W); see `Context.augment`."""
        return self.context.augment(samples.batch(indices_B), self.rng)

    def logits(self, forget_B: Tensor, retain_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unlearner's logits for each half of a batch, (B, K), from one pass."""
        halves = (self.context.forget, forget_B), (self.context.retain, retain_B)
        images = torch.cat([self.images(*half) for half in halves])
        forget, retain = self.model(images).split((len(forget_B), len(retain_B)))
        return forget, retain

    def forget_share(self, forget_weight: float, least: int = 1) -> float:
        """Return the weight of the mean loss on D_f beside that on D_r: `w·|D_f|/|D_r|`.

        A step has as many images of D_f as of D_r, however few there are in D_f. With this weight,
        an epoch counts each image of D_f as w images of D_r.

        Args:
            forget_weight: w.
            least: number of images that a smaller D_f counts as.
        """
        return forget_weight * max(len(self.context.forget), least) / len(self.context.retain)

    def cross_entropy(self, samples: Samples, indices_B: Tensor) -> Tensor:
        """Return the unlearner's mean cross entropy on a batch, in nats."""
        return F.cross_entropy(
            self.model(self.images(samples, indices_B)), samples.labels(indices_B)
        )

    def step(self, loss: Tensor, *, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Take one step down the gradient of a loss, scaled by `gradient_masks`.

        Without weight decay, a weight whose gradient was always zero does not move.

        Args:
            loss: a scalar.
            optimizer: of the weights to change; `None` means the unlearner's own.
        """
        masks = self.gradient_masks.items()
        take_step(
            loss,
            self.stepper if optimizer is None else optimizer,
            precision=self.context.precision,
            gradient_masks=((self.model.get_parameter(name), mask) for name, mask in masks),
        )

    def parts(self) -> dict[str, Stateful]:
        """Return by name everything that training changes, except the random generator."""
        return {"model": self.model, "optimizer": self.stepper}

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next epoch depends on."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        return {**states, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; `prepare` must have been called before."""
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self._steps.forget()
        self.rng.bit_generator.state = state["rng"]


def settle(model: StagedModel) -> None:
    """Let batch norms use their statistics: a single image has no variance of its own."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@dataclass(kw_only=True)
class OneStep(Method):
    """A method that changes the original's weights in one step; all epochs give the same result."""

    ceiling: ClassVar[int | None] = 1
    # There is no optimizer, so these are not hyperparameters here.
    lr: ClassVar[float] = 0.0  # type: ignore[misc]
    batch: ClassVar[int] = 0  # type: ignore[misc]
    optimizer: ClassVar[str] = "adam"  # type: ignore[misc]
    weight_decay: ClassVar[float] = 0.0  # type: ignore[misc]

    def epoch(self) -> dict[str, float]:
        """Restore the original's weights and change them."""
        # A second epoch, or one that is repeated after a crash, must not change the weights twice.
        self.model.load_state_dict(self.context.original.state_dict())
        self.model.eval()
        return {name: scalar.item() for name, scalar in self.apply().items()}

    @abstractmethod
    def apply(self) -> dict[str, Tensor]:
        """Change the weights, which are the original's; return scalars, at least `loss`."""

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Do not call: there are no steps."""
        raise NotImplementedError
