"""Fetches the weights of models that MLflow keeps, by the address of a version or a run."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from distributed.runtime.addresses import sqlite_path
from distributed.runtime.text import one_line, redact
from distributed.tracking.model_files import MLMODEL
from distributed.tracking.server import REFUSALS, import_mlflow, make_client, reachable, reason_of
from mixunlearn.errors import InputError, MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient


SCHEMES = ("models:/", "runs:/")
FORMS = tuple(
    re.compile(form)
    for form in (
        r"models:/(?P<model>m-[0-9a-f]{32})(?:/(?P<path>.+))?",
        r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)(?:/(?P<path>.+))?",
        r"models:/(?P<name>[^/@]+)/(?P<version>\d+|latest)(?:/(?P<path>.+))?",
        r"runs:/(?P<run>[^/]+)/(?P<path>.+)",
    )
)
WRITTEN = "models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/PATH"
# What a folder may hold, the best first: the formats for weights alone.
SUFFIXES = ((".safetensors",), ("state_dict.pth",), (".pt", ".pth", ".tar", ".bin", ".ckpt"))
# In a folder that MLflow wrote: the model with its code, which must not be run.
PROGRAMS = ("data/model.pth", "data/model.pt2")
DEPTH = 3  # folders within folders that are looked into


def is_address(source: str) -> bool:
    """Return whether a source is the address of a model in MLflow, not a file."""
    return source.startswith(SCHEMES)


@contextmanager
def fetched_weights(address: str, uri: str, key: str) -> Iterator[Path]:
    """Give the file of weights to which an address leads, for as long as the block runs.

    It is downloaded to a temporary folder. Only this file is: a saved model has larger ones.

    Args:
        address: `models:/NAME/VERSION`, `models:/NAME/latest`, `models:/NAME@ALIAS`,
            `models:/MODEL_ID` or `runs:/RUN_ID/PATH`. A path after the first four is a file, or a
            folder, inside of the model.
        uri: address of MLflow.
        key: the setting that holds the address, for error messages.

    Raises:
        InputError: no such address, or there are no weights, or several files of them.
        MixUnlearnError: MLflow, or the store of its files, does not answer.
    """
    parts = _parts(address, key)
    _require_tracked(address, uri, key)
    with TemporaryDirectory(prefix="mixunlearn-") as folder:
        yield _download(_Wanted(address=address, key=key, parts=parts, uri=uri), Path(folder))


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """An address, the setting that holds it, its parts, and the address of MLflow."""

    address: str
    key: str
    parts: dict[str, str]
    uri: str

    def refused(self, remedy: str) -> InputError:
        return InputError(self.key, self.address, remedy)


def _parts(address: str, key: str) -> dict[str, str]:
    """Return the named parts of an address that are there."""
    for form in FORMS:
        if found := form.fullmatch(address.rstrip("/")):
            return {name: part for name, part in found.groupdict().items() if part}
    raise InputError(key, address, f"must be {WRITTEN}")


def _require_tracked(address: str, uri: str, key: str) -> None:
    """Check that MLflow answers; a database that does not exist is not created."""
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        remedy = f"MLflow has nothing at {path}; name its address with tracking.uri"
        raise InputError(key, address, remedy)
    if reason := reachable(uri, reading=True):
        raise MixUnlearnError(f"{key} = {address!r}: {redact(uri)} does not answer: {reason}")


def _download(wanted: _Wanted, folder: Path) -> Path:
    """Download the file of weights; return its path."""
    import_mlflow()
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    where = redact(wanted.uri)
    try:
        place, path = _place(make_client(wanted.uri), wanted.parts)
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            reason = reason_of(error)
            raise MixUnlearnError(f"{where} does not answer: {reason}") from error
        remedy = f"{where} has no such model or run ({one_line(error)})"
        raise wanted.refused(remedy) from error
    try:
        store = _store(place, wanted.uri)
        file = _chosen(_files(store, path), wanted)
        return Path(store.download_artifacts(file, str(folder)))
    except InputError:
        raise
    except Exception as error:  # the type depends on the store
        what = f"{wanted.key} = {wanted.address!r}: its files cannot be read"
        raise MixUnlearnError(f"{what} ({one_line(error)})") from error


def _place(client: "MlflowClient", parts: dict[str, str]) -> tuple[str, str]:
    """Return where the files of a model are: the address of a folder, and a path inside of it."""
    path = parts.get("path", "")
    if "run" in parts:
        return _place_of_run(client, parts["run"], path)
    if "model" in parts:
        return _place_of_model(client, parts["model"]), path
    name = parts["name"]
    if "alias" in parts:
        version = str(client.get_model_version_by_alias(name, parts["alias"]).version)
    else:
        version = parts["version"]
    if version == "latest":
        client.get_registered_model(name)  # raises if there is no such model
        versions = client.search_model_versions(f"name = '{name}'", max_results=1)
        version = str(versions[0].version) if versions else "0"
    place = client.get_model_version_download_uri(name, version)
    # Some servers lead on to the model that was logged.
    logged = re.fullmatch(r"models:/(m-[0-9a-f]{32})", place)
    return (_place_of_model(client, logged[1]) if logged else place), path


def _place_of_model(client: "MlflowClient", model: str) -> str:
    return str(client.get_logged_model(model).artifact_location)


def _place_of_run(client: "MlflowClient", run_id: str, path: str) -> tuple[str, str]:
    """Return the place of a model that was logged with a run, else of the run's own files."""
    run = client.get_run(run_id)
    name, _, inside = path.partition("/")
    of_run = f"source_run_id = '{run_id}'"
    found = client.search_logged_models([run.info.experiment_id], of_run)
    for model in found:
        if model.name == name:
            return str(model.artifact_location), inside
    return str(run.info.artifact_uri), path


