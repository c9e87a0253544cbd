"""Unlearned models in MLflow: saved without pickle, registered, promoted.

A saved model takes pixels and gives probabilities. It needs PyTorch and MLflow, not this project.
Shape suffixes: B batch, F channels, H W pixels, C classes.
"""

import json
import math
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn

from distributed.addresses import one_line, redact, sqlite_path
from distributed.outbox import STUDY
from distributed.tracking import DESCRIPTION, import_mlflow, reachable, set_defaults
from mixunlearn.data.batches import PIXEL_MAX
from mixunlearn.errors import MissingError, MixUnlearnError
from mixunlearn.files import publish
from mixunlearn.models import StagedModel
from mixunlearn.problem import Architecture, Arrays

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import Model, ModelSignature

CARD, MLMODEL = "README.md", "MLmodel"
WEIGHTS, ARCHITECTURE = "model.safetensors", "architecture.json"
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
TRIAL_ID, DATA, SPLITS = "mixunlearn.trial_id", "mixunlearn.data", "mixunlearn.splits"
GAP = "gap/avg"  # with _sd and _n: mean over fresh seeds, on `test`
DESCRIPTION_LENGTH = 5000  # of a version's description; databases refuse longer ones
MORE = f"\n\nThe rest is in {CARD}, among the model's files."
ABOUT = (
    "Unlearned models. `candidate` is the best of the sweep that ended last, `champion` the one "
    "chosen with `mixunlearn sweep --promote`, `previous` the champion before."
)
NO_SUCH_THING = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # in MLflow's words
EXAMPLES = 2  # images; with a single one, the batch size would be fixed


