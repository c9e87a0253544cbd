"""SISA: sharded, isolated, sliced, aggregated training."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mixunlearn.methods.shards import ShardedMethod
from mixunlearn.models import StagedModel


@dataclass(kw_only=True)
class SISA(ShardedMethod):
    """Minimise `CE(D_r ∩ shard)` by a model of its own for each shard, from scratch.

    A request costs a training on the retained images of the shards that held D_f: less than on
    all of D_r only if some shard held nothing of it, as when D_f is a handful of images. Slices,
    which start the training of a shard where its first forgotten image was, are left out.

    Source: Bourtoule et al., IEEE S&P 2021, arXiv 1912.03837.
    """

    @property
    def replacements(self) -> int:
        """Return the number of affected shards: each has its own model again."""
        return len(self.affected)

    @property
    def images_retrained(self) -> int:
        """Return how many images of the affected shards are retained."""
        return sum(map(len, self.affected))

    def retrain(self, members: Sequence[StagedModel]) -> list[Tensor]:
        """Train each affected shard's model for one pass over what it retains."""
        return [
            self.fit(member, shard) for member, shard in zip(members, self.affected, strict=True)
        ]
