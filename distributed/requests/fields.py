"""The deletion record: what a request changed, and how that was judged; no image and no id.

It is one JSON file. `docs/deletion-record.schema.json` is the published schema of its fields.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from mixunlearn.plain import plain
from mixunlearn.signature import canonical

SCHEMA: Literal["mixunlearn.deletion-record/1"] = "mixunlearn.deletion-record/1"

Digest: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Time: TypeAlias = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$")
]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Seconds: TypeAlias = Annotated[float, Field(ge=0)]
Values: TypeAlias = dict[str, float | None]


class Part(BaseModel):
    """A mapping of the record; an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True
    )


class Model(Part):
    """The model that had to forget; digests are SHA-256 in hex."""

    name: Annotated[Text, Field(description="name of the architecture")]
    before: Annotated[Digest, Field(description="digest of the weights before unlearning")]
    after: Annotated[Digest, Field(description="digest of the weights after unlearning")]
    file: Annotated[Digest, Field(description="digest of the written file of weights")]


class Data(Part):
    """The data set that the model was trained on."""

    source: Annotated[Text, Field(description="where it comes from, without passwords")]
    digest: Annotated[Text, Field(description="digest of its images and labels")]


class Forget(Part):
    """What had to be forgotten: counted, never listed."""

    kind: Annotated[Text, Field(description="kind of the task, for example ids or class")]
    images: Annotated[int, Field(ge=1, description="number of images")]
    digest: Annotated[
        Digest, Field(description="HMAC-SHA256 of the row numbers with the key of the home")
    ]
    classes: Annotated[
        tuple[str, ...], Field(description="names of whole classes; empty for single images")
    ] = ()


class Configuration(Part):
    """The method that unlearned, and where its hyperparameters come from."""

    method: Text
    hyperparameters: dict[str, JsonValue]
    epochs: Annotated[int, Field(ge=1)]
    seed: Count
    labels: Annotated[Text, Field(description="which labels the method may use")]
    from_: Annotated[
        Text, Field(alias="from", description="the study, run or file that it was read from")
    ]
    tuned_on: Annotated[
        str | None, Field(description="the task, data and model that it was tuned on")
    ] = None
    chosen: Annotated[str | None, Field(description="why it was chosen among others")] = None


class Code(Part):
    """The software and the machine that ran."""

    version: Text
    commit: Annotated[str | None, Field(description="a + at its end: files were changed")] = None
    python: Text
    packages: Annotated[dict[str, str], Field(description="package -> version")]
    device: Text


class Measured(Part):
    """Metrics of the model; shares in percent, `null` where nothing could be measured."""

    before: Annotated[Values, Field(description="metric -> value before unlearning")]
    after: Annotated[Values, Field(description="metric -> value after unlearning")]
    retrained: Annotated[
        dict[str, tuple[float, ...]],
        Field(description="metric -> a value for each model retrained without the data"),
    ] = {}


class Predicted(Part):
    """The expected difference from a retrained model, in the unit of the metric."""

    bias: Annotated[float | None, Field(description="`null` if nothing was measured")]
    low: Annotated[
        float | None, Field(description="lower end of the 90 % interval; `null` if unknown")
    ]
    high: Annotated[float | None, Field(description="upper end; `null` if unknown")]
    margin: Annotated[float, Field(ge=0, description="largest difference that does not matter")]


class Prediction(Part):
    """What earlier requests of the same size, which were retrained, say about this one."""

    state: Text
    proxies: Annotated[int, Field(ge=0, description="number of those requests")]
    metrics: dict[str, Predicted]


class Verdict(Part):
    """The judgement by retraining."""

    state: Annotated[Text, Field(description="`unverified` without retraining")]
    reasons: tuple[str, ...] = ()
    originals: Count = 0
    references: Annotated[int, Field(ge=0, description="number of retrained models")] = 0
    margins: Annotated[
        dict[str, float], Field(description="metric -> largest difference that does not matter")
    ] = {}


class DeletionRecord(Part):
    """A finished deletion request: what was changed, how, and how it was judged.

    It names no image and no id of an image. Each record holds the digest of the one before, so
    that a later change shows.
    """

    schema_: Annotated[Literal["mixunlearn.deletion-record/1"], Field(alias="schema")] = SCHEMA
    number: Annotated[int, Field(ge=1, description="1 for the first record of a home")]
    request: Annotated[Text, Field(description="name of the request")]
    token: Annotated[Text, Field(description="the same request has the same token each time")]
    started: Annotated[Time, Field(description="UTC, ISO 8601")]
    finished: Annotated[Time, Field(description="UTC, ISO 8601")]
    model: Model
    data: Data
    forget: Forget
    configuration: Configuration
    code: Code
    measured: Measured
    prediction: Prediction | None = None
    verdict: Verdict
    seconds: Annotated[Seconds, Field(description="time that unlearning took")]
    retraining_seconds: Annotated[
        Seconds | None, Field(description="time of one retraining, measured or estimated")
    ] = None
    previous: Annotated[
        Digest | None, Field(description="digest of the record before; `null` for the first")
    ] = None
    digest: Annotated[
        Digest, Field(description="SHA-256 of the canonical JSON of all other fields")
    ]

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file: plain data with every field."""
        content: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return content


def parsed(content: Any) -> DeletionRecord:  # noqa: ANN401 - checked here
    """Return the record in plain data; NaN and infinity count as not measured.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type.
    """
    # By way of JSON: a strict model would refuse a list from Python where it keeps a tuple.
    return DeletionRecord.model_validate_json(canonical(plain(content)))