def _store(place: str, uri: str) -> Any:  # noqa: ANN401 (MLflow does not declare its types)
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
        get_artifact_repository,
    )

    # With both addresses: by default, MLflow asks the store of this process.
    return get_artifact_repository(place, tracking_uri=uri, registry_uri=uri)


def _files(store: Any, path: str) -> list[str]:  # noqa: ANN401
    """Return the paths of all files in a folder of a store; of a file, its own path."""
    found = _listed(store, path, DEPTH)
    if found or not path:
        return found
    parent = str(PurePosixPath(path).parent)
    beside = store.list_artifacts(None if parent == "." else parent)
    return [path] if any(each.path == path and not each.is_dir for each in beside) else []


def _listed(store: Any, path: str, depth: int) -> list[str]:  # noqa: ANN401
    found = []
    for each in store.list_artifacts(path or None):
        if not each.is_dir:
            found.append(str(each.path))
        elif depth:
            found += _listed(store, each.path, depth - 1)
    return found


def _chosen(files: Sequence[str], wanted: _Wanted) -> str:
    """Return the file with the weights.

    Raises:
        InputError: there is none, or there are several.
    """
    if len(files) == 1 and files[0].endswith(wanted.parts.get("path", "/")):
        return files[0]  # the user names it; its content decides
    saved = [name.removesuffix(MLMODEL) for name in files if PurePosixPath(name).name == MLMODEL]
    programs = {f"{folder}{name}" for folder in saved for name in PROGRAMS}
    for suffixes in SUFFIXES:
        found = [name for name in files if name.endswith(suffixes) and name not in programs]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(found[:3])
            remedy = f"holds {len(found)} files of weights ({some}); add the path of one of them"
            raise wanted.refused(remedy)
    if whole := sorted(programs.intersection(files)):
        remedy = f"holds only the whole program ({whole[0]}), which could run any code"
        raise wanted.refused(f"{remedy}; log its state_dict() or a .safetensors file, and name it")
    raise wanted.refused("holds no file of weights; log the model's state_dict()")
