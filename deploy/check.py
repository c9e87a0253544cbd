"""Checks files for Ray's launcher by its own schema; no cloud, no network.

python deploy/check.py deploy/aws.yaml
"""

import sys
from pathlib import Path

import jsonschema
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config


def check(path: Path) -> str | None:
    """Return what is wrong with a file, in one line; `None` if the launcher takes it."""
    try:
        validate_config(prepare_config(yaml.safe_load(path.read_text())))
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.path)) or 'top level'}: {error.message}"
    except (yaml.YAMLError, OSError, ValueError) as error:
        return " ".join(str(error).split())
    return None


def main(paths: list[str]) -> int:
    """Print one line for each file; return the exit code, 2 if one is wrong."""
    wrong = {path: check(Path(path)) for path in paths}
    for path, reason in wrong.items():
        print(f"{path}: {reason or 'ok, by the schema of the launcher of Ray'}")  # noqa: T201
    return 2 if any(wrong.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
