"""A mapping in a file that a user writes: typed; an unknown key is an error."""

from typing import Annotated, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

Number = TypeVar("Number", int, float)


def up_to(most: float, why: str) -> AfterValidator:
    """Return the upper limit of a number, for `Annotated`; its error says why.

    Args:
        most: the largest number that is allowed.
        why: what happens beyond it, a text that can follow a colon.
    """

    def check(value: Number) -> Number:
        if value > most:
            given = {"most": most, "why": why}
            raise PydanticCustomError("up_to", "must be at most {most}: {why}", given)
        return value

    return AfterValidator(check)


YEAR_SECONDS, YEAR_HOURS = 31_536_000, 8_760

Positive: TypeAlias = Annotated[float, Field(gt=0)]
Seed: TypeAlias = Annotated[
    int, Field(ge=0), up_to(2**63 - 1, "databases keep no larger whole numbers")
]
Epochs: TypeAlias = Annotated[int, Field(ge=1), up_to(100_000, "each one takes time")]
Trials: TypeAlias = Annotated[
    int, Field(ge=1), up_to(1_000_000, "the record of each one is kept in memory")
]
Images: TypeAlias = Annotated[int, Field(ge=1), up_to(10**9, "no data set has more images")]


def _files(value: object) -> object:
    texts = value if isinstance(value, list) and value else [value]
    if not all(isinstance(each, str) for each in texts):
        raise PydanticCustomError("files", "must be text, or a list of texts that is not empty")
    return value


# Not a plain union: its errors would name each of its types as a key.
Paths: TypeAlias = Annotated[str | list[str], PlainValidator(_files)]


class Section(BaseModel):
    """A mapping in a file that a user writes; an unknown key is an error."""

    # Strict: YAML has types, so text in the place of a number is a mistake, not a number.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
