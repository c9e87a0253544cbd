"""Examines models for the evidence on the cluster, each once; results are cached in the store."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import ray

from distributed.plan.plan import Plan
from distributed.search.session import Session
from distributed.search.test_evaluation import collect
from mixunlearn import evaluation
from mixunlearn.errors import DivergedError
from mixunlearn.evidence import examination
from mixunlearn.evidence.examination import Examined
from mixunlearn.references import Member
from trainables.evaluate import TestTask
from trainables.examine import Examination, examine_remotely

KIND = "examined"  # in the store
TIMED = ("at_once", "retraining_s")  # how the seconds were measured


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to examine.

    Args:
        member: the trained model, or the original that is unlearned.
        task: the unlearning to run; `None`: the trained model itself.
    """

    member: Member
    task: TestTask | None = None


class Examinations:
    """Examines models on one forget set.

    Args:
        plan: plan of the forget set, whose originals and references are trained.
        session: the session of the command.
    """

    def __init__(self, plan: Plan, session: Session) -> None:
        self.plan, self.session = plan, session
        self.store = plan.references.store

    def missing(self, subjects: Sequence[Subject]) -> list[Subject]:
        """Return the subjects without a stored result."""
        return [each for each in subjects if not self.store.sound(KIND, self._payload(each))]

    def run(self, subjects: Sequence[Subject], title: str) -> None:
        """Examine what has no stored result, in parallel; store each result when it arrives.

        Args:
            subjects: the models.
            title: of the forget set, for the progress display.

        Raises:
            Interrupted: a stop was requested; what was examined is kept.
            DivergedError: a model diverged.
        """
        missing = self.missing(subjects)
        if not missing:
            return
        plan = self.session.connect(self.plan, "starting Ray")
        done, stop = len(subjects) - len(missing), self.session.stop
        ended = self.session.progress.stage(
            f"forget set {title}", "models examined", len(subjects), done
        )

        def keep(subject: Subject, result: Examination) -> None:
            self._keep(subject, result)
            ended()

        try:
            collect(_started(plan, missing), keep, lambda: stop.asked is not None)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, DivergedError):
                raise error.cause from error
            raise
        # `collect` also returns at a stop, with results missing.
        stop.check()

    def result(self, subject: Subject) -> Examination:
        """Return a stored result.

        Raises:
            MissingError: there is none.
        """
        entry = self.store.read(KIND, self._payload(subject), command=self.plan.command)
        examined = Examined(metrics=entry.record["metrics"], margins=entry.tensors)
        return Examination(
            examined=examined,
            seconds=float(entry.record["seconds"]),
            # Earlier versions did not note them.
            **{name: entry.record.get(name) for name in TIMED},
        )

    def _keep(self, subject: Subject, result: Examination) -> None:
        examined = result.examined
        self.store.write(
            KIND,
            self._payload(subject),
            tensors=dict(examined.margins),
            record={
                "metrics": dict(examined.metrics),
                "seconds": result.seconds,
                **{name: getattr(result, name) for name in TIMED},
            },
        )

    def _payload(self, subject: Subject) -> dict[str, object]:
        """Return everything that determines a result."""
        references = self.plan.references
        return {
            "model": references.payload(subject.member),
            "splits": self.plan.splits.key,
            # The first original decides which images are near to D_f.
            "near": references.key(references.original),
            "versions": [evaluation.VERSION, examination.VERSION],
            **({"unlearned": self._unlearning(subject.task)} if subject.task else {}),
        }

    def _unlearning(self, task: TestTask) -> Mapping[str, object]:
        asked = {
            name: asdict(task)[name] for name in ("method", "hyperparameters", "seed", "epochs")
        }
        return {**asked, "labels": self.plan.experiment.labels}


def _started(plan: Plan, subjects: Sequence[Subject]) -> dict[object, Subject]:
    """Start Ray's tasks; return what each examines."""
    references, resources = plan.references, plan.experiment.resources
    remote = examine_remotely.options(num_cpus=resources.cpu, num_gpus=resources.gpu)
    numbers = {each.task.original if each.task else 0 for each in subjects}
    # Once for all tasks: as plain arguments they would be pickled for each.
    problems = {number: ray.put(plan.problem(number)) for number in numbers}
    shared = (
        ray.put(references.evaluator("test").images),
        ray.put(plan.problem().original),
    )
    # All at once: waiting tasks make an autoscaler rent nodes, and Ray keeps to the resources.
    return {
        remote.remote(
            problems[each.task.original if each.task else 0],
            *shared,
            replace(each.task, most=len(subjects))
            if each.task
            else references.weights(each.member),
            resources.cpu,
        ): each
        for each in subjects
    }
