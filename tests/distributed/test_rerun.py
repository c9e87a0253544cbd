"""Run a trial again: the same numbers, from its MLflow run alone or from its study."""

import shutil
import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import RunTag

from distributed.cluster.version import code_version
from distributed.config.read import make_experiment
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from distributed.rerun import rerun
from distributed.rerun.rerun import Pair, run_again
from distributed.rerun.trial_lookup import find_trial
from distributed.runtime.addresses import embedded
from distributed.runtime.progress import Progress
from distributed.runtime.signals import Stop
from distributed.search import session as command_session
from distributed.search import sweep
from distributed.search.session import Session, open_study
from distributed.study.study import Study
from mixunlearn.trial import Trial
from search_spaces import Float, Space
from tests.fixtures import Command, Run
from trainables.unlearn import reason

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")

EPOCHS = 2
EXPERIMENT = {
    "name": "small",
    "data": {"source": "digits", "limit": {"train": 300}},
    "model": {"name": "cnn", "width": 4},
    "task": {"kind": "class", "classes": [0]},
    "references": {"seeds": 3, "epochs": 1, "lr": 3e-3},
    "search": {"trials": 3, "epochs": EPOCHS, "sampler": "random", "space": {"batch": 64}},
}
DIVERGES = Space(lr=Float(source="a test", low=1e30, high=1e30, default=1e30))


@dataclass(frozen=True, kw_only=True)
class Place:
    """A home with a study of four trials: complete, stopped early, diverged, killed."""

    home: Path
    study: str
    runs: Mapping[int, str]
    parent: str
    reference: str


def plan_in(home: Path) -> Plan:
    return make_plan(make_experiment(EXPERIMENT), home, command="a test")


def fill(plan: Plan) -> None:
    for member in plan.references.missing():
        training = plan.references.training(member, torch.device("cpu"))
        training.epoch()
        plan.references.keep(member, training.model, 1.0)


def record(plan: Plan, study: Study, epochs: int, state: str, error: str | None = None) -> None:
    """Run a trial and record it, as a sweep would."""
    config = study.ask()
    number = int(config.pop("trial"))
    seed = int(config.pop("seed"))
    try:
        trial = Trial(plan.problem(), "mixunlearn", config, seed, torch.device("cpu"))
        for epoch in range(1, epochs + 1):
            study.report(number, epoch, trial.epoch())
    except Exception as found:
        error = reason(found)
    study.finish(number, state, seconds=1.0, error=error)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("rerun")
    plan = plan_in(home).keep()
    fill(plan)
    with closing(open_study(plan, create=True)) as study:
        record(plan, study, EPOCHS, "complete")
        record(plan, study, 1, "pruned")
    with closing(open_study(replace(plan, space=DIVERGES))) as study:
        record(plan, study, 1, "failed")
    with closing(open_study(plan)) as study:
        record(plan, study, 1, "failed", "the worker died")
    with Session(address=None, progress=Progress(), stop=Stop()) as session:
        trials, problems = sweep.sync(plan, session)
    assert (trials, problems) == (4, [])
    client = MlflowClient(embedded(home)[0])
    ids = {each.name: each.experiment_id for each in client.search_experiments()}
    runs = client.search_runs([ids["small"]])
    references = client.search_runs([*ids.values()], "tags.`mixunlearn.role` = 'reference'")
    trial = "mixunlearn.trial"
    (parent,) = (run.info.run_id for run in runs if trial not in run.data.tags)
    return Place(
        home=home,
        study=plan.study,
        runs={int(run.data.tags[trial]): run.info.run_id for run in runs if trial in run.data.tags},
        parent=parent,
        reference=references[0].info.run_id,
    )


