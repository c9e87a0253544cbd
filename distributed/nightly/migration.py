"""Records of earlier versions, migrated when they are read; their files stay as they are."""

from collections.abc import Mapping
from typing import Any

SCHEMA = 4  # version of a record's format; when you raise it, add a step to `migrated`


def migrated(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record's content as this version writes it.

    Raises:
        ValueError: a newer version wrote it.
    """
    schema = content["schema"]
    if schema > SCHEMA:
        raise ValueError(f"schema {schema}; this version reads up to {SCHEMA}")
    parts = content.get("experiments", ())
    # In order: each step expects what the step before it returns.
    if schema == 1:  # a search had only one study
        parts = [{**part, "generation": 0} for part in parts]
    if schema <= 2:  # noqa: PLR2004 - an empty `promoted` said that the promotion was due
        parts = [_with_promotion(part) for part in parts]
    if schema <= 3:  # noqa: PLR2004 - gaps had no seeds, and a first champion was only a note
        parts = [_with_appointment(_with_seeds(part)) for part in parts]
    return {**content, "schema": SCHEMA, "experiments": parts}


def _with_promotion(part: Mapping[str, Any]) -> dict[str, Any]:
    promoted = part.get("promoted")
    promotion = "none" if promoted is None else "done" if promoted else "due"
    return {**part, "promotion": promotion, "promoted": promoted or None}


def _with_seeds(part: Mapping[str, Any]) -> dict[str, Any]:
    # Pairs were formed by position, as if both sides had measured the first seeds.
    numbers = {
        seeds: list(range(len(part.get(gaps) or ())))
        for seeds, gaps in (("seeds", "gaps"), ("rival_seeds", "rival_gaps"))
    }
    return {**part, **numbers}


def _with_appointment(part: Mapping[str, Any]) -> dict[str, Any]:
    said = (note for note in part.get("notes") or () if note.endswith(": there was none"))
    return {**part, "appointed": next(said, None)}
