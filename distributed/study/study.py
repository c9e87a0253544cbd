"""The study: the record of what was tried in Optuna's storage, and what is tried next.

The storage is the one source of truth: every trial's configuration, epochs and outcome are in it;
trials.parquet and MLflow are derived from it. Ray Tune's own state is thrown away.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from ray.tune.search import Searcher
from sqlalchemy.exc import SQLAlchemyError

from distributed.cluster.version import code_version
from distributed.runtime.addresses import one_line
from distributed.search.unsaved import Unsaved
from distributed.study.lock import Driver
from mixunlearn.errors import MixUnlearnError
from mixunlearn.signature import seed_for, signature
from search_spaces import Choice, Float, Int, Space
from search_spaces.space import AnyParameter, Value

CONFIG, CODE, EPOCH, ROW, AT = "config", "code", "epoch:", "row", "at"
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
ENOUGH, RESAMPLES, RESAMPLED = 8, 20, 300  # trials; draws, and trials in each: see `Study.shares`
BEST = 5  # trials at least that parameters are to explain
STARTUP_TRIALS = 6  # random ones before TPE, CMA-ES or GP take over: budgets here are small
JOURNAL = "journal:///"
PATIENCE_S, RETRY_S = 600.0, 1.0  # how long a database may be away, and how often it is tried
FULL = ("disk is full", "no space left", "quota exceeded", "disk full")

Metrics = Mapping[str, float | None]
Answer = TypeVar("Answer")


@dataclass(kw_only=True)
class Attempt:
    """One run of a trial; a trial that failed may have several.

    Args:
        key: of Optuna's trial that records it.
        config: hyperparameters, `trial` and `seed`.
        drawn: those of the hyperparameters that vary, as Optuna has them.
        distributions: they were drawn from.
        began: when it was proposed.
        ended: when its end was recorded.
        history: metrics by epoch.
        times: when they were recorded, by epoch, in ms since 1970.
        row: its outcome, as in trials.parquet; `None` while it runs.
        ended_ms: when that was recorded, in ms since 1970.
        code: that proposed it, empty if it is not known.
    """

    key: int
    config: dict[str, Value]
    drawn: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    began: datetime
    ended: datetime | None = None
    history: dict[int, Metrics] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    row: dict[str, Any] | None = None
    ended_ms: int = 0
    code: str = ""

    @property
    def number(self) -> int:
        """Return the trial's number, which all its attempts share."""
        return int(self.config["trial"])


