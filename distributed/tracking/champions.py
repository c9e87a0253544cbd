"""The champions in MLflow's registry, for a list; quick to import, for there may be none."""

from distributed.runtime.addresses import sqlite_path
from distributed.runtime.text import one_line, redact
from distributed.tracking.names import CHAMPION, GAP
from distributed.tracking.server import make_client, reachable
from distributed.tracking.tags import TRIAL_ID
from mixunlearn.errors import MixUnlearnError
from mixunlearn.plain import finite


def champions(uri: str) -> list[dict[str, str | float | None]]:
    """Return the champion of each registered model: `model`, `version`, `trial`, `gap/avg`.

    `gap/avg` is the mean under fresh seeds in percentage points, `None` if it is unknown. Nothing
    is created.

    Raises:
        MixUnlearnError: MLflow does not answer.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return []
    if reason := reachable(uri, reading=True):
        raise MixUnlearnError(f"MLflow at {redact(uri)} does not answer: {reason}")
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = make_client(uri)
    try:
        models = [each for each in client.search_registered_models() if CHAMPION in each.aliases]
        found = [client.get_model_version_by_alias(each.name, CHAMPION) for each in models]
    except MlflowException as error:
        raise MixUnlearnError(f"MLflow at {redact(uri)}: {one_line(error)}") from error
    return [
        {
            "model": each.name,
            "version": str(each.version),
            "trial": each.tags.get(TRIAL_ID),
            "gap/avg": _number(each.tags.get(GAP)),
        }
        for each in found
    ]


def _number(text: str | None) -> float | None:
    """Return the finite number that a tag holds; `None` if it holds none."""
    try:
        return finite(float(text or ""))
    except ValueError:
        return None