class Classifier(nn.Module):
    """A model as it is used: pixels in, probabilities out.

    Args:
        model: maps images in [0, 1] to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels_BFHW: Tensor) -> Tensor:
        """Return probabilities (B, C), float32, of uint8 images (B, F, H, W)."""
        images = pixels_BFHW.to(torch.float32) / PIXEL_MAX
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.softmax(self.model(images), dim=1)


# --- saving ----------------------------------------------------------------------------------


def save_model(
    model: StagedModel,
    folder: Path,
    *,
    architecture: Architecture,
    classes: Sequence[str],
    card: str,
    metadata: Mapping[str, str],
) -> str | None:
    """Write a model as a folder that MLflow can log and run, whole or not at all.

    In it: the program (`data/model.pt2`) with signature and input example, the weights alone
    (`model.safetensors`) with `architecture.json`, the card (`README.md`). Asks no server.
    The example is noise: an image of the data may have to be forgotten one day.

    Args:
        model: the unlearned one, on the CPU; is put into evaluation mode.
        folder: where to; stays as it is if there is a model already.
        architecture: of the model.
        classes: names of its outputs.
        card: Markdown.
        metadata: goes into the file `MLmodel`.

    Returns:
        Why there are only weights, because the model cannot be exported; None if it can be run.

    Raises:
        MixUnlearnError: the disk is full, or the folder cannot be written.
    """
    set_defaults()
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    about = {"classes": list(classes), **metadata}
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        reason = _export(Classifier(model).eval(), temporary, architecture, about)
        _add_files(temporary, weights, architecture, card)
        publish(temporary, folder, marker=MLMODEL)
    except OSError as error:
        reason = one_line(error)
        raise MixUnlearnError(f"{folder}: {reason}; mend it, the same command goes on") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return reason


def _export(
    program: Classifier, folder: Path, architecture: Architecture, metadata: Mapping[str, object]
) -> str | None:
    """Write what MLflow runs; where that cannot be, what it shows; return why it cannot be."""
    import_mlflow()  # the thread that tells MLflow of the sweep may be importing it
    from mlflow.models import Model  # noqa: PLC0415

    signature = _signature(architecture)
    try:
        with _unfounded_warnings_ignored():
            _save_program(program, folder, architecture, signature, metadata)
    except OSError:
        raise
    except Exception as error:  # whatever a model does that cannot be traced
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        Model(signature=signature, metadata=dict(metadata)).save(str(folder / MLMODEL))
        return one_line(error)
    return None


@contextmanager
def _unfounded_warnings_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        # Each weight is stored alone; in the channels-last order it does not look complete.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        # Of interfaces for language models, which MLflow defines when it is imported.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        yield


def _save_program(
    program: Classifier,
    folder: Path,
    architecture: Architecture,
    signature: "ModelSignature",
    metadata: Mapping[str, object],
) -> None:
    from mlflow.models import Model  # noqa: PLC0415
    from mlflow.pytorch import save_model as save_program  # noqa: PLC0415

    shape = (EXAMPLES, *architecture.image_shape)
    save_program(
        program,
        folder,
        signature=signature,
        input_example=np.random.default_rng(0).integers(PIXEL_MAX + 1, size=shape, dtype=np.uint8),
        serialization_format="pt2",
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        metadata=dict(metadata),
    )
    _leave_out_traces(folder / "data" / "model.pt2")
    written = Model.load(str(folder / MLMODEL))
    _run_on_cpu(written)
    written.save(str(folder / MLMODEL))


def _leave_out_traces(file: Path) -> None:
    """Take from an exported program where its source lies on this machine."""
    program = torch.export.load(file)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, file)


def _run_on_cpu(model: "Model") -> None:
    """Let MLflow run an exported model where its tensors are: it would take a GPU, and fail."""
    model.flavors["python_function"]["config"] = {"device": "cpu"}


def _signature(architecture: Architecture) -> "ModelSignature":
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import Schema, TensorSpec  # noqa: PLC0415

    pixels = TensorSpec(np.dtype(np.uint8), (-1, *architecture.image_shape))
    probabilities = TensorSpec(np.dtype(np.float32), (-1, architecture.classes))
    return ModelSignature(inputs=Schema([pixels]), outputs=Schema([probabilities]))


def _add_files(folder: Path, weights: Arrays, architecture: Architecture, card: str) -> None:
    whole = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    (folder / WEIGHTS).write_bytes(save(whole))
    (folder / ARCHITECTURE).write_text(json.dumps(asdict(architecture), indent=1) + "\n")
    (folder / CARD).write_text(card)


# --- registering -----------------------------------------------------------------------------


def register(
    client: "MlflowClient", *, run_id: str, name: str, folder: Path, tags: Mapping[str, str]
) -> str:
    """Log a saved model with a run and register it as `candidate`; once for ever a trial.

    Args:
        client: of tracking and registry, which are one.
        run_id: of the trial.
        name: of the registered model; made if there is none.
        folder: that `save_model` wrote.
        tags: of the model and its version, `mixunlearn.trial_id` among them.

    Returns:
        The version; an earlier one if the trial has been registered before.

    Raises:
        MlflowException: MLflow is away, or refuses the name.
    """
    version = _version_of(client, name, tags[TRIAL_ID])
    if version is None:
        _make_registered(client, name)
        model = _logged(client, run_id, name, folder, tags)
        # Not `models:/…` as the source: without a server, MLflow would look for it in the
        # process's default store.
        version = client.create_model_version(
            name,
            model.artifact_location,
            run_id,
            tags=dict(tags),
            description=_description((folder / CARD).read_text()),
            await_creation_for=0,
            model_id=model.model_id,
        )
        versions = json.dumps([{"name": name, "version": str(version.version)}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": versions})
    client.set_registered_model_alias(name, CANDIDATE, str(version.version))
    return str(version.version)


def _logged(
    client: "MlflowClient", run_id: str, name: str, folder: Path, tags: Mapping[str, str]
) -> "LoggedModel":
    """Return the run's model in MLflow; what an earlier try left undone is done."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus  # noqa: PLC0415

    run = client.get_run(run_id)
    wanted = f"source_run_id = '{run_id}' AND tags.`{TRIAL_ID}` = '{tags[TRIAL_ID]}'"
    found = client.search_logged_models([run.info.experiment_id], wanted)
    model = next(iter(found), None) or client.create_logged_model(
        run.info.experiment_id,
        name=name.replace(".", "-"),  # which MLflow allows for registered models alone
        source_run_id=run_id,
        tags={**tags, DESCRIPTION: (folder / CARD).read_text()},
        params=run.data.params,
        model_type="classifier",
    )
    if model.status != LoggedModelStatus.READY:
        client.log_model_artifacts(model.model_id, str(folder))
        if model.model_id not in _outputs(run):
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model


