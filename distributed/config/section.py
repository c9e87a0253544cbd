"""A mapping in a file that a user writes: typed; an unknown key is an error."""

from typing import Annotated, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

Count: TypeAlias = Annotated[int, Field(ge=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Fraction: TypeAlias = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """A mapping in a file that a user writes; an unknown key is an error."""

    # Strict: YAML has types, so text in the place of a number is a mistake, not a number.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
