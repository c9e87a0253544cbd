"""How fast MLflow takes and returns data when a study has thousands of trials.

The sweep's own writer logs a study to a new SQLite database through a real `mlflow server`. Then
the server gets the requests of MLflow's pages: the first page of trials sorted by a metric, and
everything about the study's run. The ratio is the time for the sorted page among all trials,
divided by the time for the same page in a study of a hundred trials.

    PYTHONPATH=. .venv/bin/python benchmarks/many_trials.py [TRIALS]
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from benchmarks import publish, say, spread
from distributed.runtime.addresses import embedded
from distributed.serve.pages import server
from distributed.tracking.tracker import Tracker

TARGET = 20.0  # times as long as for a study of `FEW` trials
TRIALS, FEW = 5_000, 100
METRICS, PARAMETERS, EPOCHS = 20, 14, 3
PAGE = 100  # trials in one request of MLflow's pages
REPEATS = 7
PATIENCE_S = 7_200.0


def main(trials: int) -> None:
    """Write two studies, request their pages, and print the result."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        uri, _ = embedded(home)
        start(uri, home)
        with server(home, uri, None, None) as running:
            few, many = Study(running.link, home, FEW), Study(running.link, home, trials)
            say(f"{trials} trials written in {many.seconds:.0f} s")
            report(few, many, (home / "mlflow.db").stat().st_size)


def start(uri: str, home: Path) -> None:
    """Create the database, which takes seconds that must not be measured."""
    tracker = Tracker(
        uri=uri,
        artifact_location=None,
        experiment="first",
        study="first",
        spool=home / "first.spool",
        say=say,
    )
    tracker.start_study("first", {}, {}, "")
    require_all(tracker)


def report(few: "Study", many: "Study", size: int) -> None:
    """Print the result."""
    page, small = many.timed(many.sorted_page), few.timed(few.sorted_page)
    publish(
        "many_trials",
        [one / another for one, another in zip(page, sorted(small), strict=True)],
        at_most=TARGET,
        of=f"the first page of trials by gap/avg among {many.trials}, compared with {FEW}",
        trials=many.trials,
        write_s=round(many.seconds, 1),
        write_ms_a_trial=round(1000 * many.seconds / many.trials, 1),
        sorted_page_s=spread(page),
        sorted_page_of_few_s=spread(small),
        next_page_s=spread(many.timed(many.next_page)),
        filtered_page_s=spread(many.timed(many.filtered_page)),
        open_parent_s=spread(many.timed(many.parent)),
        database_mb=round(size / 1e6, 1),
    )


class Study:
    """A study of many trials on a server, and the requests of MLflow's pages.

    Args:
        link: address of the server.
        home: folder for the spool.
        trials: number of trials.
    """

    def __init__(self, link: str, home: Path, trials: int) -> None:
        self.link, self.trials = link, trials
        self._open = build_opener(ProxyHandler({})).open  # without a proxy: it is this machine
        begin = time.perf_counter()
        fill(link, home / f"{trials}.spool", f"study-{trials}", trials)
        self.seconds = time.perf_counter() - begin
        experiment = f"experiments/get-by-name?experiment_name=study-{trials}"
        self.experiment = self._ask(experiment)["experiment"]["experiment_id"]
        found = self._search("attributes.run_name = 'study'", [])
        self.run_id = found["runs"][0]["info"]["run_id"]
        self._token = self.sorted_page()["next_page_token"] if trials > PAGE else ""

    def timed(self, question: Callable[[], object]) -> list[float]:
        """Return the seconds that each of `REPEATS` answers took."""
        taken = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            question()
            taken.append(time.perf_counter() - begin)
        return taken

    def sorted_page(self) -> dict[str, Any]:
        """Return the first page of trials, smallest gap first."""
        found = self._search("", ["metrics.`gap/avg` ASC"])
        if len(found["runs"]) != PAGE:
            raise RuntimeError(f"{len(found['runs'])} trials on a page, not {PAGE}")
        return found

    def next_page(self) -> dict[str, Any]:
        """Return the second page."""
        return self._search("", ["metrics.`gap/avg` ASC"], self._token)

    def filtered_page(self) -> dict[str, Any]:
        """Return the complete trials with a gap below 50, smallest gap first."""
        wanted = "tags.`mixunlearn.state` = 'complete' AND metrics.`gap/avg` < 50"
        return self._search(wanted, ["metrics.`gap/avg` ASC"])

    def parent(self) -> None:
        """Request the study's run, the history of a metric, and its files."""
        run = f"run_id={self.run_id}"
        self._ask(f"runs/get?{run}")
        history = f"metrics/get-history?{run}&metric_key=so_far/best&max_results=25000"
        if len(self._ask(history)["metrics"]) != self.trials:
            raise RuntimeError("the study's run lacks trials")
        self._ask(f"artifacts/list?{run}")

    def _search(self, wanted: str, order: list[str], token: str = "") -> dict[str, Any]:
        question = {
            "experiment_ids": [self.experiment],
            "filter": wanted,
            "order_by": order,
            "max_results": PAGE,
            "page_token": token,
        }
        return self._ask("runs/search", question)

    def _ask(self, path: str, question: object = None) -> dict[str, Any]:
        data = None if question is None else json.dumps(question).encode()
        request = Request(f"{self.link}/api/2.0/mlflow/{path}", data=data)
        request.add_header("Content-Type", "application/json")
        with self._open(request, timeout=600) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def fill(link: str, spool: Path, study: str, trials: int) -> None:
    """Log a study with its trials, as a sweep does."""
    draw = random.Random(0)
    tracker = Tracker(
        uri=link, artifact_location=None, experiment=study, study=study, spool=spool, say=say
    )
    tracker.start_study("study", {"search.trials": trials}, {}, "Many trials.")
    best = 100.0
    for trial in range(trials):
        hyperparameters = {f"parameter_{index}": draw.random() for index in range(PARAMETERS)}
        tags = {"mixunlearn.method": "mixunlearn", "mixunlearn.trial_id": f"{trial:08x}"}
        tracker.start_trial(trial, f"{trial:04d} mixunlearn lr=0.1", hyperparameters, tags)
        metrics: dict[str, float] = {}
        epochs = draw.randint(1, EPOCHS)
        for epoch in range(1, epochs + 1):
            metrics = {f"acc/metric_{index}": draw.random() for index in range(METRICS - 1)}
            metrics["gap/avg"] = 100 * draw.random()
            tracker.log_epoch(trial, epoch, metrics)
        state = "complete" if epochs == EPOCHS else "pruned"
        tracker.finish_trial(trial, state, metrics, None, "")
        best = min(best, metrics["gap/avg"])
        tracker.log_epoch(None, trial + 1, {"so_far/best": best})
    tracker.finish_study("complete", {})
    require_all(tracker)


def require_all(tracker: Tracker) -> None:
    """Deliver everything in the queue.

    Raises:
        RuntimeError: MLflow did not accept it.
    """
    if problems := tracker.close(PATIENCE_S):
        raise RuntimeError(problems[0])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS)
