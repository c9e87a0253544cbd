"""A home that was damaged, and nights that there are not."""

import pytest

from tests.mistakes import (
    EXPERIMENT,
    STUDY,
    Judge,
    Mistake,
    assert_refused,
    case,
    cut_short,
    empty_folder,
    gone,
    link,
    named,
    put,
    quoted,
    several,
)

FOLDER = f"runs/studies/{STUDY}"
SAVED = f"{FOLDER}/experiment.yaml"
NIGHT = "runs/nightly/plan/2026-11-02/night.json"
AGAIN = "fix it, or remove it: the night is then run again"


def no_date(*dates: str) -> list[Mistake]:
    said = "--date = {!r}: no such date; write it as 2026-11-30"
    return [case(f"nightly plan.yaml --date {quoted(each)}", said.format(each)) for each in dates]


def night(content: str | bytes, reason: str) -> Mistake:
    said = f"{NIGHT} cannot be read ({reason}…); {AGAIN}"
    return case("nightly plan.yaml --history", said, put(NIGHT, content), code=1)


# fmt: off
NIGHTS = [
    *no_date("2026-02-30", "2026-13-01", "0000-01-01", "20261101x", "", "tomorrow",
             "2026-W99-1", "99999-01-01", " 2026-11-01", "2026/11/01",
             "\u0662\u0660\u0662\u0666-\u0661\u0661-\u0660\u0661", "2026-11-01T00:00", "-1"),
    case("nightly plan.yaml --history --date 2026-02-30",
         "--date = '2026-02-30': no such date; write it as 2026-11-30"),
    case("nightly gone.yaml", "PLAN = 'gone.yaml': no such file or directory, and…"),
    case("nightly .", "PLAN = '.': is a directory; `mixunlearn init…"),
    case("nightly experiment.yaml", "PLAN = 'experiment.yaml': is an experiment; use mixunlearn…"),
    case("nightly comparison.yaml", "PLAN = 'comparison.yaml': is a comparison; use mixunlearn c…"),
    case("nightly plan.yaml --history --home gone", "no night in gone/nightly/plan: `mi…", code=1),
    case("nightly plan.yaml --set search.trials=3", "search = {'trials': 3}: unknown key; did y…"),
    case("nightly plan.yaml --set experiments=[]", "experiments = []: must not be empty"),
    several("nightly plan.yaml --set tell.mail.host=x",
            "tell.mail.from = None: missing; a preset…", "tell.mail.to = None: missing; a preset…"),
    case("nightly plan.yaml --force --set seeds=1", "seeds = 1: must be at least 2"),
    night("", ""),
    night("{}", ""),
    night("[]", ""),
    night(b"\xff\x00", ""),
    night("[" * 100_000, ""),
    night('{"schema": "x"}', ""),
    night('{"schema": 99}', "schema 99; this version reads up to 4"),
    night('{"schema": 2, "experiments": 3}', ""),
    night('{"schema": 2, "experiments": [3]}', ""),
    night('{"schema": 3, "plan": "plan", "date": "2027-11-02"}', "it is the record of 2027-11-02"),
    night('{"schema": 3, "plan": "plan", "date": "2026-11-02", "seconds": NaN}',
         "NaN is not JSON"),
    night('{"schema": 3, "plan": "plan", "date": "2026-11-02", "seconds": -Infinity}',
         "-Infinity is not JSON"),
    case("nightly plan.yaml --history",
         "runs/nightly/plan/2026-11-02/night.json cannot be read (Is a directory: runs/nightly/p…",
         empty_folder(NIGHT), code=1),
    case("nightly plan.yaml --history",
         "runs/nightly/plan/2026-11-02/night.json cannot be read (…; fix it, or remove it",
         cut_short(NIGHT), code=1),
    case("nightly plan.yaml --date 2026-11-02",
         "runs/nightly/plan/2026-11-02/night.json cannot be read (…; fix it, or remove it",
         put(NIGHT, "{}"), code=1),
    case("nightly plan.yaml --date 2026-11-03",
         "runs/nightly/plan/2026-11-02/night.json cannot be read (…; fix it, or remove it",
         put(NIGHT, "[]"), code=1),
]
STUDY_FILES = [
    case("report tiny-c5aac3d3",
         "EXPERIMENT = '…/experiment.yaml': empty; `mixunlearn init…", put(SAVED, "")),
    case("export tiny-c5aac3d3",
         "EXPERIMENT = '…/experiment.yaml': not a text file in UTF-8…", put(SAVED, b"\0\xff\xfe")),
    case("sync tiny-c5aac3d3",
         "EXPERIMENT = '…/experiment.yaml': not a mapping of keys to values;…", put(SAVED, "[1]")),
    several("rerun tiny-c5aac3d3/0", "data = None: missing; presets…",
            "model = None: missing; presets…", "task = None: missing; presets…",
            make=put(SAVED, "name: tiny\n")),
    case("report tiny-c5aac3d3",
         f"{SAVED} is a folder, but a file of the study belongs there; move it away",
         empty_folder(SAVED), code=1),
    case("export tiny-c5aac3d3", "STUDY = 'tiny-c5aac3d3': its data or settin…", cut_short(SAVED)),
    case("sync tiny-c5aac3d3",
         "STUDY = 'tiny-c5aac3d3': no such study in runs/studie…", link(SAVED, "experiment.yaml")),
    case("rerun tiny-c5aac3d3/0", "STUDY = 'tiny-c5aac3d3': no such study…", link(SAVED, "gone")),
    case("report tiny-c5aac3d3",
         "EXPERIMENT = '…/experiment.yaml': not valid YAML: line 1: ma…", put(SAVED, "a: " * 500)),
    case("export tiny-c5aac3d3",
         "foo = 1: unknown key; did you mean data.root?", put(SAVED, EXPERIMENT + "foo: 1\n")),
    case("sync tiny-c5aac3d3",
         "EXPERIMENT = '…/experiment.yaml': not a text file in UTF-8; `mixunlearn init…",
         put(SAVED, EXPERIMENT.encode("utf-16"))),
    case("rerun tiny-c5aac3d3/0",
         "STUDY = 'tiny-c5aac3d3': its data or settings have changed an…", put(SAVED, EXPERIMENT)),
    case("ui --dashboard tiny-c5aac3d3",
         "EXPERIMENT = '…/experiment.yaml': empty; `mixunlearn init…", put(SAVED, "")),
    case("report tiny-c5aac3d3",
         "STUDY = 'tiny-c5aac3d3': no such study in runs/studies;…", empty_folder("runs/studies")),
    case("ui --dashboard tiny-c5aac3d3",
         "sqlite:///…/study.db does not answer: f…", put(f"{FOLDER}/study.db", "garbage"), code=1),
    case("ui --dashboard tiny-c5aac3d3",
         f"{FOLDER}/study.db is a folder, but a file of the study belongs there; move it away",
         empty_folder(f"{FOLDER}/study.db"), code=1),
    case("ui", "sqlite:///…/runs/mlflow.db does not a…", put("runs/mlflow.db", "garbage"), code=1),
    case("ui", "sqlite:///…/runs/mlflow.db does not ans…", empty_folder("runs/mlflow.db"), code=1),
    case("ui", "no study was tracked at …/runs/mlflow.db: run `…", gone("runs/mlflow.db"), code=1),
    case("rerun 0123",
         "sqlite:///…/runs/mlflow.db does not answer:…", put("runs/mlflow.db", "garbage"), code=1),
    case("rerun 0123", "sqlite:///…/runs/mlflow.db does…", empty_folder("runs/mlflow.db"), code=1),
    case("rerun 0123", "no study was tracked at …/runs/mlflow.d…", gone("runs/mlflow.db"), code=1),
    case("rerun 0123", "sqlite:///…/runs/mlflow.db does no…", cut_short("runs/mlflow.db"), code=1),
]
# fmt: on


@pytest.mark.timeout(20)
@pytest.mark.parametrize("mistake", [*NIGHTS, *STUDY_FILES], ids=named)
def test_a_mistake_in_a_home_costs_one_line(
    mistake: Mistake, judge: Judge, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(mistake, judge, capfd)
