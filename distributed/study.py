"""The study: Optuna's record of what was tried, and the searcher that asks it for more.

The study is the one source of truth. Every trial's configuration, epochs and outcome are in it;
trials.parquet and MLflow are derived. Ray Tune's own state is thrown away.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from distributed.unsaved import Unsaved
from mixunlearn.signature import seed_for, signature
from search_spaces import Choice, Float, Int, Space
from search_spaces.space import AnyParameter, Value

CONFIG, EPOCH, ROW = "config", "epoch:", "row"
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
STARTUP_TRIALS = 6  # random ones before TPE, CMA-ES or GP take over: budgets here are small


class Study:
    """The trials of one study, in Optuna's storage.

    Args:
        name: of the study; also the first column of its rows.
        storage: Optuna's storage URL.
        method: what is tuned, for the rows.
        space: what may vary.
        facts: what conditions of the space may name beside parameters.
        sampler: "tpe", "random", "cmaes" or "gp".
        seed: of the sampler and of the trials.
        objective: the metric to minimise.
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
    ) -> None:
        self.name, self.method, self.space, self.facts = name, method, space, facts
        self.seed, self.objective = seed, objective
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Seeded by what exists already, so that going on does not repeat the first proposals.
        self._study = optuna.create_study(
            study_name=name, storage=storage, direction="minimize", load_if_exists=True
        )
        existing = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = make_sampler(sampler, seed_for("sampler", seed, existing) % 2**32)
        self._open: dict[int, Trial] = {}
        self._reopened = self._reopen()

    def rows(self) -> list[dict[str, Any]]:
        """Return the finished trials, as in trials.parquet, by number."""
        trials = self._study.get_trials(deepcopy=False)
        return [
            trial.user_attrs[ROW]
            for trial in trials
            if trial.state.is_finished() and ROW in trial.user_attrs
        ]

    def history(self, number: int) -> dict[int, dict[str, float]]:
        """Return a trial's metrics by epoch."""
        attributes = self._study.trials[number].user_attrs
        epochs = {
            int(key[len(EPOCH) :]): attributes[key] for key in attributes if key.startswith(EPOCH)
        }
        return dict(sorted(epochs.items()))

    def ask(self) -> dict[str, Value]:
        """Return the next configuration: hyperparameters, `trial` and `seed`.

        A trial that was interrupted comes first, under its old number and seed.
        """
        if self._reopened:
            trial = self._reopened.pop(0)
            self._open[trial.number] = trial
            return dict(trial.user_attrs[CONFIG])
        trials = self._study.get_trials(deepcopy=False)
        if not any(CONFIG in trial.user_attrs for trial in trials):
            self._study.enqueue_trial(self._sampled(self.space.defaults(self.facts)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask()
            parameters = suggest(trial, self.space, self.facts)
        config: dict[str, Value] = {
            **parameters,
            "trial": trial.number,
            "seed": seed_for("trial", self.seed, trial.number),
        }
        trial.set_user_attr(CONFIG, config)
        self._open[trial.number] = trial
        return config

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record a trial's metrics after an epoch, numbered from 1."""
        trial = self._open[number]
        # A trial that went on from its last checkpoint may report an epoch once more.
        again = f"{EPOCH}{epoch}" in trial.user_attrs
        trial.set_user_attr(f"{EPOCH}{epoch}", _plain(metrics))
        value = metrics.get(self.objective, math.nan)
        if math.isfinite(value) and not again:
            trial.report(value, epoch)

    def finish(
        self, number: int, state: str, *, seconds: float, error: str | None, checkpoint: str | None
    ) -> dict[str, Any]:
        """Record a trial's end and return its row.

        Args:
            number: of the trial.
            state: "complete", "pruned" or "failed".
            seconds: it took, evaluation included.
            error: why it failed or was stopped, in one line.
            checkpoint: folder of its last state.
        """
        trial = self._open.pop(number)
        history = self.history(number)
        epochs = max(history, default=0)
        metrics = history.get(epochs, {})
        value = metrics.get(self.objective)
        if state == "complete" and value is None:
            state, error = "failed", error or f"{self.objective} is not a number"
        config = trial.user_attrs[CONFIG]
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
        trial.set_user_attr("checkpoint", checkpoint)
        trial.set_user_attr(ROW, row)
        self._study.tell(trial.number, value if state == "complete" else None, state=STATES[state])
        return row

    def trial_id(self, config: Mapping[str, Value]) -> str:
        """Return the signature of a trial: eight hex digits of study and configuration."""
        return signature([self.name, dict(config)])

    def config(self, number: int) -> dict[str, Value]:
        """Return a trial's configuration: hyperparameters, `trial` and `seed`."""
        return dict(self._study.trials[number].user_attrs[CONFIG])

    def checkpoint(self, number: int) -> str | None:
        """Return the folder of a finished trial's last state."""
        path: str | None = self._study.trials[number].user_attrs.get("checkpoint")
        return path

    def _sampled(self, parameters: Mapping[str, Value]) -> dict[str, Value]:
        """Return the parameters that Optuna knows of: the others are constants."""
        return {
            name: value for name, value in parameters.items() if constant(self.space[name]) is None
        }

    def _reopen(self) -> list[Trial]:
        """Return the trials that an earlier run left unfinished.

        One that was told its configuration goes on; one that was not is closed.
        """
        unfinished = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for frozen in unfinished:
            if CONFIG not in frozen.user_attrs:
                self._study.tell(frozen.number, state=TrialState.FAIL)
        return [self._handle(frozen) for frozen in unfinished if CONFIG in frozen.user_attrs]

    def _handle(self, frozen: FrozenTrial) -> Trial:
        return Trial(self._study, frozen._trial_id)


class StudySearcher(Unsaved, Searcher):
    """Lets Ray Tune ask the study; what comes back is told by the sweep's callback.

    The callback sees a trial's error, checkpoint and every epoch, the searcher does not.
    """

    def __init__(self, study: Study) -> None:
        super().__init__(metric=study.objective, mode="min")
        self.study = study

    def suggest(self, trial_id: str) -> dict[str, Value]:
        """Return the next configuration."""
        return self.study.ask()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the callback tells the study."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is already on the disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study is already on the disk."""


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
