"""What a user wrote, as nested plain data: a YAML file with `key=value` settings on top."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from mixunlearn.errors import InputError

KEY_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}  # text, and the merge key `<<`


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, keys are text, and no key is given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 (PyYAML's)
        # Checked here, because PyYAML keeps the last of equal keys without a word.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        given = set()
        for key, _ in node.value:
            if key.tag not in KEY_TAGS:
                raise _refused("every key must be text", key)
            if key.value in given:
                raise _refused(f"{key.value!r} is given twice", key)
            given.add(key.value)
        return node


def _refused(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


# PyYAML follows YAML 1.1, in which a number with an exponent needs a dot.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_file(path: Path, key: str = "EXPERIMENT") -> dict[str, Any]:
    """Return the mapping in a YAML file; `key` is what messages call the file.

    Raises:
        InputError: no such file, not a text file, not YAML, or not a mapping.
    """
    try:
        content = _load(path.read_text(encoding="utf-8"))
    # Before ValueError, of which it is a subclass.
    except UnicodeDecodeError as error:
        raise _unreadable(key, path, "not a text file in UTF-8") from error
    except OSError as error:
        raise _unreadable(key, path, (error.strerror or str(error)).lower()) from error
    except ValueError as error:
        raise _unreadable(key, path, f"not valid YAML: {error}") from error
    if not isinstance(content, dict):
        what = "empty" if content is None else "not a mapping of keys to values"
        raise _unreadable(key, path, what)
    return content


def put(content: dict[str, Any], settings: Iterable[str]) -> None:
    """Put `a.b=value` settings into nested mappings; the values are parsed as YAML.

    Raises:
        InputError: not `key=value`, or the value is not YAML.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise InputError("--set", setting, "write key=value, for example search.trials=8")
        try:
            value = _load(text)
        except ValueError as error:
            remedy = f"not valid YAML: {error}; put text in quotes: --set \"{key}='…'\""
            raise InputError("--set", setting, remedy) from error
        _put(content, parts, value)


def _put(content: dict[str, Any], parts: list[str], value: object) -> None:
    *parents, last = parts
    for parent in parents:
        # Copied, because YAML anchors let two keys share one mapping.
        below = content.get(parent)
        content[parent] = content = dict(below) if isinstance(below, dict) else {}
    content[last] = value


def _load(text: str) -> Any:  # noqa: ANN401 (YAML holds anything)
    """Return the data in a YAML text.

    Raises:
        ValueError: not valid YAML; the message says why, in one line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        raise ValueError(f"character {error.position + 1}: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise ValueError(f"{line}{what}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unreadable(key: str, path: Path, reason: str) -> InputError:
    return InputError(key, str(path), f"{reason}; presets are in experiments/")
