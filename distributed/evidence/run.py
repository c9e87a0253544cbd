"""Collects the evidence: models, examinations, and what they show."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.numpy import save_file

from distributed.compare.run import table_of
from distributed.evidence.contenders import Contender
from distributed.evidence.forget_sets import ForgetSet
from distributed.evidence.protocol import Protocol
from distributed.evidence.results import Measured, margins, methods, results
from distributed.plan.cautions import cautions
from distributed.plan.plan import Plan
from distributed.runtime.text import one_line
from distributed.search.examination import Examinations, Subject
from distributed.search.outputs import write_json
from distributed.search.runs import own_run, tags
from distributed.search.session import Session
from distributed.search.trials import fill_references
from distributed.tracking.tags import METHOD, VERDICT
from mixunlearn.atomic import replacing
from mixunlearn.errors import CorruptError, DivergedError
from mixunlearn.signature import signature
from report.evidence import best_state, headline, write_evidence
from report.runs import run_rows
from trainables.examine import Examination

PAGE, TABLE, LEADERBOARD = "evidence.html", "evidence.parquet", "leaderboard.json"
MARGINS, LOOKS = "margins.safetensors", "looks.json"


def run_evidence(protocol: Protocol, session: Session) -> dict[str, Any]:
    """Train and examine what is missing, write all files, and return the leaderboard.

    Raises:
        InputError: a model diverged.
        CorruptError: the list of looks is damaged.
        MixUnlearnError: a training failed, Ray does not answer, or the disk is full.
        Interrupted: a stop was requested; everything finished is kept.
    """
    protocol.folder.mkdir(parents=True, exist_ok=True)
    session.lock_folder(f"evidence of {protocol.name}", protocol.root)
    _read_looks(protocol.root / LOOKS)  # damage is told before hours of training
    measured = [_measured(protocol, each, session) for each in protocol.forget_sets]
    evidence = _leaderboard(protocol, measured)
    _write(protocol, evidence, measured)
    _track(protocol, evidence, session)
    return evidence


def _measured(protocol: Protocol, forget_set: ForgetSet, session: Session) -> Measured:
    """Examine all models of one forget set."""
    plan = forget_set.plan(protocol.plan, protocol.profile).mapped()
    references = plan.references
    _train(plan, session)
    shared = [Subject(member=each) for each in references.members]
    examined = _examined(plan, shared, forget_set.name, session)
    known = dict(zip(references.members, examined, strict=True))
    unlearned, absent = dict[str, Sequence[Examination]](), dict[str, str]()
    for each in protocol.contenders:
        try:
            unlearned[each.name] = _unlearned(protocol, forget_set, each, session)
        except DivergedError as error:  # a result too: the other contenders have theirs
            absent[each.name] = f"diverged on forget set {forget_set.name} ({error.args[0]})"
            session.progress.say(f"{each.name} {absent[each.name]}")
    return Measured(
        forget_set=forget_set,
        margins=plan.margins,
        retrained=[known[each] for each in references.all_references],
        untouched=[known[each] for each in references.all_originals],
        unlearned=unlearned,
        absent=absent,
        retraining=references.evaluator("test").references.retraining,
    )


def _unlearned(
    protocol: Protocol, forget_set: ForgetSet, contender: Contender, session: Session
) -> Sequence[Examination]:
    """Return the models that a contender unlearns from each original."""
    # A plan of its own: methods read different features of the originals.
    plan = forget_set.plan(contender.plan, protocol.profile).mapped()
    _train(plan, session)
    originals = plan.references.all_originals
    tasks = [contender.task(n) for n in range(len(originals))]
    # The first has the device to itself, which is the time to unlearn; all would take too long.
    tasks[:1] = [replace(task, timed=plan.references.recipe) for task in tasks[:1]]
    pairs = zip(originals, tasks, strict=True)
    wanted = [Subject(member=member, task=task) for member, task in pairs]
    return _examined(plan, wanted, f"{forget_set.name}, {contender.name}", session)


def _train(plan: Plan, session: Session) -> None:
    """Train the missing originals and references."""
    fill_references(plan, session)
    # Their checkpoints were in a folder of a study's name, but this is no study.
    with suppress(OSError):
        plan.folder.rmdir()


def _examined(
    plan: Plan, wanted: Sequence[Subject], title: str, session: Session
) -> list[Examination]:
    examinations = Examinations(plan, session)
    examinations.run(wanted, title)
    return [examinations.result(each) for each in wanted]


def _leaderboard(protocol: Protocol, measured: Sequence[Measured]) -> dict[str, Any]:
    plan, profile = protocol.plan, protocol.profile
    return {
        "name": protocol.name,
        "profile": protocol.profile_name,
        "command": protocol.command,
        "folder": str(protocol.folder),
        "data": f"{plan.experiment.data.source}, digest {plan.source.digest}",
        "model": plan.experiment.model.name,
        "labels": plan.experiment.labels,
        "tuned_on": plan.forget_set,
        "originals": profile.originals,
        "references": profile.references,
        "looks": _looks(protocol),
        "left_out": list(protocol.left_out),
        "cautions": cautions(protocol.forget_sets[0].plan(plan, profile)),
        "forget_sets": [
            {
                "name": each.name,
                "words": each.splits.words(plan.dataset.classes),
                "images": len(each.splits.forget_N),
                "key": each.splits.key,
            }
            for each in protocol.forget_sets
        ],
        "margins": dict(plan.margins),
        "methods": methods(protocol.contenders, measured),
    }


def _looks(protocol: Protocol) -> int:
    """Note that these models were looked at on `test`; return how often these images were.

    Whoever looks often enough finds a lucky result, so the number belongs to the verdict. Looks of
    other studies at the same forget sets count as well.
    """
    path, keys = protocol.root / LOOKS, [each.splits.key for each in protocol.forget_sets]
    known = _read_looks(path)
    digest = signature(protocol.content)
    if digest not in [each["digest"] for each in known]:
        date = datetime.now(tz=UTC).isoformat(timespec="seconds")
        look = {"digest": digest, "date": date, "profile": protocol.profile_name}
        known = [*known, {**look, "forget_sets": keys}]
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(known, indent=1) + "\n")
    every = [each for path in protocol.root.parent.glob(f"*/{LOOKS}") for each in _read_looks(path)]
    return len({each["digest"] for each in every if {*keys} & {*each["forget_sets"]}})


def _read_looks(path: Path) -> list[Mapping[str, Any]]:
    if not path.exists():
        return []
    try:
        found = [_whole_look(each) for each in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        remedy = "restore it from a backup; if it is lost, remove it, and looks are counted anew"
        raise CorruptError(f"{path} is damaged ({one_line(error)}): {remedy}") from error
    return found


def _whole_look(look: Any) -> Mapping[str, Any]:  # noqa: ANN401 - read from a file
    if not isinstance(look, dict) or not {"digest", "forget_sets"} <= look.keys():
        raise ValueError("a look needs a digest and its forget sets")
    return look


def _write(protocol: Protocol, evidence: Mapping[str, Any], measured: Sequence[Measured]) -> None:
    """Write the files of the evidence; each is replaced as a whole."""
    folder = protocol.folder
    found = {each["method"]: each["sets"] for each in evidence["methods"]}
    rows = [*run_rows(results(protocol.contenders, measured, found))]
    with replacing(folder / TABLE) as temporary:
        pq.write_table(table_of(rows), temporary)
    with replacing(folder / MARGINS) as temporary:
        save_file(margins(measured), temporary)
    write_json(evidence, folder / LEADERBOARD)
    write_evidence(evidence, folder / PAGE)


def _track(protocol: Protocol, evidence: Mapping[str, Any], session: Session) -> None:
    """Make the evidence's run in MLflow; margins stay here, for they are about single images."""
    experiment = protocol.plan.experiment
    known = {name: text for name, text in tags(protocol.plan).items() if name != METHOD}
    with own_run(
        experiment.tracking,
        protocol.plan.home,
        experiment=experiment.name,
        title=f"evidence {protocol.name} {protocol.profile_name}",
        tags={**known, VERDICT: best_state(evidence) or ""},
        about=headline(evidence),
        folder=protocol.folder,
        session=session,
    ) as (tracker, _):
        for name in (PAGE, TABLE, LEADERBOARD):
            tracker.log_artifact(None, protocol.folder / name)
        tracker.finish_study("complete", _metrics(evidence))


def _metrics(evidence: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"distance/{each['method']}": each["distance"]["value"]
        for each in evidence["methods"]
        if each["distance"]
    }