class Study:
    """The trials of one study.

    Args:
        name: of the study; also the first column of its rows.
        storage: address of the record: Optuna's for a database, `journal:///PATH` for a file.
        method: what is tuned, for the rows.
        space: what may vary.
        facts: what conditions of the space may name beside parameters.
        sampler: "tpe", "random", "cmaes" or "gp".
        seed: of the sampler and of the trials.
        objective: the metric to minimise.
        driver: that holds the study for us; asked before every write.

    Raises:
        MixUnlearnError: the storage does not answer or is damaged.
    """

    def __init__(
        self,
        *,
        name: str,
        storage: str,
        method: str,
        space: Space,
        facts: Mapping[str, Value],
        sampler: str,
        seed: int,
        objective: str,
        start: Sequence[Mapping[str, Value]] = (),
        driver: Driver | None = None,
    ) -> None:
        self.name, self.method, self.space = name, method, space
        self.seed, self.objective = seed, objective
        self._driver = driver
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage, self._key = open_record(storage, name)
        self._ended: list[Attempt] = []  # in that order, also those before a trial's last
        self._attempts = self._read()
        self._waiting = [attempt for attempt in self._attempts.values() if attempt.row is None]
        self._proposals = Proposals(space, facts, sampler, seed, start)
        self._proposals.recall(self._attempts.values(), objective)

    def close(self) -> None:
        """Give the connections to the storage back."""
        self._storage.remove_session()
        engine = getattr(getattr(self._storage, "_backend", None), "engine", None)
        if engine is not None:
            engine.dispose()

    def rows(self) -> list[dict[str, Any]]:
        """Return the finished trials, as in trials.parquet, by number."""
        return [attempt.row for attempt in self._attempts.values() if attempt.row is not None]

    def history(self, number: int) -> dict[int, Metrics]:
        """Return a trial's metrics by epoch."""
        return dict(sorted(self._attempts[number].history.items()))

    def time_ms(self, number: int, epoch: int) -> int | None:
        """Return when an epoch was recorded, in ms since 1970; `None` if that is not known."""
        return self._attempts[number].times.get(epoch)

    def ended(self) -> dict[int, datetime]:
        """Return when each finished trial ended, by number, in the order in which they did."""
        found = {a.number: a.ended for a in self._attempts.values() if a.row and a.ended}
        return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))

    def outcomes(self, start: int = 0) -> list[tuple[int, float | None]]:
        """Return when the attempts of all trials ended, in that order, and with which objective.

        Args:
            start: how many of them to leave out.

        Returns:
            The time in ms since 1970, and the objective; `None` if it failed.
        """
        ended = self._ended[start:]
        return [(attempt.ended_ms, _value(attempt, self.objective)) for attempt in ended]

    def code(self, number: int) -> str:
        """Return the code that proposed a trial; empty if the record does not tell."""
        return self._attempts[number].code

    def config(self, number: int) -> dict[str, Value]:
        """Return a trial's configuration: hyperparameters, `trial` and `seed`."""
        return dict(self._attempts[number].config)

    def trial_id(self, config: Mapping[str, Value]) -> str:
        """Return the signature of a trial: eight hex digits of study and configuration."""
        return signature([self.name, dict(config)])

    def retry_failed(self) -> int:
        """Make failed trials run again under their number and seed; return how many."""
        failed = [attempt for attempt in self._attempts.values() if _failed(attempt)]
        for last in failed:
            self._waiting.append(self._begin(last.config, last.drawn, last.distributions))
        self._waiting.sort(key=lambda attempt: attempt.number)
        return len(failed)

    def shares(self) -> list[dict[str, float]]:
        """Return how much of the objective each parameter explains, for resamples of the trials.

        PED-ANOVA (Watanabe, Bansal, Hutter, IJCAI 2023, arXiv 2304.10255): what sets the best tenth
        of the trials, but at least five, apart from all. A trial that was stopped early counts
        with its last value.

        Returns:
            Shares that sum to 1, once for each of `RESAMPLES` draws with replacement, at most
            `RESAMPLED` trials each; nothing where fewer than `ENOUGH` trials have a value.
        """
        attempts = self._attempts.values()
        known = [each for each in attempts if _value(each, self.objective) is not None]
        if len(known) < ENOUGH:
            return []
        rng = np.random.default_rng(seed_for("importance", self.seed))
        count = min(len(known), RESAMPLED)
        draws = (rng.choice(len(known), count) for _ in range(RESAMPLES))
        return [_importances([known[i] for i in draw], self.objective) for draw in draws]

    def ask(self) -> dict[str, Value]:
        """Return the next configuration: hyperparameters, `trial` and `seed`.

        A trial that was interrupted comes first, under its old number and seed.
        """
        if self._waiting:
            return dict(self._waiting.pop(0).config)
        number = len(self._attempts)
        parameters, proposal = self._proposals.propose(number)
        config = {**parameters, "trial": number, "seed": seed_for("trial", self.seed, number)}
        self._begin(config, proposal.params, proposal.distributions)
        return config

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record a trial's metrics after an epoch, numbered from 1."""
        attempt, plain, now = self._attempts[number], _plain(metrics), time.time_ns() // 1_000_000
        # A trial that went on from its last checkpoint may report an epoch once more.
        again = epoch in attempt.history
        self._write(
            lambda: self._storage.set_trial_user_attr(
                attempt.key, f"{EPOCH}{epoch}", {**plain, AT: now}
            )
        )
        value = plain.get(self.objective)
        if value is not None and not again:
            # Not read by us: for the dashboards that draw an Optuna study.
            self._write(
                lambda: self._storage.set_trial_intermediate_value(attempt.key, epoch, value)
            )
        attempt.history[epoch], attempt.times[epoch] = plain, now

    def finish(
        self, number: int, state: str, *, seconds: float, error: str | None
    ) -> dict[str, Any]:
        """Record a trial's end and return its row.

        Args:
            number: of the trial.
            state: "complete", "pruned" or "failed".
            seconds: it took, evaluation included.
            error: why it failed or was stopped, in one line.
        """
        attempt = self._attempts[number]
        epochs = max(attempt.history, default=0)
        metrics = attempt.history.get(epochs, {})
        if state == "complete" and metrics.get(self.objective) is None:
            state, error = "failed", error or f"{self.objective} is not a number"
        config = attempt.config
        row = {
            "study": self.name,
            "trial": number,
            "trial_id": self.trial_id(config),
            "method": self.method,
            "state": state,
            "epochs": epochs,
            "seconds": seconds,
            **{f"params/{name}": config[name] for name in config if name in self.space},
            **metrics,
            "error": error,
        }
        # The order of these times is kept, whatever the clock does.
        last = self._ended[-1].ended_ms if self._ended else 0
        now = max(time.time_ns() // 1_000_000, last + 1)
        self._write(lambda: self._storage.set_trial_user_attr(attempt.key, ROW, {**row, AT: now}))
        self._end(attempt.key, row)
        attempt.row, attempt.ended, attempt.ended_ms = row, datetime.now(), now
        self._ended.append(attempt)
        self._proposals.tell(attempt, self.objective)
        return row

    def _begin(
        self,
        config: Mapping[str, Value],
        drawn: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
    ) -> Attempt:
        """Record a new attempt, whole or not at all."""
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(drawn),
            distributions=dict(distributions),
            user_attrs={CONFIG: dict(config), CODE: code_version()},
        )

        def write() -> FrozenTrial:
            # A database may have kept what it could not confirm before it went away.
            kept = self._unknown(template)
            if kept is None:
                self._storage.create_new_trial(self._key, template)
                kept = self._unknown(template)
            assert kept, "what was written is there"
            return kept

        attempt = _attempt(self._write(write))
        self._attempts[attempt.number] = attempt
        return attempt

    def _unknown(self, template: FrozenTrial) -> FrozenTrial | None:
        """Return the running trial that the storage has and we do not know, like a template."""
        known = {attempt.key for attempt in self._attempts.values()}
        found = self._storage.get_all_trials(
            self._key, deepcopy=False, states=(TrialState.RUNNING,)
        )
        like = [trial for trial in found if trial.user_attrs == template.user_attrs]
        return next((trial for trial in like if trial._trial_id not in known), None)

    def _end(self, key: int, row: Mapping[str, Any]) -> None:
        """Tell the storage the state of an attempt whose row it has."""
        value = row.get(self.objective) if row["state"] != "failed" else None
        values = None if value is None else [value]

        def write() -> None:
            with suppress(UpdateFinishedTrialError):  # told before the database went away
                self._storage.set_trial_state_values(key, STATES[row["state"]], values)

        self._write(write)

    def _read(self) -> dict[int, Attempt]:
        """Return the latest attempt of each trial, by number; mend what an earlier driver left."""
        attempts: dict[int, Attempt] = {}
        for frozen in self._storage.get_all_trials(self._key, deepcopy=False):
            if CONFIG not in frozen.user_attrs:
                if not frozen.state.is_finished():
                    self._storage.set_trial_state_values(frozen._trial_id, TrialState.FAIL)
                continue
            attempt = _attempt(frozen)
            if attempt.row is not None and not frozen.state.is_finished():
                self._end(attempt.key, attempt.row)
            attempts[attempt.number] = attempt
            self._ended += [attempt] if attempt.row is not None else []
        self._ended.sort(key=lambda attempt: attempt.ended_ms)
        return dict(sorted(attempts.items()))

    def _write(self, action: Callable[[], Answer]) -> Answer:
        """Carry out a write that may be repeated; wait for a database that went away.

        Raises:
            MixUnlearnError: the disk is full, or the database stayed away.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self._driver:
                    self._driver.hold()
                return action()
            except (StorageInternalError, SQLAlchemyError, OSError) as error:
                reason = one_line(_cause(error))
                full = any(words in reason.lower() for words in FULL)
                if full or self._driver is None or time.monotonic() > deadline:
                    what = f"the record of the study {self.name} cannot be written: {reason}"
                    raise MixUnlearnError(f"{what}; mend it, the same command goes on") from error
                self._driver.waiting(f"the database of the study: {reason}; waiting for it")
            time.sleep(RETRY_S)


class Proposals:
    """Proposes parameters: one of Optuna's samplers on a copy of the study in memory.

    A proposal follows from the seed, its number and the trials before it: each has a sampler of
    its own seed. So a study that was cut off goes on as if it had not been. The copy also keeps
    CMA-ES from unpickling what it finds in a database.

    Args:
        space: what may vary.
        facts: what conditions of the space may name beside parameters.
        sampler: "tpe", "random", "cmaes" or "gp".
        seed: of the sampler.
        start: configurations, or parts of some, to try after the default one.
    """

    def __init__(
        self,
        space: Space,
        facts: Mapping[str, Value],
        sampler: str,
        seed: int,
        start: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        self.space, self.facts, self.sampler, self.seed = space, facts, sampler, seed
        self._first = [space.defaults(facts), *start]
        self._study = optuna.create_study(direction="minimize")
        self._trials: dict[int, Trial] = {}

    def propose(self, number: int) -> tuple[dict[str, Value], Trial]:
        """Return parameters for the trial with this number, and what Optuna knows of them.

        Number 0 is the default configuration; those to start with follow.
        """
        if number < len(self._first):
            self._study.enqueue_trial(self._varying(self._first[number]))
        seed = seed_for("sampler", self.seed, number) % 2**32
        self._study.sampler = make_sampler(self.sampler, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask()
            parameters = suggest(trial, self.space, self.facts)
        self._trials[number] = trial
        return parameters, trial

    def tell(self, attempt: Attempt, objective: str) -> None:
        """Take down how a proposed trial ended; further attempts of it change nothing."""
        if attempt.row is None or attempt.number not in self._trials:
            return
        trial = self._trials.pop(attempt.number)
        for epoch, found in _curve(attempt, objective).items():
            trial.report(found, epoch)
        state, value = STATES[attempt.row["state"]], attempt.row.get(objective)
        self._study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)

    def recall(self, attempts: Iterable[Attempt], objective: str) -> None:
        """Take over the trials of earlier sweeps.

        The state of CMA-ES follows from the order in which trials were proposed and ended, so it
        proposes them once more; the other samplers only look at what came of them.
        """
        known = list(attempts)
        if self.sampler == "cmaes":
            self._replay(known, objective)
            return
        for attempt in known:
            self._add(attempt, objective)

    def _replay(self, attempts: list[Attempt], objective: str) -> None:
        events = [(attempt.began, attempt) for attempt in attempts]
        events += [(attempt.ended, attempt) for attempt in attempts if attempt.ended]
        for _, attempt in sorted(events, key=lambda event: event[0]):
            if attempt.number in self._trials:  # proposed before, so this is its end
                self.tell(attempt, objective)
            else:
                self.propose(attempt.number)

    def _add(self, attempt: Attempt, objective: str) -> None:
        # In the order of the space, as they were drawn: samplers draw in the order they find.
        names = [name for name in self.space if name in attempt.drawn]
        frozen = create_trial(
            state=TrialState.RUNNING,
            params={name: attempt.drawn[name] for name in names},
            distributions={name: attempt.distributions[name] for name in names},
        )
        self._study.sampler = RandomSampler()  # `Trial` would have another one draw
        key = self._study._storage.create_new_trial(self._study._study_id, frozen)
        self._trials[attempt.number] = Trial(self._study, key)
        self.tell(attempt, objective)

    def _varying(self, parameters: Mapping[str, Value]) -> dict[str, Value]:
        """Return the parameters that Optuna knows of: the others are constants."""
        return {
            name: value for name, value in parameters.items() if constant(self.space[name]) is None
        }


class StudySearcher(Unsaved, Searcher):
    """Lets Ray Tune ask the study; what comes back is told by the sweep's callback.

    The callback sees a trial's error and every epoch, the searcher does not.

    Args:
        study: to ask.
        may_start: whether new trials may start: not once a stop was asked for.
    """

    def __init__(self, study: Study, may_start: Callable[[], bool] = lambda: True) -> None:
        super().__init__(metric=study.objective, mode="min")
        self.study, self.may_start = study, may_start

    def suggest(self, trial_id: str) -> dict[str, Value] | None:
        """Return the next configuration; `None`: none for now."""
        return self.study.ask() if self.may_start() else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the callback tells the study."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is already on the disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study is already on the disk."""


