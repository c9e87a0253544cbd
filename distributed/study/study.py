"""The study: records in Optuna's storage what was tried, and proposes what is tried next.

The storage is the only source of truth: every trial's configuration, epochs and outcome are in it;
trials.parquet and MLflow are derived from it. Ray Tune's own state is discarded.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from distributed.cluster.version import code_version
from distributed.study.attempt import (
    AT,
    CODE,
    CONFIG,
    ENDS,
    EPOCH,
    ROW,
    STATES,
    Attempt,
    Metrics,
    attempt_of,
    objective_value,
)
from distributed.study.importance import ENOUGH, RESAMPLED, RESAMPLES, explained_shares
from distributed.study.lock import StudyLock
from distributed.study.sampling import Sampling
from distributed.study.storage import ERRORS, lost_record, open_record, reason_of, record_file
from mixunlearn.errors import MixUnlearnError
from mixunlearn.patience import Answer, disk_full, patiently
from mixunlearn.plain import plain
from mixunlearn.resume import Event, State, state_of
from mixunlearn.signature import seed_for, signature
from search_spaces import Space
from search_spaces.space import Value


class Study:
    """The trials of one study.

    Args:
        name: name of the study; also the first column of its rows.
        storage: address of the record: a database as for Optuna, or `journal:///PATH`.
        method: name of the method, for the rows.
        space: the search space.
        facts: values that conditions of the space may use in addition to hyperparameters.
        sampler: "tpe", "random", "cmaes" or "gp".
        seed: seed of the sampler and of the trials.
        objective: the metric to minimise.
        start: whole or partial configurations to try after the default one.
        lock: the study lock of this process, checked before every write; `None`: the study is
            only read.
        create: whether to create a record if there is none.
        table: the trials table of the study; if it has trials and there is no record, the record
            was lost, and none is created.

    Raises:
        MissingError: there is no record, and never was one.
        CorruptError: the record was lost.
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
        lock: StudyLock | None = None,
        create: bool = True,
        table: Path | None = None,
    ) -> None:
        self.name, self.method, self.space = name, method, space
        self.seed, self.objective = seed, objective
        self._lock, self._file, self._table = lock, record_file(storage), table
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage, self._key = open_record(storage, name, create=create, table=table)
        self._ended: list[Attempt] = []  # all attempts of each trial, by the time of their end
        self._attempts = self._read()
        self._waiting = [attempt for attempt in self._attempts.values() if not attempt.state.ended]
        self._sampling = Sampling(space, facts, sampler, seed, start)
        self._sampling.resume(self._attempts.values(), objective)

    def close(self) -> None:
        """Close the connections to the storage."""
        self._storage.remove_session()
        # Behind Optuna's cache; a journal has no engine.
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
        """Return when an epoch was recorded, in ms since 1970; `None` if it is unknown."""
        return self._attempts[number].times.get(epoch)

    def ended(self) -> dict[int, datetime]:
        """Return when each finished trial ended, by number, in the order of these times."""
        found = {a.number: a.ended for a in self._attempts.values() if a.row and a.ended}
        return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))

    def outcomes(self, start: int = 0) -> list[tuple[int, float | None]]:
        """Return the ends of all attempts, in the order of time.

        Args:
            start: number of attempts to skip.

        Returns:
            For each attempt, the time of its end in ms since 1970, and its objective; `None` if it
            failed.
        """
        ended = self._ended[start:]
        return [(attempt.ended_ms, objective_value(attempt, self.objective)) for attempt in ended]

    def code(self, number: int) -> str:
        """Return the version of the code that proposed a trial; empty if it is unknown."""
        return self._attempts[number].code

    def config(self, number: int) -> dict[str, Value]:
        """Return a trial's configuration: hyperparameters, `trial` and `seed`."""
        return dict(self._attempts[number].config)

    def trial_id(self, config: Mapping[str, Value]) -> str:
        """Return the signature of a trial: eight hex digits from study and configuration."""
        return signature([self.name, dict(config)])

    def retry_failed(self) -> int:
        """Queue failed trials again, with their number and seed; return how many there are."""
        failed = [attempt for attempt in self._attempts.values() if attempt.state is State.FAILED]
        for last in failed:
            last.happen(Event.RETRY)
            # A new Optuna trial: Optuna refuses to change one that has ended.
            self._waiting.append(self._begin(last.config, last.hyperparameters, last.distributions))
        # By number, also among interrupted trials: the order must not depend on the restart.
        self._waiting.sort(key=lambda attempt: attempt.number)
        return len(failed)

    def shares(self) -> list[dict[str, float]]:
        """Return how much of the objective each hyperparameter explains, for bootstrap samples.

        PED-ANOVA (Watanabe, Bansal, Hutter, IJCAI 2023, arXiv 2304.10255): what distinguishes the
        best tenth of the trials (at least five) from all trials. A trial that was stopped early
        counts with its last value.

        Returns:
            Shares that sum to 1, for each of `RESAMPLES` draws with replacement, of at most
            `RESAMPLED` trials each; empty if fewer than `ENOUGH` trials have a value.
        """
        # What was not drawn, as the authors' own configuration, tells nothing about the range.
        drawn = [each for each in self._attempts.values() if each.distributions]
        known = [each for each in drawn if objective_value(each, self.objective) is not None]
        if len(known) < ENOUGH:
            return []
        # The same draws each time: two reports of one study must not differ.
        rng = np.random.default_rng(seed_for("importance", self.seed))
        count = min(len(known), RESAMPLED)
        draws = (rng.choice(len(known), count) for _ in range(RESAMPLES))
        return [explained_shares([known[i] for i in draw], self.objective) for draw in draws]

    def ask(self) -> dict[str, Value]:
        """Return the next configuration: hyperparameters, `trial` and `seed`.

        Interrupted trials come first, with their old number and seed.
        """
        attempt = self._waiting.pop(0) if self._waiting else self._propose()
        attempt.happen(Event.START)
        return dict(attempt.config)

    def _propose(self) -> Attempt:
        """Record a new trial, which the sampler proposes."""
        # A proposal that was never recorded is made again: same number, same seeds. The first that
        # is free: a record that was made anew from the table lacks trials that had not ended.
        number = next(number for number in count() if number not in self._attempts)
        hyperparameters, proposal = self._sampling.propose(number)
        config = self._config(number, hyperparameters)
        return self._begin(config, proposal.params, proposal.distributions)

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record a trial's metrics after an epoch, numbered from 1."""
        attempt, known, now = self._attempts[number], plain(metrics), time.time_ns() // 1_000_000
        attempt.happen(Event.EPOCH)
        # A trial that resumed from its last checkpoint may report an epoch again.
        again = epoch in attempt.history
        # With its time: MLflow drops a repeated value only if its time is the same.
        self._write(
            lambda: self._storage.set_trial_user_attr(
                attempt.key, f"{EPOCH}{epoch}", {**known, AT: now}
            )
        )
        value = known.get(self.objective)
        if value is not None and not again:
            # We never read this; it is for dashboards of Optuna studies.
            self._write(
                lambda: self._storage.set_trial_intermediate_value(attempt.key, epoch, value)
            )
        # Only after the write: memory never has an epoch that the record lacks.
        attempt.history[epoch], attempt.times[epoch] = known, now

    def finish(
        self, number: int, state: str, *, seconds: float, error: str | None
    ) -> dict[str, Any]:
        """Record a trial's end and return its row.

        Args:
            number: number of the trial.
            state: "complete", "pruned" or "failed".
            seconds: its duration, including evaluation.
            error: why it failed or was stopped, in one line.
        """
        attempt = self._attempts[number]
        epochs = max(attempt.history, default=0)
        metrics = attempt.history.get(epochs, {})
        # Optuna refuses a complete trial without a value.
        if state == "complete" and metrics.get(self.objective) is None:
            state, error = "failed", error or f"{self.objective} is not a number"
        attempt.happen(ENDS[State(state)])
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
        # These times always increase, even if the clock is set back.
        last = self._ended[-1].ended_ms if self._ended else 0
        now = max(time.time_ns() // 1_000_000, last + 1)
        # The row first, then the state: `_read` completes an attempt that has a row but no state.
        self._write(lambda: self._storage.set_trial_user_attr(attempt.key, ROW, {**row, AT: now}))
        self._end(attempt.key, row)
        attempt.row, attempt.ended, attempt.ended_ms = row, datetime.now(), now
        self._ended.append(attempt)
        self._sampling.tell(attempt, self.objective)
        return row

    def adopt(
        self, row: Mapping[str, Any], values: Mapping[str, Value], metrics: Mapping[str, float]
    ) -> None:
        """Record a trial that the record has lost and the trials table still has.

        Args:
            row: the trial's row in the table.
            values: its hyperparameters.
            metrics: its metrics after the last epoch; earlier epochs are lost.

        Raises:
            ValueError: it is not a trial of this study.
        """
        number = int(row["trial"])
        hyperparameters, proposal = self._sampling.recall(number, values)
        config = self._config(number, hyperparameters)
        if self.trial_id(config) != row["trial_id"]:
            raise ValueError("its settings are others")
        if number not in self._attempts:  # a killed process may have begun it
            self._begin(config, proposal.params, proposal.distributions)
        self._attempts[number].happen(Event.START)
        if row["epochs"]:
            self.report(number, row["epochs"], metrics)
        self.finish(number, row["state"], seconds=row["seconds"], error=row["error"])

    def _config(self, number: int, hyperparameters: Mapping[str, Value]) -> dict[str, Value]:
        return {**hyperparameters, "trial": number, "seed": seed_for("trial", self.seed, number)}

    def _begin(
        self,
        config: Mapping[str, Value],
        hyperparameters: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
    ) -> Attempt:
        """Record a new attempt in one write."""
        # In separate writes, a kill in between would leave a trial without a configuration.
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(hyperparameters),
            distributions=dict(distributions),
            user_attrs={CONFIG: dict(config), CODE: code_version()},
        )

        tries = count()

        def write() -> FrozenTrial:
            # If the connection broke during the write, the database may have the attempt already.
            kept = self._unknown(template) if next(tries) else None
            return kept or self._storage.get_trial(
                self._storage.create_new_trial(self._key, template)
            )

        attempt = attempt_of(self._write(write))
        self._attempts[attempt.number] = attempt
        return attempt

    def _unknown(self, template: FrozenTrial) -> FrozenTrial | None:
        """Return a running trial in the storage that equals the template and is not known here."""
        known = {attempt.key for attempt in self._attempts.values()}
        found = self._storage.get_all_trials(
            self._key, deepcopy=False, states=(TrialState.RUNNING,)
        )
        # A retry equals the attempt before it, but that one has ended.
        like = [trial for trial in found if trial.user_attrs == template.user_attrs]
        return next((trial for trial in like if trial._trial_id not in known), None)

    def _end(self, key: int, row: Mapping[str, Any]) -> None:
        """Set the state of an attempt in the storage, which has its row already."""
        value = row.get(self.objective) if row["state"] != "failed" else None
        values = None if value is None else [value]

        def write() -> None:
            with suppress(UpdateFinishedTrialError):  # an earlier try succeeded unnoticed
                self._storage.set_trial_state_values(key, STATES[state_of(row)], values)

        self._write(write)

    def _read(self) -> dict[int, Attempt]:
        """Return the latest attempt of each trial, by number; complete interrupted writes."""
        attempts: dict[int, Attempt] = {}
        # In the order of creation, so that the last attempt of a trial wins.
        for frozen in self._storage.get_all_trials(self._key, deepcopy=False):
            if CONFIG not in frozen.user_attrs:
                # Not an attempt of ours: without a configuration it can never run.
                if not frozen.state.is_finished():
                    self._mend(partial(self._fail, frozen._trial_id))
                continue
            attempt = attempt_of(frozen)
            if attempt.row is not None and not frozen.state.is_finished():
                self._mend(partial(self._end, attempt.key, attempt.row))
            attempts[attempt.number] = attempt
            self._ended += [attempt] if attempt.row is not None else []
        self._ended.sort(key=lambda attempt: attempt.ended_ms)
        return dict(sorted(attempts.items()))

    def _fail(self, key: int) -> None:
        self._write(lambda: self._storage.set_trial_state_values(key, TrialState.FAIL))

    def _mend(self, action: Callable[[], None]) -> None:
        """Complete a write that was interrupted; without a lock the record may be read-only."""
        try:
            action()
        except MixUnlearnError:
            if self._lock:
                raise

    def _write(self, action: Callable[[], Answer]) -> Answer:
        """Carry out a write that may be repeated; wait while the database does not answer.

        Raises:
            MixUnlearnError: the disk is full, or the database did not answer for too long.
        """

        def attempt() -> Answer:
            # A restarted server forgets locks: another driver may have the study now.
            if self._lock:
                self._lock.check()
            # At once: what is removed does not come back. But a folder may only be away.
            if self._file and not self._file.exists() and self._file.parent.exists():
                raise lost_record(self.name, self._file, self._table)
            return action()

        try:
            return patiently(attempt, ERRORS, self._wait)
        except ERRORS as error:
            what = f"the record of the study {self.name} cannot be written: {reason_of(error)}"
            raise MixUnlearnError(f"{what}; fix it and run the same command again") from error

    def _wait(self, error: Exception) -> None:
        """Show that the database does not answer; raise the error if it will not come back."""
        reason = reason_of(error)
        if self._lock is None or disk_full(reason):
            raise error
        self._lock.waiting(f"the database of the study: {reason}; waiting for it")
