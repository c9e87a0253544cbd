"""Where MLflow's pages show a study."""

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from distributed.runtime.text import redact
from distributed.tracking.run_finder import all_experiments
from distributed.tracking.saved_view import VIEW, of_study
from distributed.tracking.server import make_client, reachable
from distributed.tracking.tags import STUDY
from mixunlearn.errors import InputError, MixUnlearnError

if TYPE_CHECKING:
    from mlflow.entities import Run

# Without it, MLflow opens an experiment on its pages for language models, which show no runs.
KIND = {"workflowType": "machine_learning"}


def study_page(uri: str, study: str | None) -> str:
    """Return the path of the page with the runs of a study, after the address of the server.

    It is empty if nobody names a study, and MLflow has none or does not tell.

    Args:
        uri: the tracking address.
        study: name of the study; `None`: the one that was last active.

    Raises:
        InputError: MLflow has no run of this study.
        MixUnlearnError: MLflow does not answer.
    """
    if reason := reachable(uri, reading=True):
        if study is None:  # a browser may know a password that this process does not
            return ""
        raise MixUnlearnError(f"{redact(uri)} does not answer: {reason}")
    run = _last_run(uri, study)
    if run is None:
        if study is None:
            return ""
        remedy = f"{redact(uri)} has no run of it: `mixunlearn sync {study}` sends it there"
        raise InputError("STUDY", study, remedy)
    name, experiment = run.data.tags[STUDY], run.info.experiment_id
    tags = make_client(uri).get_experiment(experiment).tags
    # A search in the address would switch the saved view off.
    saved = {"viewStateShareKey": name} if f"{VIEW}{name}" in tags else {}
    words = urlencode({**KIND, **(saved or {"searchFilter": of_study(name)})}, quote_via=quote)
    return f"/#/experiments/{experiment}/runs?{words}"


def _last_run(uri: str, study: str | None) -> "Run | None":
    """Return the run of a study, or of any study, that was started last; it may be a trial's."""
    client = make_client(uri)
    found = client.search_runs(
        all_experiments(client),
        f"tags.`{STUDY}` LIKE '%'" if study is None else of_study(study),
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return found[0] if found else None