def open_record(address: str, name: str) -> tuple[BaseStorage, int]:
    """Return Optuna's storage and the study's key in it; both are made when missing.

    Args:
        address: of a SQL database, or `journal:///PATH`.
        name: of the study.

    Raises:
        MixUnlearnError: it does not answer, or is damaged.
    """
    try:
        study = optuna.create_study(
            study_name=name, storage=_storage(address), direction="minimize", load_if_exists=True
        )
    except (StorageInternalError, SQLAlchemyError, OSError, ValueError, KeyError) as error:
        reason = one_line(_cause(error))
        what = f"the record of the study {name} cannot be opened: {reason}"
        raise MixUnlearnError(f"{what}; check storage.study and free space") from error
    return study._storage, study._study_id


def _storage(address: str) -> BaseStorage:
    if address.startswith(JOURNAL):
        path = address.removeprefix(JOURNAL)
        # This lock needs no symbolic links, which network file systems may lack.
        backend = JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))
        return get_storage(JournalStorage(backend))
    if address.startswith("sqlite"):
        return get_storage(RDBStorage(address, engine_kwargs={"connect_args": {"timeout": 60}}))
    # A connection that the server closed is noticed before it is used.
    return get_storage(RDBStorage(address, engine_kwargs={"pool_pre_ping": True}))


