"""Makes a registered model the champion."""

import math
from typing import TYPE_CHECKING

from distributed.runtime.text import one_line, redact
from distributed.tracking.names import CHAMPION, GAP, PREVIOUS
from distributed.tracking.registration import version_of
from distributed.tracking.server import make_client, reachable
from distributed.tracking.tags import DATA, SPLITS
from mixunlearn.errors import MissingError, MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def promote(uri: str, name: str, trial_id: str, *, proven: bool = False) -> str:
    """Make a trial's registered model the champion, unless it is worse than the present one.

    Args:
        uri: the tracking address.
        name: name of the registered model.
        trial_id: id of the trial.
        proven: whether a duel has already shown that it is not worse.

    Returns:
        What was done, in a sentence.

    Raises:
        MissingError: the trial's model is not registered.
        MixUnlearnError: it is worse than the champion, was not measured on the same images, or
            MLflow does not answer.
    """
    if reason := reachable(uri):
        remedy = "nothing was promoted; run the same command again once it answers"
        raise MixUnlearnError(f"MLflow at {redact(uri)} does not answer: {reason}; {remedy}")
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = make_client(uri)
    try:
        return _promote(client, name, trial_id, proven=proven)
    except MlflowException as error:
        reason = one_line(error)
        raise MixUnlearnError(
            f"MLflow at {redact(uri)} did not promote {name}: {reason}"
        ) from error


def _promote(client: "MlflowClient", name: str, trial_id: str, *, proven: bool) -> str:
    version = version_of(client, name, trial_id)
    if version is None:
        remedy = "`mixunlearn sync STUDY` registers the best trial once MLflow answers"
        raise MissingError(f"{name}: no registered model of trial {trial_id}; {remedy}")
    number, gap = str(version.version), _gap(version)
    current = client.get_registered_model(name).aliases.get(CHAMPION)
    if str(current) == number:
        return f"{name}: version {number} is already the champion ({_written(gap)})"
    before = ""
    if current is not None:
        champion = client.get_model_version(name, str(current))
        # A duel compares on equal seeds; these gaps are from different ones, and noisier.
        if not proven:
            _require_not_worse(name, version, champion)
        # Before the champion: a kill in between then leaves a champion and its way back.
        client.set_registered_model_alias(name, PREVIOUS, str(current))
        before = f"; version {current} ({_written(_gap(champion))}) is now `{PREVIOUS}`"
    client.set_registered_model_alias(name, CHAMPION, number)
    return f"{name}: version {number} is now the champion ({_written(gap)}){before}"


def _require_not_worse(name: str, version: "ModelVersion", champion: "ModelVersion") -> None:
    """Check that a version is not worse than the champion.

    Raises:
        MixUnlearnError: it is worse, or they cannot be compared.
    """
    gaps = {f"version {each.version}": _gap(each) for each in (version, champion)}
    told = ", ".join(f"{number} has {_written(gap)}" for number, gap in gaps.items())
    remedy = f"to replace it anyway, remove the alias `{CHAMPION}` from version {champion.version}"
    for key, what in ((DATA, "data"), (SPLITS, "splits")):
        digests = [str(each.tags.get(key, "unknown"))[:12] for each in (version, champion)]
        if version.tags.get(key) is None or version.tags.get(key) != champion.tags.get(key):
            both = " and ".join(digests)
            raise MixUnlearnError(f"{name}: measured on different {what} ({both}); {remedy}")
    if not all(map(math.isfinite, gaps.values())):
        raise MixUnlearnError(f"{name}: the versions cannot be compared: {told}; {remedy}")
    if _gap(version) > _gap(champion):
        raise MixUnlearnError(f"{name}: not promoted, the champion is better: {told}; {remedy}")


def _gap(version: "ModelVersion") -> float:
    """Return the mean gap under fresh seeds in percentage points; NaN if it is unknown."""
    try:
        return float(version.tags[GAP])
    except (KeyError, ValueError):
        return math.nan


def _written(gap: float) -> str:
    return f"{GAP} {gap:.4g} pp" if math.isfinite(gap) else f"no {GAP}"
