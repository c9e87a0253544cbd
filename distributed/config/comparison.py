"""A comparison, as a user writes it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from distributed.config.errors import all_translated, translated
from distributed.config.section import Section, Seed
from distributed.config.yaml_file import put, read_file
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from report.runs import NOTHING, RETRAINED


def _name(text: str) -> str:
    # `--only axis=name,axis=name` is split at these signs, and cuts blanks off.
    if set(text) & {",", "="} or not text.isprintable() or text != text.strip():
        raise PydanticCustomError("name", "must be one line without , and = and blanks around it")
    return text


Name = Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_name)]
# What may differ between data sets; everything else is the same for all cells, to be comparable.
OF_DATA = ("data", "model", "references", "resources")


class Contender(Section):
    """A method of the registry, or a variant of one.

    Args:
        method: its name in the registry; by default its name in the comparison.
        space: hyperparameters that are fixed or narrowed, as in `search.space`.
    """

    method: str | None = None
    space: dict[str, Any] = Field(default_factory=dict)


class Comparison(Section):
    """What is compared, as a user writes it.

    Args:
        name: name of the comparison, and of the MLflow experiment that holds all its studies.
        experiment: keys of an experiment that all cells share.
        methods, tasks: methods and tasks, by their names in the tables; a task is written as in an
            experiment.
        data: the sections that depend on the images (data, model, references, resources), by name.
        labels: "aware", "agnostic" or both.
        seeds: seeds of the search, one study for each, so that one lucky search does not decide.
    """

    name: Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    experiment: dict[str, Any] = Field(default_factory=dict)
    methods: Annotated[dict[Name, Contender | None], Field(min_length=1)]
    tasks: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    data: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    labels: list[Literal["aware", "agnostic"]] = Field(default=["aware"], min_length=1)
    seeds: list[Seed] = Field(default=[0], min_length=1)


def read_comparison(path: Path, settings: Sequence[str] = ()) -> Comparison:
    """Return the comparison in a YAML file, with `key=value` settings applied on top.

    Raises:
        InputError: no such file, not YAML, or an unknown key or invalid value.
    """
    content = read_file(path, "COMPARISON")
    put(content, settings)
    try:
        comparison = Comparison.model_validate(content)
    except ValidationError as error:
        example = "a preset shows it: mixunlearn init small/digits"
        translate = partial(translated, unknown=_unknown, missing=example)
        raise all_translated(error, translate) from error
    for axis in ("labels", "seeds"):
        values = getattr(comparison, axis)
        # Two equal cells are one study, which the means would count twice.
        if len(set(values)) < len(values):
            raise InputError(axis, values, "lists a value twice; list each value once")
    for name in {NOTHING, RETRAINED} & comparison.methods.keys():
        remedy = "a row of every table has this name; choose another one"
        raise InputError(f"methods.{name}", content["methods"][name], remedy)
    for name, overlay in comparison.data.items():
        for key in overlay:
            if key not in OF_DATA:
                remedy = f"not allowed here, as all cells share it; allowed: {', '.join(OF_DATA)}"
                raise InputError(f"data.{name}.{key}", overlay[key], remedy)
    return comparison


def _unknown(place: Sequence[str]) -> str:
    """Return the remedy for a key that a comparison does not have."""
    known = Comparison.model_fields if len(place) == 1 else Contender.model_fields
    return f"unknown key; {known_names(place[-1], known)}"
