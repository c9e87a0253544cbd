"""The `task` section, built from the registry of task kinds."""

from functools import cache
from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    create_model,
    model_validator,
)
from pydantic_core import PydanticKnownError

from distributed.config.section import Section
from mixunlearn.tasks import TASKS
from mixunlearn.tasks import Task as Kind
from mixunlearn.tasks.keys import Key


class Task(Section):
    """What must be forgotten: a kind of `mixunlearn.tasks.TASKS`, with the keys of that kind."""

    model_config = ConfigDict(extra="allow")  # `_of_kind` has already refused unknown keys

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _of_kind(cls, task: object) -> object:
        """Return the task with its defaults; checks what can be checked without the data."""
        if isinstance(task, Task):
            return task
        if not isinstance(task, dict):
            raise PydanticKnownError("model_attributes_type")
        kind = task.get("kind")
        if not isinstance(kind, str) or kind not in TASKS:
            raise PydanticKnownError("enum", {"expected": ", ".join(TASKS)})
        # With defaults: a study keeps its name when a default is written out.
        return _section(TASKS[kind]).model_validate(task).model_dump()


@cache
def _section(kind: type[Kind]) -> type[Section]:
    """Return the pydantic model of a kind of task."""
    keys: dict[str, Any] = {name: _field(key) for name, key in kind.schema().items()}
    return create_model("Task", __base__=Section, kind=(str, ...), **keys)


def _field(key: Key) -> tuple[Any, Any]:
    """Return the type and the default of a key."""
    bounds: dict[str, Any] = dict(key.bounds)
    written = key.written | None if key.default is None else key.written
    return written, Field(key.default, **bounds)
