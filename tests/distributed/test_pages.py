"""MLflow's own pages of a study, in a real browser: what a user finds there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml
from mlflow import MlflowClient

from distributed.cli import app as cli
from distributed.runtime.addresses import embedded
from distributed.tracking.study_page import study_page
from tests.quick_server import quick_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray"),
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),
]

NAME = "reviewed"
EXPERIMENT = {
    "name": NAME,
    "data": {"source": "digits", "limit": {"train": 900}},
    "model": {"name": "cnn", "width": 4},
    "task": {"kind": "class", "classes": [0]},
    "references": {"seeds": 2, "epochs": 2, "lr": 3e-3},
    "search": {"trials": 3, "epochs": 2, "space": {"batch": 64, "gen_interval": 1}},
}
PATIENCE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Pages:
    """MLflow's pages, and what they show."""

    link: str
    experiment: str
    parent: str
    best_first: list[str]


@pytest.fixture(scope="module")
def pages(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("pages")
    file, home = folder / "reviewed.yaml", folder / "home"
    file.write_text(yaml.safe_dump(EXPERIMENT))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("sys.argv", ["mixunlearn", "sweep", str(file), "--home", str(home)])
        assert cli.main() == 0
    uri, location = embedded(home)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = client.get_experiment_by_name(NAME)
    assert found
    runs = client.search_runs([found.experiment_id])
    (parent,) = [run for run in runs if "mixunlearn.trial" not in run.data.tags]
    trials = [run for run in runs if run is not parent]
    trials.sort(key=lambda run: run.data.metrics["gap/avg"])
    with quick_server(home, uri, location, None) as server:
        yield Pages(
            link=server.link,
            experiment=found.experiment_id,
            parent=parent.info.run_id,
            best_first=[str(run.info.run_name) for run in trials],
        )


@pytest.fixture
def page(browser: "Browser", pages: Pages) -> Iterator["Page"]:
    """A page that must not request anything from other machines."""
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.context.close()
    assert all(url.startswith((pages.link, "data:", "blob:")) for url in asked)


def test_the_address_of_the_study_opens_its_trials_the_best_first(
    pages: Pages, page: "Page"
) -> None:
    """MLflow's own page of an experiment opens on language models, and shows no runs."""
    page.goto(f"{pages.link}{study_page(pages.link, None)}")
    names = page.get_by_role("link", name=re.compile(r"^\d{4} mixunlearn"))
    names.nth(len(pages.best_first) - 1).wait_for()
    assert names.all_inner_texts() == pages.best_first
    page.get_by_text("Description").first.wait_for()
    page.get_by_text("gap/mia/asr").first.wait_for()


def test_the_charts_of_the_study_begin_with_the_gap(pages: Pages, page: "Page") -> None:
    page.goto(f"{pages.link}{study_page(pages.link, None)}&compareRunsMode=CHART")
    page.get_by_text("gap: distance to retraining, on val").wait_for()
    first = page.get_by_test_id("experiment-view-compare-runs-card").first
    assert first.inner_text().split()[0] == "gap/avg"


def test_the_run_of_the_study_opens_with_its_verdict(pages: Pages, page: "Page") -> None:
    page.goto(f"{pages.link}/#/runs/{pages.parent}")
    page.get_by_text("is nearest to retraining").first.wait_for()
    page.get_by_text("so_far/best").first.wait_for()


def test_the_leaderboard_is_a_table(pages: Pages, page: "Page") -> None:
    place = f"experiments/{pages.experiment}/runs/{pages.parent}/artifacts/leaderboard.json"
    page.goto(f"{pages.link}/#/{place}")
    page.get_by_text("View as table").wait_for()
    page.get_by_role("columnheader", name="rank").wait_for()


def test_the_report_opens_among_the_artifacts(pages: Pages, page: "Page") -> None:
    place = f"experiments/{pages.experiment}/runs/{pages.parent}/artifacts/report.html"
    page.goto(f"{pages.link}/#/{place}")
    inside = page.frame_locator("iframe")
    inside.get_by_role("heading", name="What won, and by how much?").wait_for()
    inside.locator(".trials tbody tr").first.wait_for()


def test_trials_are_sorted_by_their_gap(pages: Pages, page: "Page") -> None:
    order = "orderByKey=metrics.%60gap%2Favg%60&orderByAsc=true"
    page.goto(f"{pages.link}/#/experiments/{pages.experiment}/runs?{order}")
    names = page.get_by_role("link", name=re.compile(r"^\d{4} mixunlearn"))
    names.nth(len(pages.best_first) - 1).wait_for()
    assert names.all_inner_texts() == pages.best_first


def test_the_registered_model_opens_with_its_card(pages: Pages, page: "Page") -> None:
    page.goto(f"{pages.link}/#/models/{NAME}/versions/1")
    page.get_by_text("candidate").first.wait_for()
    page.get_by_text("What was forgotten").first.wait_for()


def test_the_page_of_a_run_that_the_report_links_to_exists(pages: Pages, page: "Page") -> None:
    page.goto(f"{pages.link}/#/runs/{pages.parent}")
    page.wait_for_url(f"**/#/experiments/{pages.experiment}/runs/{pages.parent}")
