"""The study on real Optuna storage: what it proposes, what it records, what survives."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from distributed.config.experiment import Search
from distributed.search.searcher import StudySearcher
from distributed.study import sampling
from distributed.study.importance import ENOUGH, RESAMPLES
from distributed.study.lock import StudyLock
from distributed.study.refill import refill
from distributed.study.storage import open_record
from distributed.study.study import Study
from distributed.study.trials_table import write_trials
from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from search_spaces import SPACES, Space

SAMPLERS = ["tpe", "random", "cmaes", "gp"]
STAGES = ("pool1", "pool2")


def space(method: str = "mixunlearn", **wishes: object) -> Space:
    return SPACES[method](STAGES, "pool2").narrowed(wishes)


def open_study(
    folder: Path,
    sampler: str = "tpe",
    seed: int = 0,
    start: Sequence[Mapping[str, Any]] = (),
    lock: StudyLock | None = None,
    create: bool = True,
    table: Path | None = None,
    method: str = "mixunlearn",
    **wishes: object,
) -> Study:
    return Study(
        name="study",
        storage=f"sqlite:///{folder / 'study.db'}",
        method=method,
        space=space(method, **wishes),
        facts={"labels": "agnostic"},
        sampler=sampler,
        seed=seed,
        objective="gap/avg",
        start=start,
        lock=lock,
        create=create,
        table=table,
    )


def told(folder: Path) -> list[FrozenTrial]:
    """Return the storage's content, read without our code."""
    storage = f"sqlite:///{folder / 'study.db'}"
    return optuna.load_study(study_name="study", storage=storage).trials


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ("trial", "seed")}


def play(study: Study, trials: int) -> list[dict[str, Any]]:
    """Ask for trials and finish each with a gap that depends on its learning rate."""
    configs = []
    for _ in range(trials):
        config = study.ask()
        number = int(config["trial"])
        study.report(number, 1, {"gap/avg": float(config["lr"]) * 1e3})
        study.finish(number, "complete", seconds=1.0, error=None)
        configs.append(config)
    return configs


