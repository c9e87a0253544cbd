"""SISA: sharded, isolated, sliced, aggregated training."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mixunlearn.methods.shards import ShardedMethod
from mixunlearn.models import StagedModel


@dataclass(kw_only=True)
class SISA(ShardedMethod):
    """Minimise `CE(D_r ∩ shard)` with a separate model for each shard, from scratch.

    A request costs a training on the retained images of the shards that held D_f. This is less than
    on all of D_r only if some shard held no image of D_f, for example if D_f is a few images.
    Slices, which would start the training of a shard at its first forgotten image, are not
    implemented.

    Source: Bourtoule et al., IEEE S&P 2021, arXiv 1912.03837.
    """

    @property
    def replacements(self) -> int:
        """Return the number of affected shards: each gets its own new model."""
        return len(self.affected)

    @property
    def images_retrained(self) -> int:
        """Return the number of retained images in the affected shards."""
        return sum(map(len, self.affected))

    def retrain(self, members: Sequence[StagedModel]) -> list[Tensor]:
        """Train each affected shard's model for one pass over its retained images."""
        return [
            self.fit(member, shard) for member, shard in zip(members, self.affected, strict=True)
        ]
