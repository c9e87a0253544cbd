"""The interface of all models: a classifier with stages whose features can be read by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.parallel import divided, divides, dividing
from mixunlearn.passes import passed

Outputs: TypeAlias = tuple[Tensor, dict[str, Tensor]]

SMALL = 64  # pixels of an image's shorter side; up to this size, models are built as for CIFAR


class StagedModel(nn.Module, ABC):
    """A classifier whose inner feature maps have names.

    Attributes:
        stage_names: the stages a search chooses from, in order; empty if there are no maps.
        default_stage: the stage that the generator reads by default; empty if there are no maps.
        frozen: names of the parameters that no training may change.
        size: pixels of the shorter side to which the model scales images first; `None`: not at all.
    """

    stage_names: tuple[str, ...]
    default_stage: str
    frozen: frozenset[str] = frozenset()
    size: int | None = None

    def __init_subclass__(cls, *, counts: bool = True, **options: Any) -> None:  # noqa: ANN401
        """Let every model count its images, and compute with others; see `mixunlearn.parallel`.

        Args:
            counts: not for a model whose images pass through other models, which do so.
            options: of other base classes.
        """
        super().__init_subclass__(**options)
        if counts and "forward_with_features" in vars(cls):
            # Around the one function through which all images pass, whoever calls it.
            cls.forward_with_features = _counting(cls.forward_with_features)  # type: ignore[method-assign]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (B, K), of images in [0, 1], shape (B, channels, H, W)."""
        return self.forward_with_features(images, ())[0]

    @abstractmethod
    def forward_with_features(
        self, images: Tensor, names: Iterable[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits and the outputs of the named stages, each (B, C, h, w).

        Raises:
            KeyError: no stage has one of the names.
        """

    def scaled(self, images: Tensor) -> Tensor:
        """Return images as the model's first layer gets them: scaled to `size`, bilinearly."""
        if self.size is None:
            return images
        height, width = scaled_shape((images.shape[2], images.shape[3]), self.size)
        shrinks = self.size < min(images.shape[2:])
        return F.interpolate(images, (height, width), mode="bilinear", antialias=shrinks)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters that training may change, by name; each once."""
        return (item for item in self.named_parameters() if item[0] not in self.frozen)

    def thaw(self) -> None:
        """Let the parameters that training may change require gradients, and only these."""
        # In one pass: MixUnlearn does this in each step.
        for name, weight in self.named_parameters():
            weight.requires_grad_(name not in self.frozen)

    def stages_with(self, wished: Iterable[str]) -> tuple[str, ...]:
        """Return the stages a search chooses from, and additional ones that a user asks for.

        Raises:
            InputError: a stage cannot be read; the message names those that can.
        """
        del wished  # most models have no additional stages
        return self.stage_names


def _counting(forward: Callable[..., Outputs]) -> Callable[..., Outputs]:
    @wraps(forward)
    def counting(self: StagedModel, images: Tensor, names: Iterable[str]) -> Outputs:
        if divides():
            return _together(counting, self, images, tuple(names))
        outputs = forward(self, images, names)
        passed(images, outputs[0])
        return outputs

    return counting


def _together(
    forward: Callable[..., Outputs], model: StagedModel, images: Tensor, names: tuple[str, ...]
) -> Outputs:
    """Return a model's outputs for a batch that several processes compute together."""

    def compute(part: Tensor) -> Sequence[Tensor]:
        with dividing(really=False):
            logits, found = forward(model, part, names)
        return logits, *(found[name] for name in wanted)

    wanted = tuple(dict.fromkeys(names))
    logits, *features = divided(model, compute, images)
    return logits, dict(zip(wanted, features, strict=True))


def scaled_shape(shape: tuple[int, int], size: int | None) -> tuple[int, int]:
    """Return (height, width) after the shorter side was scaled to a size; `None`: as they are."""
    if size is None:
        return shape
    height, width = (round(side * size / min(shape)) for side in shape)
    return height, width
