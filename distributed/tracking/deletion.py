"""Deleting old model versions and runs in MLflow."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from distributed.runtime.addresses import sqlite_path
from distributed.runtime.text import one_line, redact
from distributed.tracking.server import make_client, reachable
from distributed.tracking.tags import STUDY
from mixunlearn.errors import MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion


def delete_old_versions(uri: str, name: str, studies: Iterable[str], *, keep: int) -> None:
    """Delete old versions of a registered model and the runs of studies, in MLflow.

    Versions with an alias stay, with their runs. In an SQLite file, the deleted entries are also
    removed permanently, with their files; on a server, `mlflow gc` does that.

    Args:
        uri: the tracking address.
        name: name of the registered model and of the experiment.
        studies: names of the studies whose runs are deleted.
        keep: number of newest versions without an alias that stay.

    Raises:
        MixUnlearnError: MLflow does not answer, or refuses.
    """
    path = sqlite_path(uri)
    # MLflow's client would create an empty database there.
    if path is not None and not path.exists():
        return
    if reason := reachable(uri):
        raise MixUnlearnError(f"MLflow at {redact(uri)} does not answer: {reason}")
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = make_client(uri)
    try:
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            _delete(client, experiment.experiment_id, name, studies, keep)
    except MlflowException as error:
        raise MixUnlearnError(f"MLflow at {redact(uri)}: {one_line(error)}") from error


def _delete(
    client: "MlflowClient", experiment: str, name: str, studies: Iterable[str], keep: int
) -> None:
    # All is looked up first: once the versions are gone, nothing leads to their models.
    titled, old = _old_versions(client, name, keep)
    models = _models_of(client, experiment, old)
    runs = _runs_of(client, experiment, studies, but=titled)
    for version in old:
        client.delete_model_version(name, str(version.version))
    for model in models:
        client.delete_logged_model(model.model_id)
    for run in runs:
        client.delete_run(run.info.run_id)
    if sqlite_path(client.tracking_uri) is not None:
        _purge(client.tracking_uri, runs, models)


def _old_versions(
    client: "MlflowClient", name: str, keep: int
) -> "tuple[set[str], list[ModelVersion]]":
    """Return the ids of the runs of versions with an alias, and the old versions without one."""
    versions: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        versions, token = [*versions, *page], page.token or None
    if not versions:
        return set(), []
    titles = {str(each) for each in client.get_registered_model(name).aliases.values()}
    # As numbers: as text, "10" comes before "9".
    versions.sort(key=lambda each: int(each.version), reverse=True)
    titled = {str(each.run_id) for each in versions if str(each.version) in titles}
    return titled, [each for each in versions if str(each.version) not in titles][keep:]


def _models_of(
    client: "MlflowClient", experiment: str, versions: "Iterable[ModelVersion]"
) -> "list[LoggedModel]":
    """Return the logged models from which versions were made; MLflow finds them by the run."""
    return [
        model
        for version in versions
        for model in client.search_logged_models(
            [experiment], f"source_run_id = '{version.run_id}'"
        )
    ]


def _runs_of(
    client: "MlflowClient", experiment: str, studies: Iterable[str], *, but: set[str]
) -> "list[Run]":
    """Return all runs of studies, except those with the ids in `but`."""
    found: list[Run] = []
    for study in sorted(studies):
        token: str | None = ""
        wanted = f"tags.`{STUDY}` = '{study}'"
        while token is not None:
            page = client.search_runs([experiment], wanted, page_token=token or None)
            found += [run for run in page if run.info.run_id not in but]
            token = page.token or None
    return found


def _purge(uri: str, runs: "Iterable[Run]", models: "Iterable[LoggedModel]") -> None:
    """Remove deleted runs and models permanently.

    `mlflow gc` would also remove what other people have deleted and may want to restore.
    """
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
        get_artifact_repository,
    )
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    store: Any = SqlAlchemyStore(uri, None)  # type: ignore[no-untyped-call]
    files: Any = get_artifact_repository
    for model in models:
        # Files first: without their entry, nothing would ever find them again.
        files(model.artifact_location).delete_artifacts()
        store._hard_delete_logged_model(model.model_id)
    for run in runs:
        files(run.info.artifact_uri).delete_artifacts()
        store._hard_delete_run(run.info.run_id)
    store.engine.dispose()
