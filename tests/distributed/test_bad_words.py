"""Mistakes in words: names, numbers, options and addresses, for all commands."""

import os
import shlex
from pathlib import Path

import pytest

from tests.mistakes import (
    STUDY,
    Judge,
    Mistake,
    all_of,
    assert_refused,
    case,
    link,
    matches,
    named,
    quoted,
)

LONG = "x" * 5000
LOOP = link("loop", "loop")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def no_study(command: str, *names: str) -> list[Mistake]:
    trial = "/0" if command == "rerun" else ""
    said = "STUDY = {!r}: no such study in runs/studies; did you mean 'tiny-c5aac3d3'?"
    return [case(f"{command} {quoted(name + trial)}", said.format(name)) for name in names]


def no_trial(*numbers: str) -> list[Mistake]:
    said = f"not a finished trial of {STUDY}; 4 are finished, the last is 3"
    typed = [(f"rerun {quoted(f'{STUDY}/{number}')}", number) for number in numbers]
    return [case(line, f"TRIAL = '{number[:9]}…{said}") for line, number in typed]


def setting(given: str, said: str) -> Mistake:
    return case(f"sweep experiment.yaml --set {quoted(given)}", said)


# fmt: off
STUDIES = [
    *no_study("report", "tiny-c5aac3d4", "tinny", "Tiny-c5aac3d3", "", "..", "*",
              "tiny-c5aac3d3/", " tiny-c5aac3d3", "x"),
    *no_study("export", "tiny\u2010c5aac3d3", "[!]", "%s%n", "a\nb", "[red]x",
              "runs/studies/tiny-c5aac3d3"),
    *no_study("sync", "../studies/tiny-c5aac3d3", "$(cat)", '\udcff', "tiny-c5aac3d3."),
    *no_study("ui", "tinny", "."),
    *no_study("ui --dashboard", ".", "tinny-", "tiny-c5aac3d3 ", ""),
    *no_study("rerun", "tiny-c5aac3d4", "", "tiny-c5aac3d3/", "tiny-c5aac3d3/1",
              "../tiny-c5aac3d3"),
    case("export tiny-c5aac3d3 --home gone", "STUDY = 'tiny-c5aac3d3': no such study in gone/st…"),
    case("sync tiny-c5aac3d3 --home experiment.yaml", "STUDY = 'tiny-c5aac3d3': no such study i…"),
]
TRIALS = [
    *no_trial("", "-1", "4", "1.5", "0x1", "00", "\u0661", "\u00b2", " 1",
              "99999999999999999999", "0_1", LONG),
    case("rerun ''", "RUN_ID = '': no such run at sqlite:///…/runs/mlflow.db; `mixunlearn ui` s…"),
    case("rerun ' '", "RUN_ID = ' ': no such run at sqlite:///…/runs/mlflow.db; `mixunlearn ui`…"),
    case("rerun zzz", "RUN_ID = 'zzz': no such run at sqlite:///…/runs/mlflow.db; `mixunlearn u…"),
    case("rerun 00000000000000000000000000000000",
         "RUN_ID = '00000000000000000000000000000000': no such run at sqlite:///…/runs/mlflow.d…"),
    case("rerun \"'; DROP TABLE runs;--\"", "RUN_ID = \"'; DROP TABLE runs;--\": no such run at…"),
    case("rerun tiny-c5aac3d3/0 --set search.epochs=9",
         "STUDY = 'tiny-c5aac3d3': its data or settings have changed and now make another study…"),
    case("rerun tiny-c5aac3d3/0 --set resources.cpu=9999",
         "resources.cpu = 9999.0: this machine has …; ask for less"),
    case("rerun tiny-c5aac3d3/0 --set resources.cpu=0", "resources.cpu = 0: must be at least 0.…"),
    case("rerun abc --set tracking.uri=http://", "tracking.uri = 'http://': must be an address…"),
    case("rerun abc --set tracking.uri=sqlite://", "tracking.uri = 'sqlite://': must be an addr…"),
    case("rerun abc --set tracking.uri=sqlite:////",
         "tracking.uri = 'sqlite:////': must be an address like http://HOST:5000, sqlite:///FOL…"),
    case("rerun abc --home gone", "no study was tracked at …/gone/mlflow.db: run `mixun…", code=1),
    case("rerun abc --set tracking.uri=sqlite:///gone.db",
         "no study was tracked at …/gone.db: run `mixunlearn sweep EXPERIMENT`", code=1),
    case("rerun abc --set tracking.uri=sqlite:///experiment.yaml",
         "sqlite:///…/experiment.yaml does not answer: file is not a database", code=1),
    case("rerun abc --set tracking.uri=sqlite:///runs", "sqlite:///…/runs does not answ…", code=1),
    case("rerun abc --set tracking.uri=http://127.0.0.1:9/",
         "http://127.0.0.1:9/ does not answer: Connection refused", code=1),
    case("rerun abc",
         "MLFLOW_TRACKING_URI = 'nonsense': must be an address…", MLFLOW_TRACKING_URI="nonsense"),
]
OUTPUTS = [
    case("report tiny-c5aac3d3 --output runs", "--output = 'runs': cannot be written (Is a dire…"),
    case("report tiny-c5aac3d3 --output experiment.yaml/x.html",
         "--output = 'experiment.yaml/x.html': cannot be written (File exists); choose another…"),
    case("report tiny-c5aac3d3 --output ''", "--output = '.': cannot be written (Is a directory…"),
    case("report tiny-c5aac3d3 --output ~nobody-/x", "--output = '~nobody-/x': cannot be writte…"),
    case("export tiny-c5aac3d3 --output .", "--output = '.': cannot be written (Is a directory)…"),
    case("export tiny-c5aac3d3 --output experiment.yaml/x",
         "--output = 'experiment.yaml/x': cannot be written (File exists); choose another file"),
    case("export tiny-c5aac3d3 --output ~nobody-/x", "--output = '~nobody-/x': cannot be writte…"),
    case("export tiny-c5aac3d3 --output /dev/null/x", "--output = '/dev/null/x': cannot be writ…"),
    case("export tiny-c5aac3d3 --output /proc/x", "--output = '/proc/x': cannot be written (No…"),
    case("export tiny-c5aac3d3 --format latex --output runs/",
         "--output = 'runs': cannot be written (Is a directory); choose another file"),
    case(f"report tiny-c5aac3d3 --output {LONG}", "--output = '…cannot be written (File name…"),
    case(f"export tiny-c5aac3d3 --output {LONG}", "--output = '…cannot be written (File name…"),
    case("report tiny-c5aac3d3 --output loop", "--output = 'loop': cannot be written (Sym…", LOOP),
    case("export tiny-c5aac3d3 --output loop/x", "--output = 'loop/x': cannot be written…", LOOP),
    case("report tiny-c5aac3d3 --output pipe", "--output = 'pipe': cannot be written (Not…", pipe),
    case("export tiny-c5aac3d3 --output pipe", "--output = 'pipe': cannot be written (Not…", pipe),
    case("export tiny-c5aac3d3 --output link",
         "--output = 'link': cannot be written (Not a regul…", all_of(pipe, link("link", "pipe"))),
    case("export tiny-c5aac3d3 --format xlsx", "--format = 'xlsx': unknown; did you mean 'latex…"),
    case("export tiny-c5aac3d3 --format ''", "--format = '': unknown; did you mean 'parquet'?"),
    case("export tiny-c5aac3d3 --format cvs", "--format = 'cvs': unknown; did you mean 'csv'?"),
    case("export tiny-c5aac3d3 --format ' csv'", "--format = ' csv': unknown; did you mean 'csv…"),
    case("export tiny-c5aac3d3 --format parquet", "--format = 'parquet': is not text; name a fi…"),
]
OTHERS = [
    case("report tiny-c5aac3d3 --set search.trials=0", "search.trials = 0: must be at least 1"),
    case("report tiny-c5aac3d3 --set search.epochs=3", "STUDY = 'tiny-c5aac3d3': its data or se…"),
    case("report tiny-c5aac3d3 --set name=other", "STUDY = 'tiny-c5aac3d3': its data or setting…"),
    case("report tiny-c5aac3d3 --set method=scrub", "STUDY = 'tiny-c5aac3d3': its data or setti…"),
    case("report tiny-c5aac3d3 --set a.b.c.d=1", "a = {'b': {'c': {'d': 1}}}: unknown key; did…"),
    case("report tiny-c5aac3d3 --home ~nobody-/x", "--home = '~nobody-/x': no such user; choose…"),
    case("export tiny-c5aac3d3 --set data.seed=1", "STUDY = 'tiny-c5aac3d3': its data or settin…"),
    case("export tiny-c5aac3d3 --set nonsense", "--set = 'nonsense': write key=value, for examp…"),
    case("export tiny-c5aac3d3 --set task.classes=[1]",
         "STUDY = 'tiny-c5aac3d3': its data or settings have changed and now make another study…"),
    case("export tiny-c5aac3d3 --set =", "--set = '=': write key=value, for example search.tria…"),
    case("sync tiny-c5aac3d3 --set search.seed=1", "STUDY = 'tiny-c5aac3d3': its data or settin…"),
    case("sync tiny-c5aac3d3 --set tracking.uri=x", "tracking.uri = 'x': must be an address lik…"),
    case("sync tiny-c5aac3d3 --set labels=agnostic", "labels = 'agnostic': finetune needs label…"),
    case("sync tiny-c5aac3d3 --set task=class", "task = 'class': must be a mapping, for example…"),
    case("sync tiny-c5aac3d3",
         "MLFLOW_TRACKING_URI = 'nonsense': must be an address…", MLFLOW_TRACKING_URI="nonsense"),
    case("report x", "--home = '~nobody-/x': no such user; choose…", MIXUNLEARN_HOME="~nobody-/x"),
    case("data digits",
         "--home = 'experiment.yaml/x': cannot write in ex…", MIXUNLEARN_HOME="experiment.yaml/x"),
    case("ui",
         "MLFLOW_TRACKING_URI = 'nonsense': must be an address…", MLFLOW_TRACKING_URI="nonsense"),
    case("doctor",
         "MLFLOW_TRACKING_URI = 'mysql://': must be an address…", MLFLOW_TRACKING_URI="mysql://"),
    case("sweep experiment.yaml",
         "--address = 'nonsense': must be HOST:PORT, for example 10.0.0…", RAY_ADDRESS="nonsense"),
    case("compare comparison.yaml", "--address = 'ray://': must be HOST:P…", RAY_ADDRESS="ray://"),
    case("nightly plan.yaml",
         "--address = 'http://127.0.0.1:9': must be HOST:PORT…", RAY_ADDRESS="http://127.0.0.1:9"),
]
HOMES = [
    case("sweep experiment.yaml --dry-run --home loop", "--home = 'loop': its links lead…", LOOP),
    case("data digits --home loop", "--home = 'loop': its links lead in a circle; choose…", LOOP),
    case("report tiny-c5aac3d3 --home loop", "--home = 'loop': its links lead in a circle…", LOOP),
    case("doctor --home loop", "--home = 'loop': its links lead in a circle; choose anoth…", LOOP),
    case("ui --home loop", "--home = 'loop': its links lead in a circle; choose another f…", LOOP),
    case("references experiment.yaml --home loop/x", "--home = 'loop/x': its links lead i…", LOOP),
    case("nightly plan.yaml --home loop", "--home = 'loop': its links lead in a circle; c…", LOOP),
    case("sweep experiment.yaml --dry-run --set storage.files=loop",
         "storage.files = 'loop': Symlink loop from '…/loop'; correct the path", LOOP),
    case("sweep experiment.yaml --set storage.files=~nobody-/x",
         "storage.files = '~nobody-/x': Could not determine home directory.; correct the path"),
    case("doctor --set storage.files=~nobody-/x", "storage.files = '~nobody-/x': Could not dete…"),
    case("compare comparison.yaml --home experiment.yaml",
         "--home = 'experiment.yaml': cannot write in experiment.yaml (Not a directory); choose…"),
    case("compare comparison.yaml --home ~nobody-/x", "--home = '~nobody-/x': no such user; cho…"),
]
ADDRESSES = [
    case("sweep experiment.yaml --address :6379", "--address = ':6379': must be HOST:PORT, for…"),
    case("sweep experiment.yaml --address host:", "--address = 'host:': must be HOST:PORT, for…"),
    case("sweep experiment.yaml --address 1.2.3.4:99999",
         "--address = '1.2.3.4:99999': must be HOST:PORT, for example 10.0.0.1:6379"),
    case("sweep experiment.yaml --address http://127.0.0.1:9",
         "--address = 'http://127.0.0.1:9': must be HOST:PORT, for example 10.0.0.1:6379"),
    case("references experiment.yaml --address ray://", "--address = 'ray://': must be HOST:POR…"),
    case("references experiment.yaml --address 'ray://:1'",
         "--address = 'ray://:1': must be HOST:PORT, for example 10.0.0.1:6379"),
    case("references experiment.yaml --address '[::1'", "--address = '[::1': must be HOST:PORT,…"),
    case("compare comparison.yaml --address nonsense", "--address = 'nonsense': must be HOST:PO…"),
    case("compare comparison.yaml --address 127.0.0.1:9",
         "--address = '127.0.0.1:9': connection refused; start it (ray start --head), o…", code=1),
    case("nightly plan.yaml --address nonsense", "--address = 'nonsense': must be HOST:PORT, fo…"),
    case("nightly plan.yaml --date 2026-11-02 --address host:x",
         "--address = 'host:x': must be HOST:PORT, for example 10.0.0.1:6379"),
    case("submit --status x --address nonsense", "--address = 'nonsense': must be the address…"),
    case("submit --status x --address ftp://127.0.0.1",
         "--address = 'ftp://127.0.0.1': must be the address…"),
    case("submit --stop x --address http://", "--address = 'http://': must be the address…"),
    case("submit --stop x --address http://127.0.0.1:0",
         "--address = 'http://127.0.0.1:0': must be the address…"),
    case("submit --status x --address http://127.0.0.1:99999",
         "--address = 'http://127.0.0.1:99999': must be the address…"),
    case("submit --status x --address http://127.0.0.1:x",
         "--address = 'http://127.0.0.1:***': must be the address…"),
    case("submit --stop x --address http://[::1", "--address = 'http://[::1': must be the addre…"),
    case("submit --status x --address 127.0.0.1:9", "--address = '127.0.0.1:9': must be the add…"),
    case("submit --status x --address 'http://a b'", "--address = 'http://a b': must be the add…"),
    case("submit --status x --address 'http://127.0.0.1:9/\n'",
         "--address = 'http://127.0.0.1:9/\\n': must be the address…"),
    case("submit --status x --address ray://127.0.0.1:9",
         "--address = 'ray://127.0.0.1:9': must be the address…"),
    case("submit --status x --address http://127.0.0.1:9",
         "--address = 'http://127.0.0.1:9': connection refused; start the cluster, or t…", code=1),
    case("submit --stop '' --address https://127.0.0.1:9",
         "--address = 'https://127.0.0.1:9': connection refused; start the cluster, or…", code=1),
    case("submit --status x",
         "--address = 'nonsense': must be the address…", RAY_API_SERVER_ADDRESS="nonsense"),
    case("submit --status x",
         "address = 'http://127.0.0.1:9': connection refused; start the cluster, or the tunnel t…",
         code=1, RAY_ADDRESS="http://127.0.0.1:9"),
    case("submit", "submit = '': give one of these: an experiment to submit, --status JOB, or -…"),
    case("submit --trials 3", "submit = '': give one of these: an experiment to submit, --statu…"),
    case("submit gone.yaml", "EXPERIMENT = 'gone.yaml': no such file or directory, and…"),
    case("submit .", "EXPERIMENT = '.': is a directory; `mixunlearn init…"),
    case("submit loop.yaml", "EXPERIMENT = 'loop.yaml': no such file or directory, and…"),
    case("submit experiment.yaml --status x", "submit = 'EXPERIMENT --status': give one of thes…"),
    case("submit --status x --stop y", "submit = '--status --stop': give one of these: an exper…"),
    case("submit --status '' --stop ''", "submit = '--status --stop': give one of these: an exp…"),
    case("submit experiment.yaml --trials 0", "search.trials = 0: must be at least 1"),
    case("submit experiment.yaml --set foo", "--set = 'foo': write key=value, for example searc…"),
    case("submit experiment.yaml --set search.trials=x", "search.trials = 'x': must be a whole…"),
    case("submit comparison.yaml", "EXPERIMENT = 'comparison.yaml': is a comparison; use mixunl…"),
    case("sweep plan.yaml", "EXPERIMENT = 'plan.yaml': is a plan of nights; use mixunlearn nigh…"),
    case("ui --home gone", "no study was tracked at …/gone/mlflow.db: run `mixunlearn s…", code=1),
    case("ui --home experiment.yaml", "no study was tracked at …/experiment.yaml/mlflow…", code=1),
    case("ui --set tracking.uri=x", "tracking.uri = 'x': must be an address like http://HOST:50…"),
    case("ui --set foo.bar=1", "foo = {'bar': 1}: unknown key; did you mean data.root?"),
    case("ui --set tracking.uri=sqlite:///experiment.yaml",
         "sqlite:///…/experiment.yaml does not answer: file is not a database", code=1),
    case("ui --set tracking.uri=sqlite:///gone.db", "no study was tracked at …/gone.db:…", code=1),
    case("ui --set tracking.uri=sqlite:///runs", "sqlite:///…/runs does not answer: una…", code=1),
    case("ui --dashboard tiny-c5aac3d3 --set storage.study=mysql://x/y",
         "storage.study = 'mysql://x/y': must be an address like postgresql://USER@HOST/NAME or…"),
    case("ui --dashboard tiny-c5aac3d3 --set storage.study=sqlite:///experiment.yaml",
         "sqlite:///…/experiment.yaml does not answer: file is not a database", code=1),
    case("doctor --home ~nobody-/x", "--home = '~nobody-/x': no such user; choose another folder"),
    case("doctor --set storage.study=x", "storage.study = 'x': must be an address like postgres…"),
    case("doctor --set storage.study=mysql://h/x",
         "storage.study = 'mysql://h/x': must be an address like postgresql://USER@HOST/NAME or…"),
    case("doctor --set tracking.uri=http://", "tracking.uri = 'http://': must be an address lik…"),
    case("doctor --set tracking.storage=floppy://x",
         "tracking.storage = 'floppy://x': must be a folder or an address that starts with file…"),
    case("doctor --set tracking=3", "tracking = 3: must be a mapping of keys to values"),
    case("doctor --set storage=[]", "storage = []: must be a mapping of keys to values"),
    case("doctor --set resources.gpu=1.5", "resources.gpu = 1.5: must be a whole number, or 0.0…"),
]
OPTIONS = [
    setting("search.sampler=null", "search.sampler = None: must be 'tpe', 'random', 'cmaes' or…"),
    setting("search.start=[{lr: 9}]", "search.start.0 = {'lr': 9}: search.space.lr = 9: must li…"),
    setting("search.start=[3]", "search.start.0 = 3: must be a mapping, for example {lr: 1e-4}"),
    setting("search.start={lr: 1}", "search.start = {'lr': 1}: must be a list, for example [0]"),
    setting("search.start=[{lrr: 1}]", "search.start.0 = {'lrr': 1}: search.space.lrr = 1: no s…"),
    setting("search.start=[{lr: [1e-4, 1e-3]}]",
         "search.start.0.lr = [0.0001, 0.001]: must be one of the values that search.space allo…"),
    setting("search.objective=3", "search.objective = 3: must be text; put it in quotes"),
    setting("labels=[aware]", "labels = ['aware']: must be 'aware' or 'agnostic'"),
    setting("labels=Aware", "labels = 'Aware': must be 'aware' or 'agnostic'"),
    setting("method=null", "method = None: must be text; put it in quotes"),
    setting("method=[finetune]", "method = ['finetune']: must be text; put it in quotes"),
    setting("method=f\u0456netune", "method = 'f\u0456netune': unknown; did you mean 'finetune'?"),
    setting("model=cnn", "model = 'cnn': must be a mapping of keys to values"),
    setting("model.name=null", "model.name = None: must be text; put it in quotes"),
    setting("model.name=cnn:", "model.name = {'cnn': None}: must be text; put it in quotes"),
    setting("model.name=:cnn", "model.name = ':cnn': cannot be imported (Empty module name)"),
    setting("model.name=os:path", "model.name = 'os:path': cannot be built for images of 1×8×8…"),
    setting("model.name=os:nope", "model.name = 'os:nope': cannot be imported (module 'os' has…"),
    setting("model.name=a:b:c", "model.name = 'a:b:c': cannot be imported (No module named 'a')"),
    setting("model.name=torchvision:os", "model.name = 'torchvision:os': unknown; did you mean…"),
    setting("model.name=../x:y", "model.name = '../x:y': cannot be imported (the 'package' argu…"),
    setting("model.width=1.5", "model.width = 1.5: must be a whole number, for example 8"),
    setting("model.weights=runs", "model.weights = 'runs': is not a regular file"),
    setting("data.source=null", "data.source = None: must be text; put it in quotes"),
    setting("data.limit=[]", "data.limit = []: must be a mapping of keys to values"),
    setting("resources.cpu=-1", "resources.cpu = -1: must be at least 0.01"),
    setting("resources.cpu=x", "resources.cpu = 'x': must be a number, for example 0.5"),
    setting("resources.gpu=0.001", "resources.gpu = 0.001: must be a whole number, or 0.01 to 1…"),
    setting("resources.trial_seconds=-1", "resources.trial_seconds = -1: must be above 0"),
    setting("resources=1", "resources = 1: must be a mapping of keys to values"),
    setting("references=3", "references = 3: must be a mapping of keys to values"),
    setting("references.batch=1.5", "references.batch = 1.5: must be a whole number, for exampl…"),
    setting("references.weight_decay=.inf", "references.weight_decay = inf: must be a finite nu…"),
    setting("name=-x", "name = '-x': must be letters, digits and . _ - and start with a letter…"),
    setting("name=t\u00efny", "name = 't\u00efny': must be letters, digits and . _ - and start…"),
    setting("name=[red]", "name = ['red']: must be text; put it in quotes"),
    setting("search.report_seeds=2", "search.report_seeds = 2: must be at least 3"),
    setting("storage=x", "storage = 'x': must be a mapping of keys to values"),
    setting("tracking=x", "tracking = 'x': must be a mapping of keys to values"),
    setting("tracking.uri=3", "tracking.uri = 3: must be text; put it in quotes"),
    setting("storage.files=3", "storage.files = 3: must be text; put it in quotes"),
    setting(".trials=x", "--set = '.trials=x': write key=value, for example search.trials=8"),
    setting('name="a', "--set = 'name=\"a': not valid YAML: line 1: while scanning a quoted s…"),
    setting("name={", "--set = 'name={': not valid YAML: line 1: while parsing a flow node, e…"),
    setting("name=!!python/object:os.x {}",
         "--set = 'name=!!python/object:os.x {}': not valid YAML: line 1: could not determine…"),
    setting("name=*a", "--set = 'name=*a': not valid YAML: line 1: found undefined alias 'a';…"),
    setting("name=%", "--set = 'name=%': not valid YAML: line 1: while scanning a directive,…"),
    setting("name=@x", "--set = 'name=@x': not valid YAML: line 1: while scanning for the nex…"),
    setting("name=: x", "--set = 'name=: x': not valid YAML: line 1: while parsing a block ma…"),
    setting("search.trials=\u0663", "search.trials = '\u0663': must be a whole number, for exam…"),
    setting("search.trials=1 2", "search.trials = '1 2': must be a whole number, for example 8"),
    setting("search.trials=1e2", "search.trials = 100.0: must be a whole number, for example 8"),
    setting("search.trials=08", "search.trials = '08': must be a whole number, for example 8"),
    setting("search.trials=~", "search.trials = None: must be a whole number, for example 8"),
]
# What Typer refuses: how the command is used, and what is wrong.
USAGE = {
    "report": "Missing argument 'STUDY'", "export": "Missing argument 'STUDY'",
    "sync": "Missing argument 'STUDY'", "rerun": "Missing argument 'RUN_ID|STUDY/TRIAL'",
    "nightly": "Missing argument 'PLAN'", "compare": "Missing argument 'COMPARISON'",
    "evidence": "Missing argument 'FILE|STUDY'", "record": "Missing argument 'verify|list'",
    "references": "Missing argument 'EXPERIMENT'", "report --": "Missing argument 'STUDY'",
    "export a b": "unexpected extra argument", "sync a b": "unexpected extra argument",
    "doctor a b": "unexpected extra argument", "ui a b": "unexpected extra argument",
    "export a --format": "requires an argument", "export a --output": "requires an argument",
    "nightly a --date": "requires an argument", "compare a --only": "requires an argument",
    "submit --status": "requires an argument", "sweep a --set": "requires an argument",
    "sweep a --home": "requires an argument", "ui --dashboard": "requires an argument",
    "report a --format csv": "No such option", "sync a --trials 3": "No such option",
    "references a --promote": "No such option", "data a --dry-run": "No such option",
    "sweep -x a": "No such option", "nightly a --histroy": "No such option",
    "ui --port x": "value for '--port'", "ui --port 1.5": "value for '--port'",
    "ui --port ''": "value for '--port'", "ui --port 0": "value for '--port'",
    "ui --port -1": "value for '--port'", "ui --port 65536": "value for '--port'",
    "ui --dashboard a --port 99999999999999999999": "value for '--port'",
    "sweep a --trials 1e3": "value for '--trials'",
    "submit a --trials 0x3": "value for '--trials'",
    "sweep a --promote=yes": "does not take a value",
    "sweep a --json=1": "does not take a value", "sweep a --dry-run=no": "does not take a value",
    "sweeep a": "No such command", "Sweep a": "No such command", "''": "No such command",
    "sweep,a": "No such command",
}
# What `doctor` finds: the check that fails, and its remedy.
FINDINGS = {
    "--address nonsense": "ray cluster: …", "--address 127.0.0.1:99999": "ray cluster: …",
    "--address ray://": "ray cluster: …", "--address 127.0.0.1:9": "ray cluster: …",
    "--home experiment.yaml": "home: …", "--home experiment.yaml/x": "disk: …",
    "--set storage.files=s3://": "files: …", "--set storage.files=floppy://x": "files: …",
    "--set storage.files=experiment.yaml": "files: …",
    "--set tracking.uri=sqlite:///experiment.yaml": "tracking: …",
    "--set tracking.uri=http://127.0.0.1:9": "tracking: …",
    "--set storage.study=sqlite:///plan.yaml": "study: …",
}
# fmt: on


@pytest.mark.timeout(20)
@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
@pytest.mark.parametrize(
    "mistake", [*STUDIES, *TRIALS, *OUTPUTS, *OTHERS, *HOMES, *ADDRESSES, *OPTIONS], ids=named
)
def test_a_mistake_in_words_costs_one_line(
    mistake: Mistake, judge: Judge, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(mistake, judge, capfd)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("line", "said"), USAGE.items(), ids=ascii)
def test_a_command_that_there_is_not_is_explained(
    line: str, said: str, judge: Judge, capfd: pytest.CaptureFixture[str]
) -> None:
    assert judge.run(tuple(shlex.split(line))) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert said in " ".join(printed.err.replace("│", "").split())
    assert "Traceback" not in printed.err


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("options", "found"), FINDINGS.items(), ids=ascii)
def test_the_doctor_tells_every_failure_with_its_remedy(
    options: str, found: str, judge: Judge, capfd: pytest.CaptureFixture[str]
) -> None:
    assert judge.run(("doctor", *shlex.split(options))) == 1
    printed = capfd.readouterr()
    assert printed.err == ""
    failed = [line for line in printed.out.splitlines() if line.startswith("fail ")]
    assert any(matches(line, f"fail {found} → …") for line in failed), printed.out