@pytest.fixture
def command(place: Place, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(target: str, *words: str, home: Path = place.home, ray: bool = False) -> Run:
        if not ray:  # Ray is only needed for missing references
            monkeypatch.setattr(
                command_session, "connected", lambda address: pytest.fail("Ray was needed")
            )
        return mixunlearn("rerun", target, "--home", str(home), "--json", *words)

    return run


@pytest.mark.parametrize("number", [0, 1])
def test_a_trial_has_the_same_numbers_again(command: Command, place: Place, number: int) -> None:
    for target in (place.runs[number], f"{place.study}/{number}"):
        run = command(target)
        assert run.code == 0, run.err
        result = run.result
        assert result["identical"] is True
        assert (result["study"], result["trial"]) == (place.study, number)
        assert {"acc/val", "gap/avg", "z/mia/asr", "train/loss"} <= set(result["metrics"])
        assert all(pair["then"] == pair["now"] for pair in result["metrics"].values())
        assert not any(name.startswith("time/") for name in result["metrics"])
        assert f"trial {number}: identical: {len(result['metrics'])} metrics" in run.out


def test_it_changes_nothing_but_the_store(command: Command, place: Place) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in place.home.rglob("*") if path.is_file()}

    before = content()
    assert command(place.runs[0]).code == 0
    assert content() == before


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
def test_another_machine_needs_nothing_but_mlflow(
    command: Command, place: Place, tmp_path: Path
) -> None:
    """Everything missing, also the references, is made there."""
    where = f"tracking.uri=sqlite:///{place.home / 'mlflow.db'}"
    run = command(place.runs[0], "--set", where, home=tmp_path, ray=True)
    assert run.code == 0, run.err
    assert run.result["identical"] is True
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "store", "studies"}
    again = command(place.runs[0], "--set", where, home=tmp_path)
    assert again.result == run.result
    (folder,) = (tmp_path / "studies").iterdir()
    assert [path.name for path in folder.iterdir()] == ["driver.lock"]


def test_what_diverged_diverges_again(command: Command, place: Place) -> None:
    for target in (place.runs[2], f"{place.study}/2"):
        run = command(target)
        assert run.code == 0, run.err
        assert run.result["identical"] is True
        assert "diverged" in run.result["failure"]["now"]
        assert "trial 2: fails again: " in run.out


def test_a_worker_that_died_does_not_die_again(command: Command, place: Place) -> None:
    run = command(place.runs[3])
    assert run.code == 1
    assert not run.result["confirmed"]
    assert run.result["failure"] == {"then": "the worker died", "now": None}
    assert "does not fail now, unlike then: the worker died; identical: " in run.out


class TestAlteredRuns:
    """Runs whose record was tampered with; each test has a copy of MLflow's database."""

    @pytest.fixture
    def copied(self, place: Place, tmp_path: Path) -> Path:
        shutil.copytree(place.home, tmp_path / "home")
        return tmp_path / "home"

    @pytest.fixture
    def client(self, copied: Path) -> MlflowClient:
        return MlflowClient(embedded(copied)[0])

    def copy(
        self,
        client: MlflowClient,
        run_id: str,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> str:
        """Return a new run like another one, with something changed."""
        old = client.get_run(run_id)
        new = client.create_run(old.info.experiment_id).info.run_id
        for name, text in {**old.data.params, **(params or {})}.items():
            client.log_param(new, name, text)
        for name, value in {**old.data.metrics, **(metrics or {})}.items():
            client.log_metric(new, name, value, step=EPOCHS)
        given = {**old.data.tags, **(tags or {})}
        client.log_batch(new, tags=[RunTag(name, text) for name, text in given.items() if text])
        return str(new)

    def test_another_seed_gives_other_numbers(
        self, command: Command, place: Place, copied: Path, client: MlflowClient
    ) -> None:
        run = command(self.copy(client, place.runs[0], params={"seed": "5"}), home=copied)
        assert run.result["identical"] is False
        differing = [name for name, p in run.result["metrics"].items() if p["then"] != p["now"]]
        assert "train/loss" in differing
        assert f"{len(differing)} of {len(run.result['metrics'])} metrics differ" in run.out
        assert run.code == (0 if run.result["confirmed"] else 1)

    def test_a_difference_is_measured_by_the_references_spread(
        self, command: Command, place: Place, copied: Path, client: MlflowClient
    ) -> None:
        held = client.get_run(place.runs[0]).data.metrics
        for size, code, said in ((0.5, 0, "all within"), (1.5, 1, "1 of them by more than")):
            spread = command(place.runs[0], home=copied).result["metrics"]["acc/val"]["spread"]
            other = {"acc/val": held["acc/val"] + size * spread}
            run = command(self.copy(client, place.runs[0], metrics=other), home=copied)
            assert run.code == code
            assert f" metrics differ, {said} the references' spread" in run.out
            assert "acc/val" in run.out

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            (
                {"tags": {"mixunlearn.data": "abcdef0123456789"}},
                "mixunlearn.data = 'abcdef012345': here it is '",
            ),
            ({"tags": {"mixunlearn.splits": "abcdef01"}}, "mixunlearn.splits = 'abcdef01': here"),
            ({"params": {"more": "1"}}, "params.more = '1': no longer valid for the method"),
            ({"params": {"lr": "fast"}}, "params.lr = 'fast': no longer valid for the method"),
            ({"tags": {"mixunlearn.state": ""}}, "trial 0 has not ended; resume its `mixunlearn"),
        ],
    )
    def test_what_cannot_be_repeated_is_told_in_one_line(
        self,
        command: Command,
        place: Place,
        copied: Path,
        client: MlflowClient,
        changes: dict[str, Any],
        words: str,
    ) -> None:
        run = command(self.copy(client, place.runs[0], **changes), home=copied)
        assert run.code == 2
        assert words in run.err
        assert len(run.err.splitlines()) == 1

    def test_other_code_is_told_and_runs(
        self, command: Command, place: Place, copied: Path, client: MlflowClient
    ) -> None:
        other = self.copy(client, place.runs[1], tags={"mixunlearn.code": "0123"})
        run = command(other, home=copied)
        assert run.code == 0
        assert run.err == f"recorded with code 0123; the present code is {code_version()}\n"

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
    def test_a_study_without_its_experiment(
        self, command: Command, place: Place, copied: Path, client: MlflowClient, text: str
    ) -> None:
        client.set_tag(place.parent, "mixunlearn.experiment", text)
        run = command(place.runs[0], home=copied)
        assert run.code == 2
        assert f"on the study's machine: mixunlearn rerun {place.study}/0" in run.err


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{parent}", "the run of a whole study; give the id of a trial's run, or STUDY/TRIAL"),
        ("{reference}", "not the run of a trial; give the id of a trial's run, or STUDY/TRIAL"),
        ("0" * 32, "no such run at sqlite://"),
        ("../mlflow.db", "STUDY = '..': no such study"),
        (
            "{study}/7",
            "TRIAL = '7': not a finished trial of {study}; 4 are finished, the last is 3",
        ),
        ("{study}/x", "TRIAL = 'x': not a finished trial of {study}"),
        ("smol/0", "STUDY = 'smol': no such study in {home}/studies; did you mean '{study}'"),
    ],
)
def test_no_such_trial(command: Command, place: Place, target: str, words: str) -> None:
    names = vars(place)
    run = command(target.format(**names))
    assert run.code == 2, run.err
    assert words.format(**names) in run.err
    assert len(run.err.splitlines()) == 1


