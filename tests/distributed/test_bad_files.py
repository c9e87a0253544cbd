"""Mistakes in files that users write: plans, comparisons, lists of ids, images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.mistakes import (
    COMPARISON,
    PLAN,
    Judge,
    Mistake,
    all_of,
    assert_refused,
    case,
    gone,
    link,
    named,
    put,
    quoted,
    several,
)

LONG = "x" * 5000
LOOP = link("loop", "loop")


def images(folder: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in ("a", "b"):
        place = folder / "img" / "train" / name
        place.mkdir(parents=True)
        for number in range(12):
            Image.fromarray(pixels + number).save(place / f"{number}.png")


def plan(line: str, *said: str) -> Mistake:
    return whole_plan(f"{PLAN}{line}\n", *said)


def whole_plan(text: str, *said: str) -> Mistake:
    return several("nightly plan.yaml", *said, make=put("plan.yaml", text))


def comparison(*said: str, **changes: object) -> Mistake:
    text = yaml.safe_dump({**yaml.safe_load(COMPARISON), **changes})
    return several("compare comparison.yaml --dry-run", *said, make=put("comparison.yaml", text))


def cells(option: str, said: str) -> Mistake:
    return case(f"compare comparison.yaml --dry-run {option}", said)


def ids(given: str, said: str, make: Callable[[Path], None] | None = None) -> Mistake:
    task = quoted(f"task={{kind: ids, ids: {given}}}")
    return case(f"sweep experiment.yaml --set {task}", f"task.ids = {said}", make)


def ids_file(content: str | bytes, said: str) -> Mistake:
    return ids("ids.txt", said, put("ids.txt", content))


# fmt: off
PLANS = [
    plan("seeds: x", "seeds = 'x': must be a whole number, for example 8"),
    plan("draws: 0", "draws = 0: must be at least 1"),
    plan("window: 4", "window = 4: must be at least 5"),
    plan("margin: 0", "margin = 0: must be above 0"),
    plan("margin: .nan", "margin = nan: must be a finite number"),
    plan("margin: .inf", "margin = inf: must be a finite number"),
    plan("error: 0", "error = 0: must be above 0"),
    plan("error: 0.6", "error = 0.6: must be at most 0.5"),
    plan("time_zone: Mars/X", "time_zone = 'Mars/X': no such time zone; write one as Europe/Par…"),
    plan("time_zone: ../../etc/passwd", "time_zone = '../../etc/passwd': no such time zone; wri…"),
    plan("time_zone: /etc/localtime", "time_zone = '/etc/localtime': no such time zone; write o…"),
    plan("time_zone: ''", "time_zone = '': no such time zone; write one as Europe/Paris or UTC"),
    plan("time_zone: 1", "time_zone = 1: must be text; put it in quotes"),
    plan("time_zone: America", "time_zone = 'America': no such time zone; write one as Europe/P…"),
    plan("missed: never", "missed = 'never': must be 'skip' or 'catch_up'"),
    plan("promote: maybe", "promote = 'maybe': must be true or false"),
    plan("promote: 1", "promote = 1: must be true or false"),
    plan("keep: 0", "keep = 0: must be at least 1"),
    plan("renew: -1", "renew = -1: must be at least 1"),
    plan("budget: {trials: -1}", "budget.trials = -1: must be at least 0"),
    plan("budget: {hours: 0}", "budget.hours = 0: must be above 0"),
    plan("budget: {hours: .inf}", "budget.hours = inf: must be a finite number"),
    plan("budget: 8", "budget = 8: must be a mapping of keys to values"),
    plan("budget: {trails: 3}", "budget.trails = 3: unknown key; did you mean 'trials'?"),
    plan("tell: {when: never}", "tell.when = 'never': must be 'news' or 'always'"),
    plan("tell: {file: ''}", "tell.file = '': must be one line of text, and not empty"),
    plan('tell: {file: "a\\nb"}', "tell.file = 'a\\nb': must be one line of text, and not empty"),
    plan("tell: {webhook: http://x}", "tell.webhook = 'http://x': must be true or false"),
    plan("tell: {webhook: true}", "tell.webhook = True: set MIXUNLEARN_WEBHOOK to its address,…"),
    plan("tell: {mail: []}", "tell.mail = []: must be a mapping of keys to values"),
    plan("tell: {mail: {host: h}}", "tell.mail.from = None: missing; a preset shows…",
         "tell.mail.to = None: missing; a preset shows…"),
    plan("tell: {mail: {host: h, from: a, to: [b@c]}}", "tell.mail.from = 'a': must be an addre…"),
    plan("tell: {mail: {host: 'h:25', from: a@b, to: [b@c]}}",
         "tell.mail.host = 'h:25': must be a host like mail.example.org; the port has a key"),
    plan("tell: {mail: {host: h, from: a@b, to: []}}", "tell.mail.to = []: must not be empty"),
    plan("tell: {mail: {host: h, from: a@b, to: [b@c], port: 0}}",
         "tell.mail.port = 0: must be at least 1"),
    plan("tell: {mail: {host: h, from: a@b, to: [b@c], port: 65536}}",
         "tell.mail.port = 65536: must be at most 65535"),
    plan("tell: {mail: {host: h, from: a@b, to: [b@c], user: ''}}",
         "tell.mail.user = '': must be one line of text, and not empty"),
    plan('tell: {mail: {host: h, from: "a@b\\nBcc: x@y", to: [b@c]}}',
         "tell.mail.from = 'a@b\\nBcc: x@y': must be an address like ann@example.org, in ASCII"),
    plan("tell: {mail: {host: h, from: a@b, to: [b@c], user: u}}",
         "tell.mail.user = 'u': set MIXUNLEARN_SMTP_PASSWORD, or leave user out"),
    plan("seeds: 3\nseeds: 4", "PLAN = 'plan.yaml': not valid YAML: line 4: 'seeds' is given tw…"),
    whole_plan("", "PLAN = 'plan.yaml': empty; `mixunlearn init…"),
    whole_plan("- 1", "PLAN = 'plan.yaml': not a mapping of keys to values; `mixunlearn init…"),
    whole_plan("name: plan\nexperiments: []\n", "experiments = []: must not be empty"),
    whole_plan("name: plan\nexperiments: experiment.yaml\n",
         "experiments = 'experiment.yaml': must be a list, for example [0]"),
    whole_plan("name: plan\nexperiments: [experiment.yaml, experiment.yaml]\n",
         "experiments = ['tiny', 'tiny']: two have the same name; give each its own"),
    whole_plan("name: plan\nexperiments: [gone.yaml]\n",
         "EXPERIMENT = 'gone.yaml': no such file or directory, and…"),
    whole_plan("name: plan\nexperiments: [.]\n", "EXPERIMENT = '.': is a directory; `mixunl…"),
    whole_plan("name: plan\nexperiments: [1]\n", "experiments.0 = 1: must be text; put it in qu…"),
    whole_plan("name: plan\nexperiments: [null]\n", "experiments.0 = None: must be text; put it…"),
    whole_plan("name: a/b\nexperiments: [experiment.yaml]\n", "name = 'a/b': must be letters, d…"),
    whole_plan("name: ..\nexperiments: [experiment.yaml]\n", "name = '..': must be letters, dig…"),
    whole_plan("name: ''\nexperiments: [experiment.yaml]\n", "name = '': must be letters, digit…"),
    whole_plan('name: "plan\\n"\nexperiments: [experiment.yaml]\n',
         "name = 'plan\\n': must be letters, digits and . _ - and start with a letter or digit"),
    whole_plan("name: plan\nexperiments: ['~nobody-/x.yaml']\n",
         "EXPERIMENT = '~nobody-/x.yaml': no such file or directory, and…"),
]
COMPARISONS = [
    comparison("methods = {}: must not be empty", methods={}),
    comparison("methods = []: must be a mapping, for example {lr: 1e-4}", methods=[]),
    comparison("methods.fine = None: unknown; did you mean 'finetune'?", methods={"fine": None}),
    comparison("methods.doing nothing = None: a row of every table has this name; choose…",
               methods={"doing nothing": None}),
    comparison("methods.finetune = 3: must be a mapping of keys to val…", methods={"finetune": 3}),
    comparison("methods = 'a,b': must be one line with…", methods={"a,b": {"method": "finetune"}}),
    comparison("methods = 'a=b': must be one line with…", methods={"a=b": {"method": "finetune"}}),
    comparison("methods = ' a': must be one line withou…", methods={" a": {"method": "finetune"}}),
    comparison("methods = '': must not be empty", methods={"": {"method": "finetune"}}),
    comparison("methods = 'a\\x07b': must be one li…", methods={"a\x07b": {"method": "finetune"}}),
    comparison(
         "methods = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx': must have a…",
         methods={"x" * 61: {"method": "finetune"}}),
    comparison(
         "search.space.lrr = 1: no such parameter;…", methods={"finetune": {"space": {"lrr": 1}}}),
    comparison(
         "methods.finetune.space = [1]: must be a mapping…", methods={"finetune": {"space": [1]}}),
    comparison("methods.finetune.lr = 1: unknown key; did you…", methods={"finetune": {"lr": 1}}),
    comparison("tasks = {}: must not be empty", tasks={}),
    comparison("task.kind = 'nope': must be one of class, data,…", tasks={"c": {"kind": "nope"}}),
    comparison("task.kind = None: must be one of class, data, random, ids, noi…", tasks={"c": {}}),
    comparison("tasks.c = 3: must be a mapping, for example {lr: 1e-4}", tasks={"c": 3}),
    comparison(
         "task.classes = 77: classes are the n…", tasks={"c": {"kind": "class", "classes": [77]}}),
    comparison(
         "task.fraction = 0: must be above 0", tasks={"c": {"kind": "random", "fraction": 0}}),
    comparison("data = {}: must not be empty", data={}),
    comparison("data = None: missing; presets show it: mixu…",
         "model = None: missing; presets show it: mixu…", data={"d": {}}),
    comparison("data.d = None: must be a mapping, for example {lr: 1e-4}", data={"d": None}),
    comparison(
         "data.d.search = {'trials': 1}: not allowed her…", data={"d": {"search": {"trials": 1}}}),
    comparison(
         "data.source = 'nope': unknown; did you mean 'parquet'?",
         data={"d": {"data": {"source": "nope"}, "model": {"name": "cnn"}}}),
    comparison("labels = []: must not be empty", labels=[]),
    comparison("labels = 'aware': must be a list, for example [0]", labels="aware"),
    comparison("labels.0 = 'maybe': must be 'aware' or 'agnostic'", labels=["maybe"]),
    comparison("labels = ['aware', 'aware']: lists a value twice; li…", labels=["aware", "aware"]),
    comparison(
         "methods = ['finetune']: none fits: needs labels",
         labels=["agnostic"], methods={"finetune": None}),
    comparison("seeds = []: must not be empty", seeds=[]),
    comparison("seeds.0 = -1: must be at least 0", seeds=[-1]),
    comparison("seeds = [1, 1]: lists a value twice; list each value once", seeds=[1, 1]),
    comparison("seeds.0 = True: must be a whole number, for example 8", seeds=[True]),
    comparison("seeds = 3: must be a list, for example [0]", seeds=3),
    comparison("seeds.0 = '0': must be a whole number, for example 8", seeds=["0"]),
    comparison("name = '../x': must be letters, digits and . _ - and start with a…", name="../x"),
    comparison("name = '': must be letters, digits and . _ - and start with a letter o…", name=""),
    comparison("name = None: must be text; put it in quotes", name=None),
    comparison("experiment = None: must be a mapping, for example {lr: 1e-4}", experiment=None),
    comparison("experiment = []: must be a mapping, for example {lr: 1e-4}", experiment=[]),
    comparison("trials = 3: unknown key; did you mean search.trials?", experiment={"trials": 3}),
    comparison("search.trials = 0: must be at least 1", experiment={"search": {"trials": 0}}),
    comparison("other = 1: unknown key; did you mean 'methods'?", other=1),
    cells("--only x", "--only = 'x': write axis=name, for example method=finetune; did you mean…"),
    cells("--only =", "--only = '=': write axis=name, for example method=finetune; did you mean…"),
    cells("--only method", "--only = 'method': no such method; did you mean 'plain'?"),
    cells("--only method=", "--only = 'method=': no such method; did you mean 'plain'?"),
    cells("--only method=nope", "--only = 'method=nope': no such method; did you mean 'finetune…"),
    cells("--only methods=finetune", "--only = 'methods=finetune': write axis=name, for example…"),
    cells("--only method=finetune,", "--only = '': write axis=name, for example method=finetune…"),
    cells("--only ,", "--only = '': write axis=name, for example method=finetune; did you mean…"),
    cells("--only ''", "--only = '': write axis=name, for example method=finetune; did you mean…"),
    cells("--only seed=1", "--only = 'seed=1': no such seed; did you mean '0'?"),
    cells("--only METHOD=finetune", "--only = 'METHOD=finetune': write axis=name, for example m…"),
    cells("--set experiment.search.trials=0", "search.trials = 0: must be at least 1"),
    cells("--set methods=[]", "methods = []: must be a mapping, for example {lr: 1e-4}"),
    cells("--set foo", "--set = 'foo': write key=value, for example search.trials=8"),
    cells("--set seeds=[0,0]", "seeds = [0, 0]: lists a value twice; list each value once"),
    cells("--set data.digits.search.trials=2", "data.digits.search = {'trials': 2}: not allowed…"),
    cells("--set name=a/b", "name = 'a/b': must be letters, digits and . _ - and start with a l…"),
    case("compare gone.yaml", "COMPARISON = 'gone.yaml': no such file or directory, and…"),
    case("compare .", "COMPARISON = '.': is a directory; `mixunlearn init…"),
    case("compare experiment.yaml", "COMPARISON = 'experiment.yaml': is an experiment; use mixun…"),
    case("compare plan.yaml", "COMPARISON = 'plan.yaml': is a plan of nights; use mixunlearn nig…"),
    case("compare comparison.yaml",
         "COMPARISON = 'comparison.yaml': empty; `mixunlearn init…", put("comparison.yaml", "")),
    case("compare comparison.yaml",
         "COMPARISON = 'comparison.yaml': not a text file in U…", put("comparison.yaml", b"\xff")),
]
DATA = [
    case("data ''", "EXPERIMENT|SOURCE = '': neither a YAML file nor a source; did you mean 'sv…"),
    case("data digit", "EXPERIMENT|SOURCE = 'digit': neither a YAML file nor a source; did you…"),
    case("data DIGITS", "EXPERIMENT|SOURCE = 'DIGITS': neither a YAML file nor a source; did yo…"),
    case("data ' digits'", "EXPERIMENT|SOURCE = ' digits': neither a YAML file nor a source; di…"),
    case("data digits.yaml", "EXPERIMENT = 'digits.yaml': no such file or directory, and…"),
    case("data experiment.yaml/", "EXPERIMENT|SOURCE = 'experiment.yaml/': neither a YAML file…"),
    case("data plan.yaml", "EXPERIMENT = 'plan.yaml': is a plan of nights; use mixunlearn nigh…"),
    case("data torchvision:FakeData",
         "EXPERIMENT|SOURCE = 'torchvision:FakeData': neither a YAML file nor a source; did you…"),
    case("data os:system", "EXPERIMENT|SOURCE = 'os:system': neither a YAML file nor a source;…"),
    case("data ../x.yaml", "EXPERIMENT = '../x.yaml': no such file or directory, and…"),
    case("data ~nobody-/x.yaml", "EXPERIMENT = '~nobody-/x.yaml': no such file or directory, and…"),
    case("data mnist5k --set data.root=x", "data.root = 'x': source 'mnist5k' has no such optio…"),
    case("data digits --set data.label=x", "data.label = 'x': source 'digits' has no such optio…"),
    case("data digits --set data.limit=3", "data.limit = 3: must be a mapping of keys to values"),
    case("data digits --set data.seed=-1", "data.seed = -1: must be at least 0"),
    case("data digits --set data.limit.test=0", "data.limit.test = 0: must be at least 1"),
    case("data parquet", "data.train = None: source 'parquet' needs it: set data.train"),
    case("data image_folder", "data.root = None: source 'image_folder' needs it: set data.root"),
    case("data digits --set data.source=cifar10 --set data.root=gone",
         "data.root = 'gone': files are missing: put cifar-10-binary.tar.gz there (from https:/…"),
    case("data mnist --set data.root=gone", "data.root = 'gone': files are missing: put train-i…"),
    case("data cifar100 --set data.root=experiment.yaml",
         "data.root = 'experiment.yaml': files are missing: put cifar-100-binary.tar.gz there (…"),
    case("data svhn --set data.root=.", "data.root = '.': files are missing: put train_32x32.ma…"),
    case("data fashion_mnist --set data.root=gone/x", "data.root = 'gone/x': files are missing:…"),
    case("data image_folder --set data.root=~nobody-/x",
         "data.root = '~nobody-/x': not a valid path (Could not determine home directory.): cor…"),
    case("data image_folder --set data.root=experiment.yaml",
         "data.root = 'experiment.yaml': no such folder: correct the path"),
    case("data image_folder --set data.root=runs", "data.root = 'runs': has no folder train: pu…"),
    case("data image_folder --set data.root=loop",
         "data.root = 'loop': not a valid path (Too many levels of…", LOOP),
    case("data image_folder --set data.root=loop/x",
         "data.root = 'loop/x': not a valid path (Too many levels of…", LOOP),
    case(f"data image_folder --set data.root={LONG}", "data.root = '…correct it"),
    case(f"data {LONG}.yaml", "EXPERIMENT = '…file name too long; `mixunlearn init…"),
    case("data image_folder --set data.root=img",
         "data.root = 'img': train has no class folders: put the i…", put("img/train/x.txt", "a")),
    case("data image_folder --set data.root=img",
         "data.root = 'img': train has one class, a: put t…", all_of(images, gone("img/train/b"))),
    case("data image_folder --set data.root=img",
         "data.root = 'img': img/train/a/x.…", all_of(images, link("img/train/a/x.png", "x.png"))),
    case("data image_folder --set data.root=img",
         "data.root = 'img': img/train/a/x.p…", all_of(images, link("img/train/a/x.png", "gone"))),
    case("data image_folder --set data.root=img",
         "data.root = 'img': img/train/c/c cannot be read (it is within itself)…",
         all_of(images, link("img/train/c", "."))),
    case("data image_folder --set data.root=img --set data.train=x",
         "data.train = 'x': source 'image_folder' has no such option; did you mean 'siz…", images),
]
IDS = [
    ids_file("", "'ids.txt': is empty: name at least one training image"),
    ids_file("\n\n", "'ids.txt': is empty: name at least one training image"),
    ids_file("1\n1\n", "1: is listed 2 times: list each image once"),
    ids_file("-1\n", "-1: no training image has this id; they are the rows 0..1796"),
    ids_file("1e3\n", "'1e3': line 1 of ids.txt is not a whole number: give one id per line"),
    ids_file("1.0\n", "'1.0': line 1 of ids.txt is not a whole number: give one id per line"),
    ids_file("0x1\n", "'0x1': line 1 of ids.txt is not a whole number: give one id per line"),
    ids_file("1,2\n", "'1,2': line 1 of ids.txt is not a whole number: give one id per line"),
    ids_file("1 2\n", "'1 2': line 1 of ids.txt is not a whole number: give one id per line"),
    ids_file("²\n", "'\u00b2': line 1 of ids.txt is not a whole number: give one id per line"),
    ids_file("1\n\0", "'\\x00': line 2 of ids.txt is not a whole number: give one id per line"),
    ids_file("1797\n", "1797: no training image has this id; they are the rows 0..1796"),
    ids_file("None\n", "'None': line 1 of ids.txt is not a whole number: give one id per line"),
    ids_file("# 1\n", "'# 1': line 1 of ids.txt is not a whole number: give one id per line"),
    ids_file(b"\xff\xfe1\0", "'ids.txt': not a text file: give one id per line"),
    ids("[1.5]", "1.5: no training image has this id; they are the rows 0..1796"),
    ids("[true]", "True: no training image has this id; they are the rows 0..1796"),
    ids('["1"]', "'1': no training image has this id; they are the rows 0..1796"),
    ids("[[1]]", "[1]: no training image has this id; they are the rows 0..1796"),
    ids("[null]", "None: no training image has this id; they are the rows 0..1796"),
    ids("{a: 1}", "{'a': 1}: must be a list of row numbers, for example [17], or a file of them"),
    ids("runs", "'runs': cannot be read (Is a directory): give a list of ids, or a file of them"),
    ids("loop", "'loop': not a valid path (Too many levels of…", LOOP),
    ids("x.parquet", "'x.parquet': cannot be read (not a Parquet file…", put("x.parquet", "PAR1")),
    ids("x.csv", "'a,b': line 1 of x.csv is not a whole number: giv…", put("x.csv", "a,b\n1,2\n")),
]
# fmt: on


@pytest.mark.timeout(20)
@pytest.mark.parametrize("mistake", [*PLANS, *COMPARISONS, *DATA, *IDS], ids=named)
def test_a_mistake_in_a_file_costs_one_line(
    mistake: Mistake, judge: Judge, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(mistake, judge, capfd)
