"""What a user wrote, as nested plain data: a YAML file with `key=value` settings on top."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from distributed.config.presets import FOLDERS, named_file, no_such
from distributed.runtime.text import cut
from mixunlearn.errors import InputError
from mixunlearn.regular import MIB, read_regular
from mixunlearn.wording import with_article

KEY_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}  # text, and the merge key `<<`

# What messages call a file -> what it is, the command that takes it, the key that tells it.
KINDS = {
    "EXPERIMENT": ("experiment", "sweep", "task"),
    "COMPARISON": ("comparison", "compare", "methods"),
    "PLAN": ("plan of nights", "nightly", "experiments"),
}

LARGEST = MIB  # bytes: PyYAML needs seconds for so many
MOST = 1_500_000  # characters of all values, with aliases written out
DEEPEST = 32  # levels of mappings and lists
LONGEST = 10_000  # characters of one text
SHOWN = 40  # characters of a text in an error message
NOT_IN_PATHS = re.compile("[\0\ud800-\udfff]")  # NUL and halves of characters


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, keys are text, and no key is given twice."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _measured(node, {})
        return node

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

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401
        # PyYAML trusts what a tag says: `!!int ""` is an IndexError, `!!bool maybe` a KeyError.
        try:
            value = super().construct_object(node, deep)
            # Python refuses to show an integer of more than 4,300 digits.
            return value if not isinstance(value, int) or str(value) else None
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
            what = f"{cut(str(node.value), SHOWN)!r} is no valid {node.tag.rpartition(':')[2]}"
            raise _refused(what, node) from error


def _measured(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the size of a node in characters and in levels, with its aliases written out.

    Args:
        node: a node of the document.
        known: results by the id of a node; nodes that are being measured have (0, 0).

    Raises:
        yaml.MarkedYAMLError: there are too many, or a text cannot be used.
    """
    if id(node) in known:
        if known[id(node)] == (0, 0):
            raise _refused("an alias stands for a part of itself", node)
        return known[id(node)]
    known[id(node)] = 0, 0
    if isinstance(node, yaml.ScalarNode):
        _check_text(node)
        size, depth = 1 + len(node.value), 1
    else:
        found = [_measured(part, known) for part in _parts(node)]
        size, depth = 1 + sum(n for n, _ in found), 1 + max((d for _, d in found), default=0)
    if size > MOST:
        raise _refused(f"more than {MOST} characters, with aliases written out", node)
    if depth > DEEPEST:
        raise _refused("nested too deeply", node)
    known[id(node)] = size, depth
    return size, depth


def _parts(node: yaml.Node) -> list[yaml.Node]:
    """Return the values of a list, or the keys and values of a mapping."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value)


def _check_text(node: yaml.ScalarNode) -> None:
    if len(node.value) > LONGEST:
        raise _refused(f"a text of more than {LONGEST} characters", node)
    if NOT_IN_PATHS.search(node.value):
        raise _refused("a character that neither files nor databases can hold", node)


def _refused(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


# PyYAML follows YAML 1.1, in which a number with an exponent needs a dot.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_file(path: Path, key: str = "EXPERIMENT") -> dict[str, Any]:
    """Return the mapping in a YAML file, or in the preset of this name.

    Args:
        path: the file, or the name of a preset where there is no such file.
        key: what messages call the file.

    Raises:
        InputError: no such file, not a text file, not YAML, not a mapping, or a file that
            another command takes.
    """
    try:
        content = _load(read_regular(named_file(path), LARGEST).decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(key, str(path), no_such(path, key)) from error
    # Before ValueError, of which it is a subclass.
    except UnicodeDecodeError as error:
        raise _unreadable(key, path, "not a text file in UTF-8") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise _unreadable(key, path, reason[:1].lower() + reason[1:]) from error
    except ValueError as error:
        raise _unreadable(key, path, f"not valid YAML: {error}") from error
    if not isinstance(content, dict):
        what = "empty" if content is None else "not a mapping of keys to values"
        raise _unreadable(key, path, what)
    _require_kind(content, path, key)
    return content


def _require_kind(content: dict[str, Any], path: Path, key: str) -> None:
    """Check that a file is not of a kind that another command takes."""
    if key not in KINDS or KINDS[key][-1] in content:
        return
    for what, command, sign in KINDS.values():
        if sign in content:
            raise InputError(key, str(path), f"is {with_article(what)}; use mixunlearn {command}")


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
        if len(parts) > DEEPEST or len(key) > LONGEST:
            raise InputError("--set", setting, "no key is that long; write key=value")
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
    presets = "; `mixunlearn init` lists the presets" if key in FOLDERS else ""
    return InputError(key, str(path), f"{reason}{presets}")