def test_a_setting_that_makes_another_trial(command: Command, place: Place) -> None:
    run = command(place.runs[0], "--set", "data.seed=1")
    assert run.code == 2
    assert "--set = 'data.seed=1': would make another trial" in run.err


def test_mlflow_is_away(command: Command, place: Place, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and no process listens
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        run = command(place.runs[0], "--set", f"tracking.uri=http://ann:secret@{where}")
    assert run.code == 1
    assert f"http://***@{where} does not answer: " in run.err
    run = command(place.runs[0], home=tmp_path)
    assert run.code == 1
    assert "no study was tracked at" in run.err
    assert list(tmp_path.iterdir()) == []


def test_floats_survive_being_written_as_text(place: Place) -> None:
    _, recorded = find_trial(place.runs[1], [], place.home)
    _, kept = find_trial(f"{place.study}/1", [], place.home)
    assert recorded.hyperparameters == kept.hyperparameters
    for name, value in kept.hyperparameters.items():
        text = isinstance(value, bool | str)
        assert not text or type(recorded.hyperparameters[name]) is type(value)
    assert recorded.seed == kept.seed


def test_a_trial_that_fails_now(place: Place) -> None:
    plan, recorded = find_trial(place.runs[0], [], place.home)
    wild = replace(recorded, hyperparameters={**recorded.hyperparameters, "lr": 1e30})
    _, failure = run_again(plan, wild, Progress())
    assert failure
    assert "diverged" in failure


@pytest.mark.parametrize(
    ("then", "now", "spread", "within"),
    [
        (1.0, 1.0, None, True),
        (None, None, 0.5, True),
        (1.0, 1.5, 0.5, True),
        (1.0, 1.6, 0.5, False),
        (1.0, None, 0.5, False),
        (1.0, 2.0, None, True),  # nothing to compare it with
    ],
)
def test_within(then: float | None, now: float | None, spread: float | None, within: bool) -> None:
    assert Pair(then=then, now=now, spread=spread).within is within


def test_the_spread_is_that_of_z(place: Place) -> None:
    references = plan_in(place.home).references.evaluator("val").references
    evaluation = references.evaluations[0]
    compared = references.compare(evaluation)
    for name in (*evaluation.metrics, "div/js"):
        spread, mean = (
            rerun.spread(references, name),
            compared[name] - sum(references.values(name)) / len(references.evaluations),
        )
        assert spread
        assert compared[f"z/{name}"] == pytest.approx(mean / spread, abs=1e-6)
        assert rerun.spread(references, f"gap/{name}") == spread
    assert rerun.spread(references, "gap/avg")
    assert rerun.spread(references, "train/loss") is None
