"""One experiment on one night: measure the champion again, search, duel, judge."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from distributed.config.experiment import Experiment
from distributed.nightly.champion import (
    crown,
    current_champion,
    with_alias,
    with_verdict,
)
from distributed.nightly.context import NightContext
from distributed.nightly.judgement import judged
from distributed.nightly.measurement import Measurement, measure
from distributed.nightly.records import Configuration, PartRecord, TrialCounts
from distributed.nightly.retention import tidy
from distributed.nightly.search_plan import (
    drawn_plan,
    finished_trials,
    next_trial,
    origin,
    search_plan,
)
from distributed.nightly.time_limit import TIME, limited
from distributed.plan.plan import Plan
from distributed.runtime.signals import Interrupted
from distributed.runtime.text import one_line, redact
from distributed.search.summary import distribution
from distributed.search.sweep import run_sweep
from distributed.search.trials import fill_references
from distributed.study.trials_table import Row, hyperparameters, ranked
from mixunlearn.errors import MixUnlearnError
from mixunlearn.evaluation import VERSION
from mixunlearn.signature import signature
from mixunlearn.wording import counted

RESERVE = 1.5  # time kept for the duel, relative to the time that the champion's measurement took
SPARE_S = 60.0  # time kept for everything else after the search
WARM = 3  # best trials that are recorded each night, to start a new study with


@dataclass(kw_only=True)
class ExperimentNight:
    """One experiment on one night.

    Args:
        context: context of the night.
        experiment: as the user wrote it.
        past: results of earlier nights, oldest first.
        found: results of this night so far.
        keep: writes results into the night's record.
    """

    context: NightContext
    experiment: Experiment
    past: Sequence[PartRecord]
    found: PartRecord
    keep: Callable[[PartRecord], None]

    def run(self) -> None:
        """Run all steps in order; the results of each step are recorded immediately."""
        plan = self._begin()
        drawn = self._drawn()
        champion = self.found.champion
        # A champion is measured before the search: it has a result even if the time runs out.
        if champion is None:
            # There is nothing to measure until a trial has succeeded.
            champion = self._appoint(plan, self._search(plan))
            self._measure_champion(drawn, champion)
        else:
            self._measure_champion(drawn, champion)
            # Measured before the search: whatever the search costs, the drift is known.
            self._duel(self._search(plan), drawn, champion)
        # Only now: on a first night there is no champion before the search.
        self.found = replace(self.found, reign=self._reign(champion))
        self.found = judged(self.found, self.past, self.context.nightly, self.context.night)
        self.keep(self.found)
        # After `keep`: a driver killed in the registry resumes with the promotion alone to do.
        if self.found.promotion == "due":
            self.found = crown(plan, self.found, self.context.session)
            self.keep(self.found)
        self._tidy(plan, drawn)

    # --- what the night starts from ---

    def _begin(self) -> Plan:
        """Decide what the night starts from, if it is not decided yet; return the search's plan."""
        # Each decision is made once: a night that resumes must not decide differently.
        last = next((night for night in reversed(self.past) if night.champion), None)
        # Each decision is made once: a resumed night must not decide on its own results.
        if self.found.base is None:
            self._originate(last)
        plan = self._plan()
        if self.found.trials is None:
            # Once: a resumed night already finds some of its own trials in the study.
            counts = TrialCounts(before=next_trial(plan))
            self.found = replace(self.found, trials=counts)
        if self.found.study is None:
            # Once: an alias that is moved during the night counts from the next night on.
            champion = self._champion(plan, last)
            self.found = replace(self.found, champion=champion)
        # A total, not an increment: a resumed night runs only the trials that are missing.
        references = self.experiment.references
        plan = self._plan(self._counts.before + self.context.nightly.budget.trials)
        self.found = replace(
            self.found,
            study=plan.study,
            data=plan.dataset.digest,
            recipe=signature({"seeds": references.seeds, **references.training}),
            draw=self.context.nightly.draw(self.context.night),
        )
        self.keep(self.found)
        return plan

    def _originate(self, last: PartRecord | None) -> None:
        plan = search_plan(self.context, self.experiment, [])
        start, generation = origin(last, plan, self.context.nightly.renew)
        self.found = replace(self.found, base=plan.study, start=start, generation=generation)

    def _plan(self, trials: int = 1) -> Plan:
        """Return the plan of the night's search."""
        found = self.found
        return search_plan(
            self.context, self.experiment, found.start, trials, generation=found.generation
        )

    def _champion(self, plan: Plan, last: PartRecord | None) -> Configuration | None:
        restore = self.context.nightly.promote
        return current_champion(plan, last, self.context.night, restore=restore, note=self._note)

    @property
    def _counts(self) -> TrialCounts:
        assert self.found.trials is not None  # since `_begin`
        return self.found.trials

    # --- what is done ---

    def _drawn(self) -> Plan:
        """Return the plan of tonight's forget set, with its references trained."""
        assert self.found.draw is not None  # since `_begin`
        with self._timed("references"):
            # Mapped, because workers read the images too.
            drawn = drawn_plan(self.context, self.experiment, self.found.draw).mapped()
            fill_references(drawn, self.context.session)
            own = drawn.references.evaluator("test").references.own_gaps()
            self.found = replace(self.found, references=distribution(own))
        return drawn

    def _measure_champion(self, drawn: Plan, champion: Configuration) -> None:
        with self._timed("champion"):
            measured = self._measure(drawn, champion, "champion")
            self.found = replace(
                self.found,
                seeds=measured.seeds,
                gaps=measured.gaps,
                metrics=measured.distributions,
            )
        self.keep(self.found)

    def _measure(self, drawn: Plan, configuration: Configuration, who: str) -> Measurement:
        measured = measure(self.context, drawn, configuration, who)
        if measured.left_out:
            seeds = counted(self.context.nightly.seeds, "seed")
            self._note(f"{who}: {measured.left_out} of {seeds} were left out: {TIME}")
        return measured

    def _search(self, plan: Plan) -> list[Configuration]:
        """Continue the search within the budget; return the successful trials, best first."""
        with self._timed("search"):
            self._sweep(plan)
            rows = finished_trials(plan)
            best = ranked(rows, plan.experiment.search.objective)
            found = [self._configuration(plan, row) for row in best]
            new = [row for row in rows if row["trial"] >= self._counts.before]
            failed = sum(row["state"] == "failed" for row in new)
            counts = replace(self._counts, ran=len(new), failed=failed)
            self.found = replace(self.found, trials=counts, best=found[:WARM])
        self.keep(self.found)
        return found

    def _sweep(self, plan: Plan) -> None:
        """Run the night's trials within its time; after an error the night still has a verdict."""
        session, left = self.context.session, self.context.left()
        if left is not None:
            # The duel unlearns as often as the champion's measurement did.
            left -= RESERVE * self.found.spent.get("champion", 0.0) + SPARE_S
        if not self.context.nightly.budget.trials or (left is not None and left <= 0):
            return
        try:
            with limited(session.stop, left), session.part() as part:
                run_sweep(plan, part)
        except Interrupted:
            raise
        except MixUnlearnError as error:
            # Trials that have ended count: they may still contain a winner.
            self._note(f"the search ended early: {error}")

    def _appoint(self, plan: Plan, best: Sequence[Configuration]) -> Configuration:
        """Make the best trial the champion, because there is none, and return it.

        Raises:
            MixUnlearnError: no trial succeeded.
        """
        if not best:
            raise MixUnlearnError("no trial succeeded, so there is no champion")
        champion = with_verdict(plan, best[0])
        said = [f"{champion.trial} is the champion: there was none"]
        if self.context.nightly.promote:
            # Without `promote` a night only reports, and the registry stays as the user left it.
            champion = with_alias(plan, champion, said.append)
        else:
            said.append("it has no alias, because the plan does not promote")
        self.found = replace(self.found, champion=champion, appointed=redact("; ".join(said)))
        return champion

    def _duel(self, rivals: Sequence[Configuration], drawn: Plan, champion: Configuration) -> None:
        """Hold a duel between the champion and the best trial that has not lost to it yet."""
        reign = self._reign(champion)
        excluded = {champion.key}
        for night in self.past:
            # Of this reign only: against another champion or on other data, the loser may win.
            if night.reign == reign and night.duel and night.duel.state == "lost":
                assert night.candidate is not None  # who lost
                excluded.add(night.candidate.key)
        rival = next((each for each in rivals if each.key not in excluded), None)
        with self._timed("duel"):
            # A resumed night may have another rival than the process before it.
            self.found = replace(
                self.found, candidate=None, rival_seeds=[], rival_gaps=[], rival_metrics={}
            )
            if rival is not None:
                self._measure_rival(drawn, rival)

    def _measure_rival(self, drawn: Plan, rival: Configuration) -> None:
        measured = self._measure(drawn, rival, "candidate")
        self.found = replace(
            self.found,
            candidate=rival,
            rival_seeds=measured.seeds,
            rival_gaps=measured.gaps,
            rival_metrics=measured.distributions,
        )

    def _tidy(self, plan: Plan, drawn: Plan) -> None:
        name = self.experiment.name
        seeds = [self.context.seed(name, each) for each in range(self.context.nightly.seeds)]
        try:
            tidy(plan, drawn, seeds)
        except (MixUnlearnError, OSError) as error:  # the verdict stays valid
            self._note(f"some files that are no longer needed were not removed: {one_line(error)}")
            self.keep(self.found)

    # --- small things ---

    def _configuration(self, plan: Plan, row: Row) -> Configuration:
        return Configuration(
            method=plan.experiment.method,
            # A row has the hyperparameters of all trials; those unused here would change the key.
            parameters={k: v for k, v in hyperparameters(row).items() if v is not None},
            epochs=row["epochs"],
            trial=f"{plan.study}/{row['trial']}",
            trial_id=row["trial_id"],
            since=self.context.night.isoformat(),
            version=None,
        )

    def _reign(self, champion: Configuration) -> str:
        """Return a key of what nights must have in common to be compared with each other."""
        # VERSION: a change of the evaluation moves gaps although nothing has drifted.
        return signature([champion.key, self.found.data, self.found.recipe, VERSION])

    def _note(self, line: str) -> None:
        self.found = self.found.noted(redact(line))

    @contextmanager
    def _timed(self, activity: str) -> Iterator[None]:
        """Add the time of a block to the time spent on the activity, unless the block fails."""
        start = time.monotonic()
        yield
        self.found = self.found.with_spent(activity, time.monotonic() - start)
