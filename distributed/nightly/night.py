"""One experiment on one night: the champion measured anew, the search, a duel, a verdict."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from distributed.addresses import one_line, redact
from distributed.experiment import Experiment
from distributed.final import Examiner
from distributed.nightly.champion import Configuration, adopted, alias_of, register
from distributed.nightly.records import Nightly
from distributed.nightly.retention import tidy
from distributed.plan import Plan, make_plan
from distributed.registry import promote
from distributed.results import Row, parameters, ranked
from distributed.stop import Interrupted, Stop
from distributed.summary import distribution
from distributed.sweep import Session, fill_bank, open_study, run_sweep
from mixunlearn.errors import MixUnlearnError
from mixunlearn.evaluation import VERSION
from mixunlearn.metrics.gap import DECIMALS
from mixunlearn.metrics.nights import Drift, Duel, Night, Shift, Word, duel, verdict, watch
from mixunlearn.signature import seed_for, signature
from trainables.examine import Examination

TIME = "the night's time is over"
RESERVE = 1.5  # what the duel may take, in times that the champion took
SPARE_S = 60.0  # for all that follows the search
WARM = 3  # of the last nights' best trials, to start another study with


@dataclass(kw_only=True)
class Work:
    """What all parts of one night share.

    Args:
        nightly: the plan.
        night: its date.
        attempt: 1, or how often it was forced since.
        home: where results are kept.
        session: to run in.
        command: to name in error messages.
        local: whether trials run on this machine.
        began: seconds of the monotonic clock.
    """

    nightly: Nightly
    night: date
    attempt: int
    home: Path
    session: Session
    command: str
    local: bool
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float | None:
        """Return the seconds that are left; `None` without a limit."""
        hours = self.nightly.budget.hours
        return None if hours is None else self.began + hours * 3600 - time.monotonic()


@dataclass(kw_only=True)
class Part:
    """One experiment on one night.

    Args:
        work: of the night.
        experiment: as the user wrote it.
        past: what earlier nights found of it, oldest first.
        found: what this night has found so far.
        keep: writes that into the night's record.
    """

    work: Work
    experiment: Experiment
    past: Sequence[Mapping[str, Any]]
    found: dict[str, Any]
    keep: Callable[[Mapping[str, Any]], None]

    def run(self) -> None:
        """Do all there is to do, in order; what is done is kept at once."""
        plan = self._begin()
        drawn = self._drawn()
        champion = Configuration.read(self.found["champion"])
        if champion is None:
            champion = self._appoint(plan, self._search(plan))
            self._measure_champion(drawn, champion)
        else:
            self._measure_champion(drawn, champion)
            self._duel(self._search(plan), drawn, champion)
        self._judge(champion)
        self.keep(self.found)
        if self.found["promoted"] is not None:
            self._promote(plan)
        self.keep(self.found)
        self._tidy(plan, drawn)

    # --- what is wanted ---

    def _begin(self) -> Plan:
        """Decide what the night starts from; return the plan of its search."""
        plan = self._plan([])
        titled = (night for night in reversed(self.past) if night.get("champion"))
        last: Mapping[str, Any] = next(titled, {})
        if "base" not in self.found:
            start, generation = self._origin(last, plan)
            self.found |= {"base": plan.study, "start": start, "generation": generation}
            self.found |= {"notes": [], "verdict": None}
        plan = self._plan(self.found["start"], generation=self.found["generation"])
        if "trials" not in self.found:
            count = _count(plan)
            self.found["trials"] = {"before": count, "ran": 0, "failed": 0}
        self.found.setdefault("spent", {})
        if "champion" not in self.found:
            champion = self._champion(plan, last)
            self.found["champion"] = champion and champion.plain()
        total = self.found["trials"]["before"] + self.work.nightly.budget.trials
        plan = self._plan(self.found["start"], total, generation=self.found["generation"])
        self.found |= {
            "study": plan.study,
            "data": plan.dataset.digest,
            "recipe": signature(self.experiment.references.model_dump()),
            "draw": self.work.night.toordinal() % self.work.nightly.draws,
        }
        self.keep(self.found)
        return plan

    def _plan(
        self,
        start: Sequence[Mapping[str, Any]],
        trials: int = 1,
        *,
        draw: int = -1,
        generation: int = 0,
    ) -> Plan:
        """Return the plan of the experiment; draws have seeds beside the one it searches on."""
        experiment = self.experiment
        search = experiment.search.model_copy(
            update={
                "start": [dict(each) for each in start],
                "trials": max(1, trials),
                "seed": experiment.search.seed + generation,
            }
        )
        data = experiment.data.model_copy(update={"seed": experiment.data.seed + 1 + draw})
        return make_plan(
            experiment.model_copy(update={"search": search, "data": data}),
            self.work.home,
            command=self.work.command,
            local=self.work.local,
        )

    def _origin(self, last: Mapping[str, Any], plan: Plan) -> tuple[list[dict[str, Any]], int]:
        """Return what the night's study starts with, and how many the search had before it."""
        if last.get("base") != plan.study:
            return self._warm(last, plan), 0
        if last["trials"]["before"] + last["trials"]["ran"] < self.work.nightly.renew:
            return last["start"], last["generation"]
        return self._warm(last, plan), last["generation"] + 1

    def _warm(self, last: Mapping[str, Any], plan: Plan) -> list[dict[str, Any]]:
        """Return what another study than last night's is to start with: champion and best ones."""
        names = set(plan.space)
        known = [each for each in (last.get("champion"), last.get("candidate")) if each]
        wanted = [each["parameters"] for each in (*known, *last.get("best", []))]
        fitting = [each for each in wanted if set(each) <= names]
        return [dict(each) for index, each in enumerate(fitting) if each not in fitting[:index]]

    def _champion(self, plan: Plan, last: Mapping[str, Any]) -> Configuration | None:
        """Return who holds the title: by the last night, or by the alias that somebody moved."""
        title = last.get("candidate") if last.get("promoted") is not None else last.get("champion")
        held = Configuration.read(title)
        try:
            alias = alias_of(plan)
        except MixUnlearnError as error:
            self._note(f"the registry was not asked: {error}")
            return held
        if held is None or (held.version and alias and alias.trial_id != held.trial_id):
            if alias is None:
                return None
            found = adopted(plan, alias, self.work.night)
            self._note(f"version {alias.version} is the champion: the registry says so")
            return found
        if alias is None or alias.trial_id != held.trial_id:
            return self._restored(plan, held)
        return replace(held, version=alias.version)

    def _restored(self, plan: Plan, held: Configuration) -> Configuration:
        """Give the alias back to a champion that has lost it, or never got it."""
        if not self.work.nightly.promote or held.trial_id is None:
            return held
        try:
            self._note(promote(plan.tracking_uri, self.experiment.name, held.trial_id, proven=True))
            alias = alias_of(plan)
        except MixUnlearnError as error:
            self._note(f"the champion has no alias: {error}")
            return held
        return replace(held, version=alias.version if alias else None)

    # --- what is done ---

    def _drawn(self) -> Plan:
        """Return the problem of tonight's forget set, its references trained."""
        start = time.monotonic()
        drawn = self._plan([], draw=self.found["draw"]).mapped()
        fill_bank(drawn, self.work.session)
        own = drawn.bank.judge("test").references.own_gaps()
        self.found["references"] = distribution(own)
        self._spent("references", start)
        return drawn

    def _measure_champion(self, drawn: Plan, champion: Configuration) -> None:
        start = time.monotonic()
        found = self._measure(drawn, champion, "champion")
        self.found |= {"gaps": _gaps(found), "metrics": _metrics_of(found)}
        self._spent("champion", start)
        self.keep(self.found)

    def _measure(self, drawn: Plan, one: Configuration, who: str) -> list[Mapping[str, float]]:
        """Return what a configuration scores on `test` under tonight's seeds, as far as it got."""
        tasks = {
            str(index): Examination(
                method=one.method,
                parameters=one.parameters,
                seed=self._seed(index),
                epochs=one.epochs,
                trial=None,
            )
            for index in range(self.work.nightly.seeds)
        }
        if missing := Examiner(drawn).missing(tasks):
            session = self.work.session
            session.progress.show(
                f"{self.experiment.name}: {who}, {len(missing)} seeds", event=True
            )
            drawn = session.connect(drawn, "starting Ray")
            problem, judge = drawn.problem(), drawn.bank.judge("test")
            Examiner(drawn, weights=False).run(missing, problem, judge, self._enough)
            session.stop.check()
        examiner = Examiner(drawn)
        left = examiner.missing(tasks)
        if left:
            self._note(f"{who}: {len(left)} of {len(tasks)} seeds were left out: {TIME}")
        kept = {name: task for name, task in tasks.items() if name not in left}
        return [entry.record["metrics"] for entry in examiner.results(kept).values()]

    def _search(self, plan: Plan) -> list[Configuration]:
        """Search on for the rest of the budget; return the trials that succeeded, best first.

        Whatever goes wrong, the night has a verdict.
        """
        start = time.monotonic()
        left = self.work.left()
        if left is not None:
            left -= RESERVE * self.found["spent"].get("champion", 0.0) + SPARE_S
        if self.work.nightly.budget.trials and (left is None or left > 0):
            try:
                with limited(self.work.session.stop, left), self.work.session.part() as session:
                    run_sweep(plan, session)
            except Interrupted:
                raise
            except MixUnlearnError as error:
                self._note(f"the search ended early: {error}")
        rows = _rows(plan)
        before = self.found["trials"]["before"]
        new = [row for row in rows if row["trial"] >= before]
        failed = sum(row["state"] == "failed" for row in new)
        self.found["trials"] |= {"ran": len(new), "failed": failed}
        best = ranked(rows, plan.experiment.search.objective)
        found = [self._configuration(plan, row) for row in best]
        self.found["best"] = [each.plain() for each in found[:WARM]]
        self._spent("search", start)
        self.keep(self.found)
        return found

    def _appoint(self, plan: Plan, best: Sequence[Configuration]) -> Configuration:
        """Return the best trial as champion where there is none.

        Raises:
            MixUnlearnError: no trial succeeded.
        """
        if not best:
            raise MixUnlearnError("no trial succeeded, so there is no champion")
        self._note(f"{best[0].trial} is the champion: there was none")
        champion = self._restored(plan, best[0])
        self.found["champion"] = champion.plain()
        return champion

    def _duel(self, rivals: Sequence[Configuration], drawn: Plan, champion: Configuration) -> None:
        """Let the best trial that is not the champion, and has not lost yet, duel with it."""
        reign = self._reign(champion)
        lost = {
            night["candidate"]["key"]
            for night in self.past
            if night.get("reign") == reign and (night.get("duel") or {}).get("state") == "lost"
        }
        rival = next((r for r in rivals if r.key not in {*lost, champion.key}), None)
        start = time.monotonic()
        self.found |= {"candidate": None, "rival_gaps": [], "rival_metrics": {}}
        if rival is not None:
            found = self._measure(drawn, rival, "candidate")
            self.found["candidate"] = rival.plain()
            self.found |= {"rival_gaps": _gaps(found), "rival_metrics": _metrics_of(found)}
        self._spent("duel", start)

    # --- what came of it ---

    def _judge(self, champion: Configuration) -> None:
        """Write down drift, duel and verdict."""
        nightly, found = self.work.nightly, self.found
        found["reign"] = self._reign(champion)
        found.setdefault("candidate", None)
        found.setdefault("rival_gaps", [])
        same = [night for night in self.past if night.get("reign") == found["reign"]]
        nights = [Night(draw=n["draw"], gaps=n["gaps"]) for n in (*same, found) if n["gaps"]]
        drift = None
        if found["gaps"]:
            *_, drift = watch(nights, margin=nightly.margin, error=nightly.share)
        against, over = self._differences(same)
        fight = duel(against, margin=nightly.margin, error=nightly.share) if against else None
        word = verdict(drift, fight, nightly.margin)
        found["shift"] = drift and drift.shift and _shift(drift.shift)
        found["cusum"] = drift and {
            "level": drift.level,
            "limit": _finite(drift.limit),
            "nights": drift.nights,
        }
        found["duel"] = fight and {
            "mean": fight.mean,
            "low": _finite(fight.low),
            "high": _finite(fight.high),
            "pairs": fight.pairs,
            "state": fight.state,
            "nights": over,
        }
        won = fight is not None and fight.state == "won"
        found["promoted"] = "" if won and nightly.promote else None
        found["verdict"] = word
        found["why"] = _why(word, drift, fight)

    def _differences(self, same: Sequence[Mapping[str, Any]]) -> tuple[list[float], int]:
        """Return champion − candidate by seed, over all nights of their duel, and how many."""
        key = (self.found["candidate"] or {}).get("key")
        nights = [
            night
            for night in (*same, self.found)
            if night["candidate"] and night["candidate"]["key"] == key and night["rival_gaps"]
        ]
        found = [
            one - other
            for night in nights
            for one, other in zip(night["gaps"], night["rival_gaps"], strict=False)
        ]
        return found, len(nights)

    def _promote(self, plan: Plan) -> None:
        """Give the title to the candidate; the alias follows, tonight or when MLflow is back."""
        candidate = Configuration.read(self.found["candidate"])
        assert candidate is not None
        try:
            said = register(plan, candidate, self.found, self.work.session)
            alias = alias_of(plan)
        except MixUnlearnError as error:
            said, alias = f"{candidate.trial} is the champion; its alias has to wait: {error}", None
        version = alias.version if alias else None
        self.found["candidate"] = replace(candidate, version=version).plain()
        self.found["promoted"] = said

    def _tidy(self, plan: Plan, drawn: Plan) -> None:
        try:
            tidy(plan, drawn, map(self._seed, range(self.work.nightly.seeds)))
        except (MixUnlearnError, OSError) as error:  # the night has its verdict
            self._note(f"not all that is of no use was removed: {one_line(error)}")
            self.keep(self.found)

    def _configuration(self, plan: Plan, row: Row) -> Configuration:
        return Configuration(
            method=plan.experiment.method,
            parameters={k: v for k, v in parameters(row).items() if v is not None},
            epochs=row["epochs"],
            trial=f"{plan.study}/{row['trial']}",
            trial_id=row["trial_id"],
            since=self.work.night.isoformat(),
            version=None,
        )

    def _reign(self, champion: Configuration) -> str:
        """Return what nights must have in common to be compared with each other."""
        return signature([champion.key, self.found["data"], self.found["recipe"], VERSION])

    def _seed(self, index: int) -> int:
        work = self.work
        night = work.night.isoformat()
        return seed_for(
            "night", work.nightly.name, self.experiment.name, night, work.attempt, index
        )

    def _enough(self) -> bool:
        left = self.work.left()
        return self.work.session.stop.asked is not None or (left is not None and left < 0)

    def _note(self, line: str) -> None:
        self.found.setdefault("notes", []).append(redact(line))

    def _spent(self, what: str, start: float) -> None:
        spent = self.found["spent"]
        spent[what] = round(spent.get(what, 0.0) + time.monotonic() - start, 3)


