"""Unlearned models in MLflow's registry: logs them with their run, registers and finds them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distributed.runtime.addresses import sqlite_path
from distributed.runtime.text import one_line, redact
from distributed.tracking.model_files import CARD
from distributed.tracking.names import CANDIDATE, CHAMPION
from distributed.tracking.server import make_client, reachable
from distributed.tracking.tags import DESCRIPTION, TRIAL_ID, VERSIONS
from mixunlearn.errors import MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion


DESCRIPTION_LENGTH = 5000  # maximal length of a version's description; databases refuse longer ones
MORE = f"\n\nThe rest is in {CARD}, among the model's files."
ABOUT = (
    "Unlearned models. `candidate` is the best model of the latest sweep, `champion` the model "
    "chosen with `mixunlearn sweep --promote`, `previous` the champion before it."
)
NO_SUCH_THING = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # MLflow's error codes


def register(
    client: "MlflowClient", *, run_id: str, name: str, folder: Path, tags: Mapping[str, str]
) -> str:
    """Log a saved model with a run and register it as `candidate`; once for each trial.

    Args:
        client: client of tracking and registry, which are the same server.
        run_id: id of the trial's run.
        name: name of the registered model; it is created if missing.
        folder: a folder that `save_model` wrote.
        tags: tags of the model and its version; they include `mixunlearn.trial_id`.

    Returns:
        The version; an earlier one if the trial's model was registered before.

    Raises:
        MlflowException: MLflow does not answer, or refuses the name.
    """
    # By the trial: a retry after a lost answer finds what the first try made.
    version = version_of(client, name, tags[TRIAL_ID])
    if version is None:
        _make_registered(client, name)
        model = _logged(client, run_id, name, folder, tags)
        # The source is not `models:/…`: without a server, MLflow would look for that in the
        # default store of this process.
        version = client.create_model_version(
            name,
            model.artifact_location,
            run_id,
            tags=dict(tags),
            description=_description((folder / CARD).read_text()),
            # MLflow would wait up to five minutes for a state that databases set at once.
            await_creation_for=0,
            model_id=model.model_id,
        )
        versions = json.dumps([{"name": name, "version": str(version.version)}])
        client.set_logged_model_tags(model.model_id, {VERSIONS: versions})
    # Also for a version made before: that try may have been killed just before this line.
    client.set_registered_model_alias(name, CANDIDATE, str(version.version))
    return str(version.version)


def _logged(
    client: "MlflowClient", run_id: str, name: str, folder: Path, tags: Mapping[str, str]
) -> "LoggedModel":
    """Return the run's model in MLflow; completes what an earlier try left undone."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus  # noqa: PLC0415

    run = client.get_run(run_id)
    wanted = f"source_run_id = '{run_id}' AND tags.`{TRIAL_ID}` = '{tags[TRIAL_ID]}'"
    found = client.search_logged_models([run.info.experiment_id], wanted)
    model = next(iter(found), None) or client.create_logged_model(
        run.info.experiment_id,
        name=name.replace(".", "-"),  # MLflow allows dots only in names of registered models
        source_run_id=run_id,
        tags={**tags, DESCRIPTION: (folder / CARD).read_text()},
        params=run.data.params,
        model_type="classifier",
    )
    if model.status != LoggedModelStatus.READY:
        client.log_model_artifacts(model.model_id, str(folder))
        if model.model_id not in _outputs(run):
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        # Last: a model that is not READY counts as incomplete and is uploaded again.
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model


def _outputs(run: "Run") -> set[str]:
    return {output.model_id for output in run.outputs.model_outputs} if run.outputs else set()


def _make_registered(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        # Created, not looked up: between the two, another study could create it.
        client.create_registered_model(name, description=ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def version_of(client: "MlflowClient", name: str, trial_id: str) -> "ModelVersion | None":
    """Return the version of a registered model that is from a trial; `None` if there is none."""
    found = client.search_model_versions(f"name = '{name}' AND tags.`{TRIAL_ID}` = '{trial_id}'")
    return next(iter(found), None)


def _description(card: str) -> str:
    """Return a card, cut to the length of a description after a whole line."""
    if len(card) <= DESCRIPTION_LENGTH:
        return card
    return card[: DESCRIPTION_LENGTH - len(MORE)].rpartition("\n")[0] + MORE


@dataclass(frozen=True, kw_only=True)
class Alias:
    """The version to which an alias points.

    Args:
        version: version of the registered model.
        trial_id: id of its trial; empty if it is unknown.
        run_id: id of the trial's run in MLflow.
    """

    version: str
    trial_id: str
    run_id: str


def find_alias(uri: str, name: str, alias: str = CHAMPION) -> Alias | None:
    """Return the version to which an alias of a registered model points; `None` if there is none.

    Raises:
        MixUnlearnError: MLflow does not answer.
    """
    if reason := reachable(uri):
        raise MixUnlearnError(f"MLflow at {redact(uri)} does not answer: {reason}")
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return None
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = make_client(uri)
    try:
        version = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in NO_SUCH_THING:
            return None
        raise MixUnlearnError(f"MLflow at {redact(uri)}: {one_line(error)}") from error
    return Alias(
        version=str(version.version),
        trial_id=str(version.tags.get(TRIAL_ID, "")),
        run_id=str(version.run_id or ""),
    )
