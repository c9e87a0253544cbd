"""How much evidence is collected."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How many models and forget sets the evidence rests on.

    Args:
        originals: models that are unlearned, shared by all forget sets unless the task changes
            images.
        references: models retrained without a forget set, for each of them.
        forget_sets: forget sets that no search has seen.
    """

    originals: int
    references: int
    forget_sets: int


PROFILES: Mapping[str, Profile] = {
    # The fewest models with which exact retraining is called equivalent in 9 of 10 cases.
    "quick": Profile(originals=5, references=5, forget_sets=2),
    "standard": Profile(originals=16, references=16, forget_sets=3),
    # The fewest models with which KLoM means anything.
    "full": Profile(originals=64, references=64, forget_sets=3),
}