def _cause(error: BaseException) -> Exception:
    """Return what the database or the disk said: Optuna and SQLAlchemy wrap it."""
    found = error
    while (inner := getattr(found, "orig", None) or found.__cause__) is not None:
        found = inner
    return found if isinstance(found, Exception) else RuntimeError(str(found))


def _attempt(frozen: FrozenTrial) -> Attempt:
    attributes, row = frozen.user_attrs, frozen.user_attrs.get(ROW)
    ended = frozen.datetime_complete
    found = {int(key[len(EPOCH) :]): attributes[key] for key in attributes if key.startswith(EPOCH)}
    return Attempt(
        key=frozen._trial_id,
        config=dict(attributes[CONFIG]),
        drawn=frozen.params,
        distributions=frozen.distributions,
        began=frozen.datetime_start or datetime.min,
        ended=ended,
        history={
            epoch: {name: value for name, value in metrics.items() if name != AT}
            for epoch, metrics in found.items()
        },
        times={epoch: metrics[AT] for epoch, metrics in found.items() if AT in metrics},
        row=row and {name: value for name, value in row.items() if name != AT},
        ended_ms=(row or {}).get(AT) or (int(ended.timestamp() * 1000) if ended else 0),
        code=attributes.get(CODE, ""),
    )


def _failed(attempt: Attempt) -> bool:
    return attempt.row is not None and attempt.row["state"] == "failed"


