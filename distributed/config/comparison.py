"""A comparison as a user writes it down."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from distributed.config.errors import translated
from distributed.config.section import Section
from distributed.config.yaml_file import put, read_file
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError

Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^,=\n]+$")]
# What belongs to the images; all else is the same for every cell, or it would be no comparison.
OF_DATA = ("data", "model", "references", "resources")


class Contender(Section):
    """A method of the registry, or a variant of one.

    Args:
        method: its name in the registry; by default the one it has in the comparison.
        space: hyperparameters that are fixed or narrowed, as in `search.space`.
    """

    method: str | None = None
    space: dict[str, Any] = Field(default_factory=dict)


class Comparison(Section):
    """What is compared, as a user writes it down.

    Args:
        name: of the comparison; the experiment of all its studies in MLflow.
        experiment: keys of an experiment that all cells share.
        methods, tasks: by the name they have in tables; a task as in an experiment.
        data: by name, what belongs to the images: data, model, references, resources.
        labels: "aware", "agnostic" or both.
        seeds: of the search; one study each, so that a winner is not one lucky search.
    """

    name: Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    experiment: dict[str, Any] = Field(default_factory=dict)
    methods: Annotated[dict[Name, Contender | None], Field(min_length=1)]
    tasks: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    data: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    labels: list[Literal["aware", "agnostic"]] = Field(default=["aware"], min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)


def read_comparison(path: Path, settings: Sequence[str] = ()) -> Comparison:
    """Return the comparison of a YAML file, with `key=value` settings put over it.

    Raises:
        InputError: no such file, not YAML, or a key or value that means nothing.
    """
    content = read_file(path)
    put(content, settings)
    try:
        comparison = Comparison.model_validate(content)
    except ValidationError as error:
        example = "experiments/small/ shows it"
        raise translated(error.errors()[0], unknown=_unknown, missing=example) from error
    for axis in ("labels", "seeds"):
        values = getattr(comparison, axis)
        if len(set(values)) < len(values):
            raise InputError(axis, values, "names one twice: name each once")
    for name, overlay in comparison.data.items():
        for key in overlay:
            if key not in OF_DATA:
                remedy = f"belongs to all cells alike; here stand {', '.join(OF_DATA)}"
                raise InputError(f"data.{name}.{key}", overlay[key], remedy)
    return comparison


def _unknown(place: Sequence[str]) -> str:
    """Return the remedy for a key that a comparison has not."""
    known = Comparison.model_fields if len(place) == 1 else Contender.model_fields
    return f"unknown key; {known_names(place[-1], known)}"
