"""A trained model of a user of the library: adopted, built anew untrained, and given back."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from mixunlearn.border import code_of_others
from mixunlearn.errors import DivergedError, InputError
from mixunlearn.models.build import as_staged
from mixunlearn.models.finite import require_finite
from mixunlearn.models.staged import StagedModel
from mixunlearn.models.wrapped import Wrapped

FEWEST = 2  # classes


@dataclass(frozen=True, kw_only=True)
class GivenModel:
    """A user's model, which is never changed, and what unlearning works with instead.

    Args:
        given: the user's model, on any device, in any floating-point type and in any mode.
        staged: a copy in float32 on the CPU, with named stages; never changed either.
        classes: number of outputs.
        fresh: builds an untrained model of the same kind; `None` means a copy whose modules were
            all reset with `reset_parameters`.
    """

    given: nn.Module
    staged: StagedModel
    classes: int
    fresh: Callable[[], nn.Module] | None = None

    @classmethod
    def adopt(
        cls,
        key: str,
        model: nn.Module,
        image_shape: tuple[int, int, int],
        fresh: Callable[[], nn.Module] | None = None,
    ) -> "GivenModel":
        """Return a user's model, checked.

        Args:
            key: of the model in error messages.
            model: maps images (B, channels, H, W) to logits (B, K).
            image_shape: (channels, H, W).
            fresh: as above.

        Raises:
            InputError: this is no model, it cannot process such images, or a weight is not finite.
        """
        if not isinstance(model, nn.Module):
            raise InputError(key, type(model).__name__, "must be a torch.nn.Module")
        staged, classes = _copied(key, model, image_shape)
        if classes < FEWEST:
            remedy = "gives 1 output; it must give one for each class, at least 2"
            raise InputError(key, type(model).__name__, remedy)
        return cls(given=model, staged=staged, classes=classes, fresh=fresh)

    @property
    def name(self) -> str:
        """The model's class, for messages."""
        return type(self.given).__name__

    @property
    def device(self) -> torch.device:
        """The device of the user's model."""
        return next(self.given.parameters()).device

    def original(self, device: torch.device) -> StagedModel:
        """Return a copy to unlearn from: on a device, frozen, in evaluation mode."""
        return deepcopy(self.staged).to(device).requires_grad_(False).eval()

    def untrained(self, seed: int) -> StagedModel:
        """Return an untrained model of the same kind, on the CPU; frozen weights stay as they are.

        Raises:
            InputError: none can be built.
        """
        # Like everywhere: layers draw weights from the global generator, on the CPU.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model = self._redrawn() if self.fresh is None else self._built(self.fresh)
            for name in self.staged.frozen:
                model.get_parameter(name).copy_(self.staged.get_parameter(name))
        return model

    def deliver(self, unlearned: StagedModel) -> nn.Module:
        """Return a copy of the user's model with the weights of an unlearned one.

        Weights that unlearning has not changed are the user's own to the bit, in their own type.

        Raises:
            InputError: these are several models instead of one.
            DivergedError: a weight is not finite.
        """
        result = deepcopy(self.given)
        for weight in result.parameters():
            weight.grad = None  # that of the last training would only cost memory
        before, after = (self._network(model) for model in (self.staged, unlearned))
        with torch.no_grad():
            for own, old, new in zip(*map(_tensors, (result, before, after)), strict=True):
                changed = (new.cpu() != old).to(own.device)
                own.copy_(torch.where(changed, new.to(own.device, own.dtype), own))
        require_finite(result)
        return result

    def _network(self, model: StagedModel) -> nn.Module:
        """Return the part of a staged model that is of the user's class."""
        wrapped = isinstance(model, Wrapped) and not isinstance(self.given, StagedModel)
        return model.network if wrapped and isinstance(model, Wrapped) else model

    def _built(self, fresh: Callable[[], nn.Module]) -> StagedModel:
        def refusal(reason: str) -> InputError:
            return InputError("fresh", self.name, f"cannot build an untrained model ({reason})")

        with code_of_others(refusal):
            model = deepcopy(self.staged)
            self._network(model).load_state_dict(fresh().state_dict())
        return model

    def _redrawn(self) -> StagedModel:
        model = deepcopy(self.staged)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(reset):
                reset()
            elif any(weight.requires_grad for weight in module.parameters(recurse=False)):
                raise self._not_redrawn(f"{type(module).__name__} has no reset_parameters")
        for name, weight in model.trained():
            # Of weights that are computed from others, the reset is lost.
            varies = weight.numel() > 0 and bool(weight.min() < weight.max())
            if varies and torch.equal(weight, self.staged.get_parameter(name)):
                raise self._not_redrawn(f"reset_parameters does not change {name}")
        return model

    def _not_redrawn(self, reason: str) -> InputError:
        remedy = f"the method needs an untrained one, but {reason}; give fresh=, which builds it"
        return InputError("model", self.name, remedy)


def _copied(
    key: str, model: nn.Module, image_shape: tuple[int, int, int]
) -> tuple[StagedModel, int]:
    name = type(model).__name__

    def refusal(reason: str) -> InputError:
        images = "×".join(map(str, image_shape))
        return InputError(key, name, f"does not work on images of {images} ({reason})")

    try:
        with code_of_others(refusal):
            require_finite(model)
            # A layout of the user's own would hide which one the model allows.
            copy = deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format)
            return as_staged(copy, image_shape)
    except DivergedError as error:
        remedy = f"{error.args[0]}; give a sound model"
        raise InputError(key, name, remedy) from error


def _tensors(model: nn.Module) -> list[Tensor]:
    """Return parameters and buffers, each once, in the order of their definition."""
    return [*chain(model.parameters(), model.buffers())]