def _curve(attempt: Attempt, objective: str) -> dict[int, float]:
    """Return the objective by epoch, where it is a number."""
    values = {epoch: metrics.get(objective) for epoch, metrics in attempt.history.items()}
    return {epoch: value for epoch, value in values.items() if value is not None}


def _value(attempt: Attempt, objective: str) -> float | None:
    """Return how a trial ended, in the objective; `None` if it failed or still runs."""
    if attempt.row is None or attempt.row["state"] == "failed":
        return None
    value: float | None = attempt.row.get(objective)
    return value


def _importances(attempts: Sequence[Attempt], objective: str) -> dict[str, float]:
    """Return PED-ANOVA's importances of the parameters, normalised."""
    study = optuna.create_study(direction="minimize")
    study.add_trials(
        create_trial(
            params=dict(attempt.drawn),
            distributions=dict(attempt.distributions),
            value=_value(attempt, objective),
        )
        for attempt in attempts
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of is told beside the figure
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, BEST / len(attempts)))
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def make_sampler(name: str, seed: int) -> BaseSampler:
    """Return one of Optuna's samplers, by the name used in experiments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "random":
                return RandomSampler(seed=seed)
            case "cmaes":
                return CmaEsSampler(
                    seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
                )
            case "gp":
                return GPSampler(
                    seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
                )
        # The liar keeps trials that run at the same time apart.
        return TPESampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,
            group=True,
            constant_liar=True,
        )


def suggest(trial: Trial, space: Space, facts: Mapping[str, Value]) -> dict[str, Value]:
    """Return a configuration: constants as they are, the rest as Optuna suggests.

    The one place where our parameters become Optuna's distributions.
    """
    values = dict(facts)
    for name, parameter in space.items():
        if not space.active(name, values):
            continue
        fixed = constant(parameter)
        values[name] = _draw(trial, name, parameter) if fixed is None else fixed
    return {name: value for name, value in values.items() if name in space}


def _draw(trial: Trial, name: str, parameter: AnyParameter) -> Value:
    match parameter:
        case Float(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case Int(low=low, high=high, log=log):
            return trial.suggest_int(name, int(low), int(high), log=log)
        case Choice(options=options):
            value: Value = trial.suggest_categorical(name, options)  # type: ignore[assignment]
            return value


def constant(parameter: AnyParameter) -> Value | None:
    """Return the value of a parameter that does not vary, else `None`."""
    if parameter.held:
        return parameter.default
    if isinstance(parameter, Choice):
        return parameter.options[0] if len(parameter.options) == 1 else None
    return parameter.low if parameter.low == parameter.high else None


def _plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics as JSON has them: no NaN, no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