def _outputs(run: "Run") -> set[str]:
    return {output.model_id for output in run.outputs.model_outputs} if run.outputs else set()


def _make_registered(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        client.create_registered_model(name, description=ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: "MlflowClient", name: str, trial_id: str) -> "ModelVersion | None":
    found = client.search_model_versions(f"name = '{name}' AND tags.`{TRIAL_ID}` = '{trial_id}'")
    return next(iter(found), None)


def _description(card: str) -> str:
    """Return a card as far as a description may reach, in whole lines."""
    if len(card) <= DESCRIPTION_LENGTH:
        return card
    return card[: DESCRIPTION_LENGTH - len(MORE)].rpartition("\n")[0] + MORE


@dataclass(frozen=True, kw_only=True)
class Alias:
    """The version that an alias names.

    Args:
        version: of the registered model.
        trial_id: of the trial it is from; empty if that is not known.
        run_id: of that trial in MLflow.
    """

    version: str
    trial_id: str
    run_id: str


def find_alias(uri: str, name: str, alias: str = CHAMPION) -> Alias | None:
    """Return the version that an alias of a registered model names; `None`: there is none.

    Raises:
        MixUnlearnError: MLflow is away.
    """
    if reason := reachable(uri):
        raise MixUnlearnError(f"MLflow at {redact(uri)} does not answer: {reason}")
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return None
    from mlflow import MlflowClient  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
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


# --- promoting -------------------------------------------------------------------------------


def promote(uri: str, name: str, trial_id: str, *, proven: bool = False) -> str:
    """Make a trial's registered model the champion, unless it is worse than the present one.

    Args:
        uri: the tracking address.
        name: of the registered model.
        trial_id: of the trial.
        proven: whether a duel has shown already that it is not worse.

    Returns:
        What was done, in a sentence.

    Raises:
        MissingError: the trial's model is not registered.
        MixUnlearnError: it is worse than the champion, or was not measured on the same images;
            MLflow is away.
    """
    if reason := reachable(uri):
        remedy = "nothing was promoted; the same command goes on once it is back"
        raise MixUnlearnError(f"MLflow at {redact(uri)} does not answer: {reason}; {remedy}")
    from mlflow import MlflowClient  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        return _promote(client, name, trial_id, proven=proven)
    except MlflowException as error:
        reason = one_line(error)
        raise MixUnlearnError(
            f"MLflow at {redact(uri)} did not promote {name}: {reason}"
        ) from error


def _promote(client: "MlflowClient", name: str, trial_id: str, *, proven: bool) -> str:
    version = _version_of(client, name, trial_id)
    if version is None:
        remedy = "`mixunlearn sync STUDY` registers the best trial once MLflow answers"
        raise MissingError(f"{name}: no registered model of trial {trial_id}; {remedy}")
    number, gap = str(version.version), _gap(version)
    held = client.get_registered_model(name).aliases.get(CHAMPION)
    if str(held) == number:
        return f"{name}: version {number} is the champion already ({_written(gap)})"
    before = ""
    if held is not None:
        champion = client.get_model_version(name, str(held))
        if not proven:
            _require_not_worse(name, version, champion)
        client.set_registered_model_alias(name, PREVIOUS, str(held))
        before = f"; version {held} before it ({_written(_gap(champion))}) is `{PREVIOUS}`"
    client.set_registered_model_alias(name, CHAMPION, number)
    return f"{name}: version {number} is the champion now ({_written(gap)}){before}"


def _require_not_worse(name: str, version: "ModelVersion", champion: "ModelVersion") -> None:
    """Check that a version may take the champion's place.

    Raises:
        MixUnlearnError: it is worse, or nobody can tell.
    """
    gaps = {f"version {each.version}": _gap(each) for each in (version, champion)}
    told = ", ".join(f"{number} has {_written(gap)}" for number, gap in gaps.items())
    remedy = f"to decide it yourself, take the alias `{CHAMPION}` from version {champion.version}"
    for key, what in ((DATA, "data"), (SPLITS, "splits")):
        digests = [str(each.tags.get(key, "unknown"))[:12] for each in (version, champion)]
        if version.tags.get(key) is None or version.tags.get(key) != champion.tags.get(key):
            both = " and ".join(digests)
            raise MixUnlearnError(f"{name}: measured on different {what} ({both}); {remedy}")
    if not all(map(math.isfinite, gaps.values())):
        raise MixUnlearnError(f"{name}: cannot be compared: {told}; {remedy}")
    if _gap(version) > _gap(champion):
        raise MixUnlearnError(f"{name}: not promoted, the champion is nearer: {told}; {remedy}")


def _gap(version: "ModelVersion") -> float:
    """Return the mean gap under fresh seeds in percentage points; NaN if it is not known."""
    try:
        return float(version.tags[GAP])
    except (KeyError, ValueError):
        return math.nan


def _written(gap: float) -> str:
    return f"{GAP} {gap:.4g} pp" if math.isfinite(gap) else f"no {GAP}"


# --- forgetting ------------------------------------------------------------------------------


def forget(uri: str, name: str, studies: Iterable[str], *, keep: int) -> None:
    """Delete old versions of a registered model and the runs of studies, in MLflow.

    What has an alias stays, with its run. From an SQLite file, what was deleted here is removed
    for good, with its files; at a server, `mlflow gc` does that.

    Args:
        uri: the tracking address.
        name: of the registered model and of the experiment.
        studies: whose runs go.
        keep: the newest versions without an alias that stay.

    Raises:
        MixUnlearnError: MLflow is away, or refuses.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return
    if reason := reachable(uri):
        raise MixUnlearnError(f"MLflow at {redact(uri)} does not answer: {reason}")
    from mlflow import MlflowClient  # noqa: PLC0415 (takes seconds: never at start-up)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            _forget(client, experiment.experiment_id, name, studies, keep)
    except MlflowException as error:
        raise MixUnlearnError(f"MLflow at {redact(uri)}: {one_line(error)}") from error


def _forget(
    client: "MlflowClient", experiment: str, name: str, studies: Iterable[str], keep: int
) -> None:
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
    """Return the runs of versions with an alias, and the versions without that are too old."""
    versions: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        versions, token = [*versions, *page], page.token or None
    if not versions:
        return set(), []
    titles = {str(each) for each in client.get_registered_model(name).aliases.values()}
    versions.sort(key=lambda each: int(each.version), reverse=True)
    titled = {str(each.run_id) for each in versions if str(each.version) in titles}
    return titled, [each for each in versions if str(each.version) not in titles][keep:]


def _models_of(
    client: "MlflowClient", experiment: str, versions: "Iterable[ModelVersion]"
) -> "list[LoggedModel]":
    """Return the logged models that versions were made from; MLflow knows them by the run."""
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
    """Return all runs of studies but some."""
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
    """Remove deleted runs and models for good.

    Not by `mlflow gc`, which removes at the same time what others have deleted, and may want back.
    """
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
        get_artifact_repository,
    )
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    store: Any = SqlAlchemyStore(uri, None)  # type: ignore[no-untyped-call]
    files: Any = get_artifact_repository
    for model in models:
        files(model.artifact_location).delete_artifacts()
        store._hard_delete_logged_model(model.model_id)
    for run in runs:
        files(run.info.artifact_uri).delete_artifacts()
        store._hard_delete_run(run.info.run_id)
    store.engine.dispose()