@contextmanager
def limited(stop: Stop, seconds: float | None) -> Iterator[None]:
    """Stop what runs within in order when its time is over, and go on after it.

    Raises:
        Interrupted: a signal asked for a stop.
    """
    timer = threading.Timer(seconds, stop.ask, [TIME]) if seconds is not None else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    except Interrupted:
        if stop.asked != TIME:
            raise
    finally:
        if timer:
            timer.cancel()
        stop.withdraw(TIME)


def _why(word: Word, drift: Drift | None, fight: Duel | None) -> str:
    """Return the reason for a verdict in a sentence."""
    shift = drift.shift if drift else None
    moved = "there is no earlier night of this champion to compare with"
    if shift is not None:
        interval = f"{shift.low:+.2f} to {shift.high:+.2f}"
        moved = f"its gap is {shift.mean:+.2f} pp from its history ({interval})"
    match word:
        case "regressed" if drift:
            return f"{moved}, and has drifted for {drift.nights} night{'s' * (drift.nights > 1)}"
        case "improved" if fight:
            return f"the candidate is {fight.mean:.2f} pp nearer (at least {fight.low:.2f})"
        case "unchanged":
            return f"{moved}, within the margin"
    return f"{moved}; that proves neither" if shift else moved


def _gaps(found: Sequence[Mapping[str, float]]) -> list[float]:
    return [each["gap/avg"] for each in found]


def _metrics_of(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    names = sorted(found[0]) if found else []
    return {name: distribution([each[name] for each in found if name in each]) for name in names}


def _shift(shift: Shift) -> dict[str, float]:
    found = {"mean": shift.mean, "low": shift.low, "high": shift.high}
    return {name: round(value, DECIMALS) + 0.0 for name, value in found.items()}  # no −0


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _rows(plan: Plan) -> list[Row]:
    """Return the finished trials of a study; none where it has not begun."""
    if not plan.folder.exists():
        return []
    with closing(open_study(plan)) as study:
        return [*study.rows()]


def _count(plan: Plan) -> int:
    """Return the number of the trial that follows those that have ended."""
    rows = _rows(plan)
    return max((row["trial"] + 1 for row in rows), default=0)
