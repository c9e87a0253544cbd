"""Models that consist of a sequence of stages and a head."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mixunlearn.models.staged import StagedModel


def centred(images: Tensor) -> Tensor:
    """Return images in [-1, 1]: they are mixed in [0, 1], but training is faster when centred."""
    return (images - 0.5) * 2


class Chain(StagedModel):
    """A classifier as a chain of named stages and a head.

    Args:
        stages: name -> module, in order; each maps feature maps to feature maps.
        head: maps the last stage's feature maps to logits.
        default_stage: the stage whose features the generator reads by default.
    """

    def __init__(
        self, stages: Mapping[str, nn.Module], head: nn.Module, default_stage: str
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(dict(stages))
        self.head = head
        self.stage_names, self.default_stage = tuple(stages), default_stage

    def forward_with_features(
        self, images: Tensor, names: Iterable[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits and the outputs of the named stages; see `StagedModel`."""
        wanted = {name: self.stages[name] for name in names}
        found: dict[str, Tensor] = {}
        x = centred(self.scaled(images))
        for name, stage in self.stages.items():
            x = stage(x)
            if name in wanted:
                found[name] = x
        return self.head(x), found