def test_the_default_is_trial_0(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    config = study.ask()
    assert config["trial"] == 0
    assert hyperparameters(config) == space().defaults({"labels": "agnostic"})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_to_start_with_follows_the_default(tmp_path: Path, sampler: str) -> None:
    start: list[dict[str, Any]] = [{"lr": 2e-4, "omega": 3.0}, {"pairing": "any", "lr": 5e-4}]
    configs = play(open_study(tmp_path, sampler, start=start), 2)
    again = open_study(tmp_path, sampler, start=start)  # another process continues
    configs += play(again, 2)
    default = space().defaults({"labels": "agnostic"})
    assert hyperparameters(configs[0]) == default
    for config, wanted in zip(configs[1:3], start, strict=True):
        assert {name: config[name] for name in wanted} == wanted
    assert len({config["lr"] for config in configs}) == 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_authors_own_configuration_is_trial_1(tmp_path: Path, sampler: str) -> None:
    configs = play(open_study(tmp_path, sampler, method="salun"), 1)
    configs += play(open_study(tmp_path, sampler, method="salun"), 1)
    # Another process goes on, and its sampler was not told of a rate for another optimizer.
    configs += play(open_study(tmp_path, sampler, method="salun"), 8)
    authors = {"optimizer": "sgd", "lr": 0.013, "weight_decay": 5e-4, "batch": 256}
    default = space("salun").defaults({"labels": "agnostic"})
    assert hyperparameters(configs[0]) == default
    assert hyperparameters(configs[1]) == default | authors | {"new_labels": "redrawn"}
    for config in configs[2:]:
        assert config["lr"] <= 3e-3
        assert config["optimizer"] == "adam"
    assert told(tmp_path)[1].params == {}
    (tmp_path / "at once").mkdir()
    assert play(open_study(tmp_path / "at once", sampler, method="salun"), 10) == configs


def test_the_authors_own_configuration_is_not_tried_twice(tmp_path: Path) -> None:
    (own,) = space("salun").published({"labels": "agnostic"})
    configs = play(open_study(tmp_path, method="salun", start=[own]), 4)
    assert [config["optimizer"] for config in configs] == ["adam", "sgd", "adam", "adam"]


@pytest.mark.parametrize(
    ("wishes", "tried"),
    [({"fraction": 0.3}, True), ({"lr": [1e-5, 1e-3]}, False), ({"batch": 64}, False)],
)
def test_what_the_user_asks_for_goes_before_what_the_authors_published(
    tmp_path: Path, wishes: dict[str, Any], tried: bool
) -> None:
    configs = play(open_study(tmp_path, method="salun", **wishes), 2)
    assert (configs[1]["optimizer"] == "sgd") == tried
    if tried:
        assert configs[1]["fraction"] == 0.3


def test_a_trial_of_the_authors_is_found_again_in_a_table(tmp_path: Path) -> None:
    study = open_study(tmp_path, method="salun")
    first, second = play(study, 2)
    (tmp_path / "anew").mkdir()
    again = open_study(tmp_path / "anew", method="salun")
    for config, row in zip((first, second), study.rows(), strict=True):
        again.adopt(row, hyperparameters(config), {"gap/avg": 1.0})
    assert [again.config(number) for number in (0, 1)] == [first, second]


def test_a_table_of_an_earlier_version_lacks_what_was_added_since(tmp_path: Path) -> None:
    study = open_study(tmp_path, method="salun")
    values = hyperparameters(play(study, 3)[2])
    for added in ("optimizer", "weight_decay", "new_labels"):
        del values[added]
    old = {**values, "trial": 2, "seed": study.config(2)["seed"]}
    row = study.rows()[2] | {"trial_id": study.trial_id(old)}
    (tmp_path / "anew").mkdir()
    again = open_study(tmp_path / "anew", method="salun")
    again.adopt(row, values, {"gap/avg": 1.0})
    assert again.config(2) == old


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_stays_within_the_space_and_its_conditions(
    tmp_path: Path, sampler: str
) -> None:
    study = open_study(tmp_path, sampler, mixing=["mixblock", "mixup"], lr=[1e-5, 1e-3], omega=2.0)
    configs = play(study, 12)
    assert len({config["lr"] for config in configs}) > 6
    for config in configs:
        assert 1e-5 <= config["lr"] <= 1e-3
        assert config["omega"] == 2.0
        assert config["batch"] == 32
        assert ("lr_gen" in config) == (config["mixing"] == "mixblock")
    assert {config["mixing"] for config in configs} == {"mixblock", "mixup"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_seeds_propose_equally(tmp_path: Path, sampler: str) -> None:
    proposals = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        proposals.append(play(open_study(tmp_path / name, sampler, seed=3), 8))
    assert proposals[0] == proposals[1]


def test_tpe_comes_nearer_than_chance(tmp_path: Path) -> None:
    configs = play(open_study(tmp_path), 40)
    first, last = (sorted(config["lr"] for config in part) for part in (configs[1:7], configs[-7:]))
    assert last[3] < first[3] / 3


@pytest.mark.parametrize(
    ("state", "value", "expected"),
    [
        ("complete", 1.5, TrialState.COMPLETE),
        ("pruned", 1.5, TrialState.PRUNED),
        ("failed", 1.5, TrialState.FAIL),
        ("complete", float("nan"), TrialState.FAIL),
        ("pruned", float("nan"), TrialState.PRUNED),
    ],
)
def test_optuna_is_told_what_happened(
    tmp_path: Path, state: str, value: float, expected: TrialState
) -> None:
    study = open_study(tmp_path)
    study.ask()
    study.report(0, 1, {"gap/avg": 9.0})
    study.report(0, 2, {"gap/avg": value, "acc/val": 50.0})
    row = study.finish(0, state, seconds=3.0, error=None)
    (trial,) = told(tmp_path)
    assert trial.state == expected
    if expected is TrialState.COMPLETE:
        assert trial.value == value
    assert trial.intermediate_values[1] == 9.0
    assert row["epochs"] == 2
    assert row["acc/val"] == 50.0
    assert row["state"] == ("failed" if expected is TrialState.FAIL else state)


def test_a_trial_that_failed_before_its_first_epoch_has_a_row(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    config = study.ask()
    row = study.finish(0, "failed", seconds=0.0, error="the worker died")
    assert row["epochs"] == 0
    assert row["error"] == "the worker died"
    assert row["params/lr"] == config["lr"]
    assert [trial.state for trial in told(tmp_path)] == [TrialState.FAIL]


def test_rows_survive_the_process(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    play(study, 3)
    again = open_study(tmp_path)
    assert again.rows() == study.rows()
    assert [row["trial"] for row in again.rows()] == [0, 1, 2]
    assert len({row["trial_id"] for row in again.rows()}) == 3


def test_going_on_proposes_something_new(tmp_path: Path) -> None:
    first = play(open_study(tmp_path, "random"), 4)
    second = play(open_study(tmp_path, "random"), 4)
    assert [config["trial"] for config in second] == [4, 5, 6, 7]
    assert not {config["lr"] for config in first} & {config["lr"] for config in second}


def test_an_interrupted_trial_comes_first_as_it_was(tmp_path: Path) -> None:
    interrupted = open_study(tmp_path)
    play(interrupted, 2)
    config = interrupted.ask()
    interrupted.report(2, 1, {"gap/avg": 5.0})
    again = open_study(tmp_path)
    assert again.ask() == config
    again.report(2, 1, {"gap/avg": 5.0})
    again.report(2, 2, {"gap/avg": 4.0})
    row = again.finish(2, "complete", seconds=1.0, error=None)
    assert row["gap/avg"] == 4.0
    assert again.ask()["trial"] == 3
    assert [trial.state for trial in told(tmp_path)[:3]] == [TrialState.COMPLETE] * 3


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_that_was_cut_off_proposes_as_if_it_had_not_been(
    tmp_path: Path, sampler: str
) -> None:
    folders = tmp_path / "whole", tmp_path / "cut"
    for folder in folders:
        folder.mkdir()
    whole = play(open_study(folders[0], sampler), 9)
    cut = play(open_study(folders[1], sampler), 6)
    open_study(folders[1], sampler).ask()  # dies in a trial
    again = open_study(folders[1], sampler)
    assert cut + play(again, 3) == whole


def test_an_end_that_was_only_half_told_is_told(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    play(study, 1)
    study.ask()
    study.report(1, 1, {"gap/avg": 5.0})
    study._end = lambda key, row: None  # type: ignore[method-assign] # dies before
    study.finish(1, "complete", seconds=1.0, error=None)
    again = open_study(tmp_path)
    assert [row["trial"] for row in again.rows()] == [0, 1]
    assert again.ask()["trial"] == 2
    assert [trial.state for trial in told(tmp_path)[:2]] == [TrialState.COMPLETE] * 2


def test_what_a_database_kept_unconfirmed_is_not_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(tmp_path)
    create = study._storage.create_new_trial
    calls: list[int] = []

    def cut_off(*arguments: Any) -> int:
        calls.append(create(*arguments))
        raise optuna.exceptions.StorageInternalError("the server went away")

    monkeypatch.setattr(study._storage, "create_new_trial", cut_off)
    monkeypatch.setattr(study, "_lock", SimpleNamespace(check=int, waiting=str))
    monkeypatch.setattr("mixunlearn.patience.RETRY_S", 0.0)
    assert study.ask()["trial"] == 0
    assert len(calls) == len(told(tmp_path)) == 1


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[StudyLock]:
    """The lock of a driver, whose study is in the folder `study`."""
    with StudyLock("study", tmp_path / "study", None, print, lambda: None) as lock:
        yield lock


def test_a_record_that_was_removed_is_not_waited_for(
    tmp_path: Path, lock: StudyLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixunlearn.patience.time.sleep", lambda _: pytest.fail("it waited"))
    folder, table = tmp_path / "study", tmp_path / "study" / "trials.parquet"
    study = open_study(folder, lock=lock, table=table)
    play(study, 2)
    (folder / "study.db").unlink()
    with pytest.raises(CorruptError, match=r"is gone from .*study\.db, and no table of it is left"):
        study.ask()
    write_trials(study.rows(), table)
    remedy = r"still has 2 trials: `mixunlearn sync study --from-table`"
    for _ in range(2):
        with pytest.raises(CorruptError, match=remedy):
            study.ask()
    # The same command again does not start another study under the same name.
    with pytest.raises(CorruptError, match=remedy):
        open_study(folder, lock=lock, table=table)
    assert not (folder / "study.db").exists()


def test_a_folder_that_is_away_is_waited_for(
    tmp_path: Path,
    lock: StudyLock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, aside = tmp_path / "study", tmp_path / "aside"
    study = open_study(folder, lock=lock, table=folder / "trials.parquet")
    play(study, 1)
    tries: list[float] = []

    def pause(seconds: float) -> None:
        tries.append(seconds)
        if len(tries) == 3:
            aside.rename(folder)

    monkeypatch.setattr("mixunlearn.patience.time.sleep", pause)
    folder.rename(aside)
    play(study, 1)
    assert len(tries) == 3
    said = capsys.readouterr().out
    assert said.count("waiting for it") == 1
    assert [row["trial"] for row in open_study(folder).rows()] == [0, 1]


@pytest.mark.parametrize("kind", ["sqlite:///{}/study.db", "journal:///{}/study.journal"])
def test_reading_makes_no_record(kind: str, tmp_path: Path) -> None:
    address = kind.format(tmp_path)
    with pytest.raises(MissingError, match=r"has no record in .*: run its `mixunlearn sweep`"):
        open_record(address, "study", create=False)
    assert list(tmp_path.iterdir()) == []
    open_record(address, "another")
    with pytest.raises(MissingError):
        open_record(address, "study", create=False)
    open_record(address, "another", create=False)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_lost_record_is_made_anew_from_the_table(tmp_path: Path, sampler: str) -> None:
    table = tmp_path / "trials.parquet"
    wishes: dict[str, Any] = {"mixing": ["mixblock", "mixup"], "lr": [1e-5, 1e-3]}
    study = open_study(tmp_path, sampler, **wishes)
    configs = play(study, 6)
    for number, state in ((6, "failed"), (7, "pruned")):
        assert study.ask()["trial"] == number
        study.report(number, 1, {"gap/avg": 7.0, "acc/val": 50.0})
        study.finish(number, state, seconds=2.0, error="a reason" * (state == "failed") or None)
    running = study.ask()
    rows = study.rows()
    write_trials(rows, table)
    (tmp_path / "study.db").unlink()
    for expected in (8, 0):  # again changes nothing
        assert refill(open_study(tmp_path, sampler, **wishes), table) == expected
    again = open_study(tmp_path, sampler, **wishes)
    assert [known(row) for row in again.rows()] == [known(row) for row in rows]
    assert [again.config(number) for number in range(6)] == configs
    if sampler != "cmaes":  # it depends on when trials began, which no table has
        assert again.ask() == running


def test_a_trial_between_those_of_the_table_gets_its_number_again(tmp_path: Path) -> None:
    table = tmp_path / "trials.parquet"
    study = open_study(tmp_path, "random")
    configs = [study.ask() for _ in range(3)]
    for number in (0, 2):
        study.report(number, 1, {"gap/avg": 1.0})
        study.finish(number, "complete", seconds=1.0, error=None)
    write_trials(study.rows(), table)
    (tmp_path / "study.db").unlink()
    refill(open_study(tmp_path, "random"), table)
    again = open_study(tmp_path, "random")
    assert again.ask() == configs[1]
    assert again.ask()["trial"] == 3


def test_a_table_of_another_study_or_a_damaged_one_makes_no_record(tmp_path: Path) -> None:
    table = tmp_path / "trials.parquet"
    study = open_study(tmp_path)
    play(study, 1)
    write_trials([{**row, "params/lr": 5e-4} for row in study.rows()], table)
    (tmp_path / "study.db").unlink()
    with pytest.raises(MixUnlearnError, match=r"trial 0 of .* is not from the study study"):
        refill(open_study(tmp_path), table)
    assert open_study(tmp_path).rows() == []
    table.write_bytes(b"no table")
    with pytest.raises(CorruptError, match="is damaged"):
        refill(open_study(tmp_path), table)


def known(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a row is not null: a table has all columns."""
    return {name: value for name, value in row.items() if value is not None}


def test_trials_that_failed_are_tried_again_as_they_were(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    play(study, 1)
    config = study.ask()
    study.finish(1, "failed", seconds=1.0, error="the worker died")
    play(study, 1)
    assert study.retry_failed() == 1
    again = open_study(tmp_path)  # dies before the result is recorded
    assert [row["trial"] for row in again.rows()] == [0, 2]
    assert again.ask() == config
    again.report(1, 1, {"gap/avg": 2.0})
    again.finish(1, "complete", seconds=1.0, error=None)
    assert [row["state"] for row in open_study(tmp_path).rows()] == ["complete"] * 3
    assert open_study(tmp_path).retry_failed() == 0
    assert again.ask()["trial"] == 3


def test_a_journal_is_as_good_a_record(tmp_path: Path) -> None:
    def journal() -> Study:
        return Study(
            name="study",
            storage=f"journal:///{tmp_path / 'study.journal'}",
            method="mixunlearn",
            space=space(),
            facts={"labels": "agnostic"},
            sampler="tpe",
            seed=0,
            objective="gap/avg",
        )

    first = play(journal(), 3)
    assert first == play(open_study(tmp_path), 3)
    assert [row["trial"] for row in journal().rows()] == [0, 1, 2]


def test_a_damaged_record_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(MixUnlearnError, match=r"cannot be opened: file is not a database"):
        open_study(tmp_path)


def test_a_trial_that_was_told_nothing_is_closed(tmp_path: Path) -> None:
    open_study(tmp_path)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.load_study(study_name="study", storage=storage).ask()
    again = open_study(tmp_path)
    assert hyperparameters(again.ask()) == space().defaults({"labels": "agnostic"})
    assert [trial.state for trial in told(tmp_path)] == [TrialState.FAIL, TrialState.RUNNING]
    assert again.rows() == []


def test_histories_are_by_epoch(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.ask()
    for epoch in range(1, 12):
        study.report(0, epoch, {"gap/avg": float(epoch)})
    assert list(study.history(0)) == list(range(1, 12))
    assert study.history(0)[11] == {"gap/avg": 11.0}


def test_the_searcher_only_asks(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    searcher = StudySearcher(study)
    config = searcher.suggest("some-trial")
    assert config
    searcher.on_trial_complete("some-trial", {"gap/avg": 1.0})
    assert config["trial"] == 0
    # A worker may use a checkpoint only if the record has its epochs.
    assert config["recorded"] == 0
    study.report(0, 1, {"gap/avg": 1.0})
    assert StudySearcher(open_study(tmp_path)).suggest("again") == {**config, "recorded": 1}
    assert [trial.state for trial in told(tmp_path)] == [TrialState.RUNNING]


class TestShares:
    """In `play`, only the learning rate decides."""

    def test_what_decides_has_the_largest_share_on_average(self, tmp_path: Path) -> None:
        study = open_study(tmp_path, "random")
        play(study, 40)
        draws = study.shares()
        assert len(draws) == RESAMPLES
        assert all(sum(draw.values()) == pytest.approx(1) for draw in draws)
        means = {name: np.mean([draw[name] for draw in draws]) for name in draws[0]}
        lr, second = sorted(means.values(), reverse=True)[:2]
        assert means["lr"] == lr > 2 * second
        assert draws == open_study(tmp_path, "random").shares()

    def test_too_few_trials_say_nothing(self, tmp_path: Path) -> None:
        study = open_study(tmp_path, "random")
        play(study, ENOUGH - 1)
        number = int(study.ask()["trial"])
        study.finish(number, "failed", seconds=1.0, error="raised")
        assert study.shares() == []


def test_trials_are_known_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for _ in range(3):
        study.ask()
    for number in (1, 0):
        study.report(number, 1, {"gap/avg": 1.0})
        study.finish(number, "complete", seconds=1.0, error=None)
    assert list(study.ended()) == [1, 0]
    assert list(open_study(tmp_path).ended()) == [1, 0]


def test_an_experiment_may_name_the_samplers_that_there_are() -> None:
    assert get_args(Search.model_fields["sampler"].annotation) == tuple(sampling.SAMPLERS)


def test_an_unknown_sampler_is_an_error_not_another_one() -> None:
    with pytest.raises(KeyError, match="bayes"):
        sampling.make_sampler("bayes", 0)
