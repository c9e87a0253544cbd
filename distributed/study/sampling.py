"""Proposes what is tried next: Optuna's samplers with our search spaces."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import BaseTrial, FixedTrial, Trial, TrialState, create_trial

from distributed.study.attempt import STATES, Attempt, objective_curve
from mixunlearn.signature import seed_for
from search_spaces import Choice, Float, Int, Space
from search_spaces.space import AnyParameter, Value

STARTUP_TRIALS = 6  # random trials before TPE, CMA-ES or GP start; few, as budgets are small


class Sampling:
    """Proposes hyperparameters: one of Optuna's samplers on a copy of the study in memory.

    A proposal depends only on the seed, its number and the earlier trials: each proposal gets a
    new sampler with its own seed. So an interrupted study resumes as if it had not stopped. The
    copy also keeps CMA-ES from unpickling data from a database.

    Args:
        space: the search space.
        facts: values that conditions of the space may use in addition to hyperparameters.
        sampler: "tpe", "random", "cmaes" or "gp".
        seed: seed of the sampler.
        start: whole or partial configurations to try after the default one.
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
        # The default goes first: the verdict compares the winner with it.
        own = [each for each in space.published(facts) if each not in start]
        self._first = [space.defaults(facts), *start, *own]
        self._study = optuna.create_study(direction="minimize")
        self._trials: dict[int, Trial] = {}

    def propose(self, number: int) -> tuple[dict[str, Value], Trial | FixedTrial]:
        """Return hyperparameters for the trial with this number, and Optuna's trial.

        Number 0 is the default configuration; those in `start` follow, then the authors' own.
        """
        if outside := self._outside(number):
            return outside, _undrawn()
        if number < len(self._first):
            # Enqueued, not just returned: so the sampler learns from it as from its own proposals.
            self._study.enqueue_trial(self._varying(self._first[number]))
        # NumPy's generators accept only 32 bits.
        seed = seed_for("sampler", self.seed, number) % 2**32
        self._study.sampler = make_sampler(self.sampler, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask()
            hyperparameters = suggest(trial, self.space, self.facts)
        self._trials[number] = trial
        return hyperparameters, trial

    def recall(
        self, number: int, values: Mapping[str, Value]
    ) -> tuple[dict[str, Value], FixedTrial]:
        """Return the hyperparameters and Optuna's trial of an earlier proposal, by its values.

        Raises:
            ValueError: no proposal has these values.
        """
        outside = self._outside(number)
        if outside and all(values.get(name) == value for name, value in outside.items()):
            return outside, _undrawn()
        # What was given, not drawn, may be 1 where a table has 1.0.
        given = self._first[number] if number < len(self._first) else {}
        same = {name: value for name, value in given.items() if values.get(name) == value}
        trial = FixedTrial({**values, **same})
        found = suggest(trial, self.space, self.facts)
        # Earlier versions had fewer hyperparameters: what a trial had no value of stays away.
        return {name: value for name, value in found.items() if name in values}, trial

    def tell(self, attempt: Attempt, objective: str) -> None:
        """Record how a proposed trial ended; only its first attempt counts."""
        if attempt.row is None or attempt.number not in self._trials:
            return
        trial = self._trials.pop(attempt.number)
        # Optuna gives a pruned trial the last reported value.
        for epoch, found in objective_curve(attempt, objective).items():
            trial.report(found, epoch)
        # Optuna refuses a value for pruned and failed trials.
        state, value = STATES[attempt.state], attempt.row.get(objective)
        self._study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)

    def resume(self, attempts: Iterable[Attempt], objective: str) -> None:
        """Learn the trials of earlier sweeps from the record, see `mixunlearn.resume`.

        The state of CMA-ES depends on the order in which trials were proposed and ended, so all
        proposals are made again in that order. The other samplers only need the results.
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

    def _outside(self, number: int) -> dict[str, Value]:
        """Return a whole configuration that no search may draw; empty for all other numbers.

        The authors' own may have other values of fixed hyperparameters. The sampler is not told of
        it: what it would learn about the others does not hold for its own proposals.
        """
        found = self._first[number] if number < len(self._first) else {}
        return {} if self.space.holds(found) else dict(found)

    def _add(self, attempt: Attempt, objective: str) -> None:
        if self._outside(attempt.number) and not attempt.distributions:
            return
        # In the order of the space, as they were drawn: the order changes what samplers draw.
        names = [name for name in self.space if name in attempt.hyperparameters]
        # As running, because Optuna refuses to tell the end of a trial that has ended.
        frozen = create_trial(
            state=TrialState.RUNNING,
            params={name: attempt.hyperparameters[name] for name in names},
            distributions={name: attempt.distributions[name] for name in names},
        )
        self._study.sampler = RandomSampler()  # any other sampler would draw when `Trial` is made
        key = self._study._storage.create_new_trial(self._study._study_id, frozen)
        # Kept even if it has not ended: `tell` needs it when the resumed trial ends.
        self._trials[attempt.number] = Trial(self._study, key)
        self.tell(attempt, objective)

    def _varying(self, hyperparameters: Mapping[str, Value]) -> dict[str, Value]:
        """Return the hyperparameters that vary; Optuna does not know the constant ones."""
        return {
            name: value
            for name, value in hyperparameters.items()
            if constant(self.space[name]) is None
        }


def _undrawn() -> FixedTrial:
    """Return one of Optuna's trials in which nothing was drawn."""
    return FixedTrial({})


def make_sampler(name: str, seed: int) -> BaseSampler:
    """Return one of Optuna's samplers, by the name used in experiments.

    Raises:
        KeyError: `SAMPLERS` has no sampler of this name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](seed)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {  # by seed
    "tpe": lambda seed: TPESampler(
        seed=seed,
        n_startup_trials=STARTUP_TRIALS,
        multivariate=True,  # jointly, because hyperparameters interact
        group=True,  # `multivariate` alone would draw conditional hyperparameters independently
        constant_liar=True,  # so that trials that run at the same time differ
    ),
    "random": lambda seed: RandomSampler(seed=seed),
    # It draws categories independently, as it must; a warning for each would hide others.
    "cmaes": lambda seed: CmaEsSampler(
        seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
    ),
    "gp": lambda seed: GPSampler(
        seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
    ),
}


def suggest(trial: BaseTrial, space: Space, facts: Mapping[str, Value]) -> dict[str, Value]:
    """Return a configuration: constants as they are, the rest as Optuna suggests.

    Only this function turns our hyperparameters into Optuna's distributions.
    """
    # In the order of the space: conditions use the values drawn before.
    values = dict(facts)
    for name, parameter in space.items():
        if not space.active(name, values):
            continue
        fixed = constant(parameter)
        values[name] = _draw(trial, name, parameter) if fixed is None else fixed
    return {name: value for name, value in values.items() if name in space}


def _draw(trial: BaseTrial, name: str, parameter: AnyParameter) -> Value:
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
    if parameter.fixed:
        return parameter.default
    if isinstance(parameter, Choice):
        return parameter.options[0] if len(parameter.options) == 1 else None
    return parameter.low if parameter.low == parameter.high else None
