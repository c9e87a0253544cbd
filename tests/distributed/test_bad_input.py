"""Mistakes of users: one line with key, value and remedy, and nothing was changed."""

import io
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from PIL import Image

from distributed.cli.app import main
from distributed.cluster import connection as cluster
from tests.irregular import a_device, a_pipe, a_socket
from tests.mistakes import EXPERIMENT as BASE

PARQUET = BASE.replace("digits, limit: {train: 300}", "parquet, train: train.parquet")
ADDRESS = "must be an address like http://"
TEXT = "must be text; put it in quotes"
PRESETS = "`mixunlearn init` lists the presets"
WHOLE = "must be a whole number, for example 8"
NUMBER = "must be a number, for example 0.5"
GPUS = torch.cuda.device_count()
Usage = namedtuple("Usage", "total used free")

# Files of images


def png(height: int = 8, width: int = 8, mode: str = "L", shade: int = 0) -> bytes:
    pixels = (np.arange(height * width).reshape(height, width) * 3 + shade).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "PNG")
    return stream.getvalue()


PNGS = [png(shade=shade) for shade in range(60)]
LABELS = [row % 3 for row in range(60)]


def flat(value: float) -> list[list[list[float]]]:
    """Return images of 8×8 pixels as nested lists: one value everywhere."""
    return [[[value] * 8] * 8] * 60


def save(
    images: Sequence[object] = PNGS, labels: Sequence[object] = LABELS, name: str = "train.parquet"
) -> Callable[[Path], None]:
    table = pa.table({"image": images, "label": labels})
    return lambda folder: pq.write_table(table, folder / name)


def cut_short(folder: Path) -> None:
    save()(folder)
    path = folder / "train.parquet"
    path.write_bytes(path.read_bytes()[:-30])


def bytes_in(content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "train.parquet").write_bytes(content)

    return make


def with_test_part(folder: Path) -> None:
    save()(folder)
    save([*PNGS[:59], png(9, 9)], name="test.parquet")(folder)


# One mistake per case


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What was typed, and the expected message.

    Args:
        typed: the command's name, argument and options.
        key: start of the line.
        value: a part of the text about the value.
        remedy: a part of the text after it.
        text: content of `experiment.yaml`.
        make: makes further files in the working folder.
    """

    typed: tuple[str, ...] = ("sweep", "experiment.yaml")
    key: str
    value: str
    remedy: str
    text: str | bytes = BASE
    make: Callable[[Path], None] | None = None


def typed(line: str, key: str, value: str, remedy: str) -> object:
    mistake = Mistake(typed=tuple(line.split()), key=key, value=value, remedy=remedy)
    return pytest.param(mistake, id=line)


def settings(*given: str) -> tuple[str, ...]:
    return tuple(part for setting in given for part in ("--set", setting))


def setting(given: str, key: str, value: str, remedy: str, *more: str) -> object:
    line = ("sweep", "experiment.yaml", *settings(given, *more))
    mistake = Mistake(typed=line, key=key, value=value, remedy=remedy)
    return pytest.param(mistake, id=" ".join((given, *more))[:60])


def file(name: str, text: str | bytes, value: str, remedy: str, key: str = "EXPERIMENT") -> object:
    return pytest.param(Mistake(key=key, value=value, remedy=remedy, text=text), id=name)


def images(
    name: str, make: Callable[[Path], None], key: str, value: str, remedy: str, *given: str
) -> object:
    line = ("sweep", "experiment.yaml", *settings(*given))
    mistake = Mistake(typed=line, key=key, value=value, remedy=remedy, text=PARQUET, make=make)
    return pytest.param(mistake, id=name)


def home(
    path: str, remedy: str, value: str = "", make: Callable[[Path], None] | None = None
) -> object:
    line = ("sweep", "experiment.yaml", "--home", path)
    mistake = Mistake(typed=line, key="--home", value=value or path, remedy=remedy, make=make)
    return pytest.param(mistake, id=f"--home {path[:20]}")


def a_file(folder: Path) -> None:
    (folder / "file").write_text("in the way")


def bomb(key: str) -> str:
    """Return a YAML file in which a key has a million values, with few words."""
    levels = [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(["x0: &x0 [1]", *levels, f"{key}: *x9"])


def irregular(command: str, make: Callable[[Path], None], key: str) -> object:
    line = (command, "odd.yaml")
    mistake = Mistake(typed=line, key=key, value="'odd.yaml'", remedy="not a regular file",
                      make=lambda folder: make(folder / "odd.yaml"))  # fmt: skip
    return pytest.param(mistake, id=f"{command}, {make.__name__}")


# fmt: off
FILES = [
    typed("sweep gone.yaml", "EXPERIMENT", "'gone.yaml'", "no such file or directory, and no pre"),
    typed("sweep .", "EXPERIMENT", "'.'", f"is a directory; {PRESETS}"),
    file("empty file", "", "'experiment.yaml'", f"empty; {PRESETS}"),
    file("only a comment", "# later\n", "'experiment.yaml'", f"empty; {PRESETS}"),
    file("list", "- name: tiny\n", "'experiment.yaml'", "not a mapping of keys to values"),
    file("one word", "tiny", "'experiment.yaml'", "not a mapping of keys to values"),
    file("not YAML", "name: [1\n", "'experiment.yaml'", "not valid YAML: line 2: while parsing"),
    file("tab", "name: tiny\n\tdata: 1\n", "'experiment.yaml'", "not valid YAML: line 2"),
    file("control character", "name: \x00", "'experiment.yaml'", "not valid YAML: character 7"),
    file("not UTF-8", BASE.encode("utf-16"), "'experiment.yaml'", "not a text file in UTF-8"),
    file("a date that is none", "name: 2020-99-99", "'experiment.yaml'", "no valid timestamp"),
    file("too deep", "name: " + "[" * 3000, "'experiment.yaml'", "nested too deeply"),
    file("anchor bomb in a text", bomb("name"), "'experiment.yaml'", "with aliases written out"),
    file("long texts, many times", f"a: &a {'x' * 9000}\nname: [{'*a, ' * 999}]",
         "'experiment.yaml'", "with aliases written out"),
    file("anchor within itself", "name: &a [*a]", "'experiment.yaml'", "a part of itself"),
    file("33 levels", "name: " + "[" * 33 + "]" * 33, "'experiment.yaml'", "nested too deeply"),
    file("a long text", "name: " + "x" * 20_000, "'experiment.yaml'", "of more than 10000 char"),
    file("too large", "# " + "x" * 2**20, "'experiment.yaml'", "larger than 1 MiB"),
    file("tagged empty int", "name: !!int ''", "'experiment.yaml'", "line 1: '' is no valid int"),
    file("tagged float", "name: !!float ''", "'experiment.yaml'", "'' is no valid float"),
    file("tagged bool", "name: !!bool maybe", "'experiment.yaml'", "'maybe' is no valid bool"),
    file("tagged date", "name: !!timestamp x", "'experiment.yaml'", "'x' is no valid timestamp"),
    file("9,000 hexadecimal digits", "name: 0x" + "f" * 9000, "'experiment.yaml'",
         "is no valid int"),
    file("NUL in a text", 'name: "a\\0"', "'experiment.yaml'", "neither files nor databases"),
    file("half a character", 'name: "\\ud800"', "'experiment.yaml'", "neither files nor databases"),
    irregular("sweep", a_pipe, "EXPERIMENT"),
    irregular("references", a_device, "EXPERIMENT"),
    irregular("data", a_socket, "EXPERIMENT"),
    file("Python object", BASE + "x: !!python/name:os.system\n", "'experiment.yaml'", "line 7"),
    file("two documents", BASE + "---\n" + BASE, "'experiment.yaml'", "found another document"),
    file("key given twice", BASE + "name: other\n", "'experiment.yaml'",
         "line 7: 'name' is given twice"),
    file("inner key given twice", BASE.replace("trials: 2", "trials: 2, trials: 3"),
         "'experiment.yaml'", "line 6: 'trials' is given twice"),
    file("number as key", BASE + "1: 2\n", "'experiment.yaml'", "line 7: every key must be text"),
    file("no name", BASE.replace("name: tiny\n", ""), "None", "missing; presets", "name"),
    file("no data", re.sub("data:.*\n", "", BASE), "None", "missing; presets", "data"),
    file("misspelt name", BASE.replace("name: tiny", "nmae: tiny"), "'tiny'",
         "unknown key; did you mean name?", "nmae"),
    file("null name", BASE.replace("tiny", "null"), "None", TEXT, "name"),
    file("number as name", BASE.replace("tiny", "12"), "12", TEXT, "name"),
    file("no as name", BASE.replace("tiny", "no"), "False", TEXT, "name"),
]
KEYS = [
    setting("searching.trials=3", "searching", "{'trials': 3}", "did you mean search?"),
    setting("trials=3", "trials", "3", "unknown key; did you mean search.trials?"),
    setting("search.trails=3", "search.trails", "3", "unknown key; did you mean search.trials?"),
    setting("data.limit.trian=3", "data.limit.trian", "3", "did you mean data.limit.train?"),
    setting("a.b.c=1", "a", "{'b': {'c': 1}}", "unknown key; did you mean"),
    setting("task.clases=[1]", "task.clases", "[1]", "did you mean 'classes'? There are: kind"),
    setting("task.fraction=0.5", "task.fraction", "0.5",
            "a class task has no such key; it belongs to data, random, noisy, backdoor, semi, "
            "hard"),
    setting("search.trials", "--set", "'search.trials'", "write key=value, for example"),
    setting("=3", "--set", "'=3'", "write key=value"),
    setting("search..trials=3", "--set", "'search..trials=3'", "write key=value"),
    setting("search.trials=[", "--set", "'search.trials=['", "not valid YAML: line 1"),
    setting("data.train=*.parquet", "--set", "'data.train=*.parquet'",
            "put text in quotes: --set \"data.train='…'\""),
    setting(".".join(["a"] * 1000) + "=1", "--set", "'a.a.", "no key is that long"),
    setting("x" * 20_000 + "=1", "--set", "'xxx", "no key is that long"),
    setting("search.space={1: 2}", "--set", "'search.space={1: 2}'", "every key must be text"),
]
VALUES = [
    setting("name=a/b", "name", "'a/b'", "must be letters, digits and . _ -"),
    setting("name=../up", "name", "'../up'", "must be letters, digits and . _ -"),
    setting("name=" + "x" * 300, "name", "xxx", "must have at most 100 characters"),
    setting("data=digits", "data", "'digits'", "must be a mapping of keys to values"),
    setting("search=[1]", "search", "[1]", "must be a mapping of keys to values"),
    setting("task=class", "task", "'class'", "must be a mapping, for example {kind: class}"),
    setting("task={}", "task.kind", "None", "must be one of class, data, random"),
    setting("task.kind=noise", "task.kind", "'noise'", "of class, data, random, ids, noisy, back"),
    setting("search.space=[lr]", "search.space", "['lr']", "must be a mapping, for example {lr:"),
    setting("search.trials=null", "search.trials", "None", WHOLE),
    setting("search.trials=true", "search.trials", "True", WHOLE),
    setting("search.trials='3'", "search.trials", "'3'", WHOLE),
    setting("search.trials=3.5", "search.trials", "3.5", WHOLE),
    setting("search.trials=.nan", "search.trials", "nan", WHOLE),
    setting("search.trials={a: 1}", "search.trials", "{'a': 1}", WHOLE),
    setting("search.trials=0", "search.trials", "0", "must be at least 1"),
    setting("search.trials=-2", "search.trials", "-2", "must be at least 1"),
    setting("references.seeds=0", "references.seeds", "0", "must be at least 1"),
    setting("search.report_seeds=1", "search.report_seeds", "1", "must be at least 3"),
    setting("references.seeds=1000000000", "references.seeds", "1000000000",
            "must be at most 1000: each one is a model to train"),
    setting("search.report_seeds=10000000000", "search.report_seeds", "10000000000",
            "must be at most 1000: each one is a model to train"),
    setting(f"references.batch={10**20}", "references.batch", f"{10**20}", "must fit into memory"),
    setting(f"references.epochs={10**20}", "references.epochs", f"{10**20}", "takes time"),
    setting(f"search.epochs={10**20}", "search.epochs", f"{10**20}", "at most 100000: each one"),
    setting(f"search.trials={10**20}", "search.trials", f"{10**20}", "is kept in memory"),
    setting(f"search.seed={10**20}", "search.seed", f"{10**20}", "databases keep no larger"),
    setting(f"data.limit.test={10**400}", "data.limit.test", "1000", "no data set has more"),
    setting("resources.cpu=1e300", "resources.cpu", "1e+300", "no machine has more"),
    setting("resources.trial_seconds=1e300", "resources.trial_seconds", "1e+300", "is a year"),
    setting("references.lr=fast", "references.lr", "'fast'", NUMBER),
    setting("references.lr=false", "references.lr", "False", NUMBER),
    setting("references.lr=0", "references.lr", "0", "must be above 0"),
    setting("references.lr=.nan", "references.lr", "nan", "must be a finite number"),
    setting("references.lr=.inf", "references.lr", "inf", "must be a finite number"),
    setting("references.weight_decay=-1", "references.weight_decay", "-1", "must be at least 0"),
    setting("model.width=0", "model.width", "0", "must be at least 1"),
    setting("model.width=100000000", "model.width", "100000000", "must be at most 1024"),
    setting("data.limit.train=0", "data.limit.train", "0", "must be at least 1"),
    setting("data.image=3", "data.image", "3", TEXT),
    setting("data.size=0", "data.size", "0", "must be at least 1"),
    setting("data.size=4096", "data.size", "4096", "must be at most 1024"),
    setting("data.download=1", "data.download", "1", "must be true or false"),
    setting("search.sampler=tqe", "search.sampler", "'tqe'", "must be 'tpe', 'random', 'cmaes' or"),
    setting("search.scheduler=hyperband", "search.scheduler", "'hyperband'", "must be 'asha'"),
    setting("labels=unaware", "labels", "'unaware'", "must be 'aware' or 'agnostic'"),
]
NAMES = [
    setting("method=mixunlern", "method", "'mixunlern'", "unknown; did you mean 'mixunlearn'?"),
    setting("model.name=cn", "model.name", "'cn'", "unknown; did you mean 'cnn'?"),
    setting("model.name=torchvision:resnet", "model.name", "torchvision:resnet'", "mean 'resnet"),
    setting("model.name=json:dump", "model.name", "'json:dump'", "missing 2 required positional"),
    setting("model.name=jsn:dump", "model.name", "'jsn:dump'", "No module named 'jsn'"),
    setting("model.name=torchvision:resnet18", "model.width", "4",
            "have a fixed width; leave it out"),
    setting("model.weights=DEFAULT", "model.weights", "'DEFAULT'", "only torchvision:NAME has"),
    setting("model.weights=a.safetensors", "model.weights", "'a.safetensors'", "no such file"),
    setting("data.source=digts", "data.source", "'digts'", "unknown; did you mean 'digits'?"),
    setting("method=finetune", "labels", "'agnostic'", "finetune needs labels; set labels: aware",
            "labels=agnostic"),
    setting("method=neggrad", "labels", "'agnostic'", "or use bad_teacher, delete, esc, gli,",
            "labels=agnostic"),
    setting("method=unsir", "method", "'unsir'", "nothing but whole classes, not a random task",
            "task={kind: random}"),
    setting("search.objective=gap/accuracy", "search.objective", "'gap/accuracy'",
            "did you mean 'gap/acc/val'? There are: gap/avg"),
    setting("search.objective=acc/val", "search.objective", "'acc/val'", "did you mean"),
    setting("references.seeds=1", "search.objective", "'gap/div/js'", "not a metric of this task",
            "search.objective=gap/div/js"),
    setting("references.proxies=-1", "references.proxies", "-1", "must be at least 0"),
    setting("references.proxies=10", "references.proxies", "10",
            "only 9 other forget sets of this size and kind"),
    setting("references.proxies=3", "references.proxies", "3", "forget set is always the same",
            "task={kind: hard}"),
    setting("references.proxies=3", "references.proxies", "3",
            "a noisy task changes its images", "task={kind: noisy}"),
    setting("margins={acc/tst: 1}", "margins.acc/tst", "1.0", "no metric of the verdict; "),
    setting("margins={acc: 50}", "margins.acc", "50.0", "must be below 50"),
    setting("margins={mia/asr: 99}", "margins.mia/asr", "99.0", "must be below 50"),
    setting("margins={acc: 0}", "margins.acc", "0", "must be above 0"),
    setting("margins={acc: .nan}", "margins.acc", "nan", "must be a finite number"),
    setting("tracking.uri=ftp://host/x", "tracking.uri", "'ftp://host/x'", ADDRESS),
    setting("tracking.uri=mlruns", "tracking.uri", "'mlruns'", ADDRESS),
    setting("tracking.uri=http://", "tracking.uri", "'http://'", ADDRESS),
    setting("tracking.uri=sqlite", "tracking.uri", "'sqlite'", ADDRESS),
    setting("storage.study=mysql://h/x", "storage.study", "'mysql://h/x'", "must be an address"),
    setting(
        "storage={study: 'postgresql://h/x'}",
        "storage.study",
        "'postgresql://h/x'",
        "use a separate database",
        "tracking={uri: 'postgresql://h/x'}",
    ),
    setting("storage.study=runs", "storage.study", "'runs'", "must be an address like postgresql:"),
    setting("storage.files=floppy://a", "storage.files", "'floppy://a'", "unknown kind of address"),
    setting("storage.files=s3://", "storage.files", "'s3://'", "names no bucket"),
    setting("storage.fils=x", "storage.fils", "'x'", "did you mean storage.files?"),
    setting("tracking.storage=floppy://a", "tracking.storage", "'floppy://a'", "must be a folder"),
]
SPACES = [
    setting("search.space.lrr=1e-3", "search.space.lrr", "0.001", "did you mean 'lr'?"),
    setting("search.space.tau=1", "search.space.tau", "1", "no such parameter", "method=neggrad"),
    setting("search.space.lr=0", "search.space.lr", "0", "must be finite and above 0"),
    setting("search.space.lr=[0, 1e-3]", "search.space.lr", "[0, 0.001]", "must be finite and"),
    setting("search.space.lr=[1e-3, .inf]", "search.space.lr.1", "inf", "must be a finite number"),
    setting("search.space.optimizer=sgd", "search.space.optimizer", "'sgd'",
            "the range of lr is for adam; give search.space.lr, too: [1e-4, 0.1] for sgd"),
    setting("search.space.lr=[1e-3, 1e-5]", "search.space.lr", "[0.001, 1e-05]", "low to high"),
    setting("search.space.lr=[1e-5]", "search.space.lr", "[1e-05]", "a list of two"),
    setting("search.space.lr=.inf", "search.space.lr", "inf", "must be a finite number"),
    setting("search.start=[{lr: .nan}]", "search.start.0.lr", "nan", "must be a finite number"),
    setting("search.space.lr=[]", "search.space.lr", "[]", "give a number or a list of two"),
    setting("search.space.lr=fast", "search.space.lr", "'fast'", "give a number or a list of two"),
    setting("search.space.lr=.nan", "search.space.lr", "nan", "must be a finite number"),
    setting("search.space.mask_weight=false", "search.space.mask_weight", "False", "give a number"),
    setting("search.space.mixing=mixblok", "search.space.mixing", "'mixblok'",
            "not an option; there are mixblock, mixup, none"),
    setting("search.space.mixing=[]", "search.space.mixing", "[]", "needs at least one option"),
    setting("search.space.mixing=[mixup, mixup]", "search.space.mixing", "'mixup']", "twice"),
    setting("search.space.real=1", "search.space.real", "1", "there are True, False"),
    setting("search.space.batch=33", "search.space.batch", "33", "there are 8, 16, 32, 64"),
    setting("search.space.stage=layer3", "search.space.stage", "'layer3'", "are pool1, pool2"),
    setting("search.space.stage=layer9", "search.space.stage", "'layer9'",
            "gives no feature map; did you mean 'layer1'? There are: conv1: 64×4×4, bn1: 64×4×4",
            "model={name: 'torchvision:resnet18'}"),
    setting("search.space.mixing=none", "search.space.real", "False",
            "with mixing = 'none' nothing is left to learn from", "search.space.real=false"),
    setting("search.space.mixing=[none, mixup]", "search.space.real", "False",
            "nothing is left to learn from", "search.space.real=[true, false]"),
]
TASKS = [
    setting("task.classes=[10]", "task.classes", "10", "classes are the numbers 0..9"),
    setting("task.classes=[-1]", "task.classes", "-1", "classes are the numbers 0..9"),
    setting("task.classes=[true]", "task.classes", "True", "classes are the numbers 0..9"),
    setting("task.classes=[three]", "task.classes", "'three'", "classes are the numbers 0..9"),
    setting("task.classes=['3', 3]", "task.classes", "['3', 3]", "names a class twice"),
    setting("task.classes=[]", "task.classes", "[]", "is empty: name at least one class"),
    setting("task.classes=[1, 1]", "task.classes", "[1, 1]", "names a class twice"),
    setting("task.classes=0", "task.classes", "0", "must be a list, for example [0]"),
    setting("task.classes=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "task.classes", "8, 9]",
            "all classes are forgotten: leave at least one"),
    setting("task={kind: random, fraction: 1}", "task", "'fraction': 1.0",
            "every training image is forgotten: forget fewer"),
    setting("task={kind: random, fraction: 1e-9}", "task.fraction", "1e-09", "forgets none of"),
    setting("task={kind: data, fraction: 0}", "task.fraction", "0", "must be above 0"),
    setting("task={kind: data, fraction: 2}", "task.fraction", "2", "must be at most 1"),
    setting("task={kind: data, classes: []}", "task.classes", "[]", "name at least one class"),
    setting("task={kind: random, classes: [1]}", "task.classes", "[1]", "class, data, noisy, semi"),
    setting("task={kind: ids}", "task.ids", "None", "must be a list of row numbers, for example"),
    setting("task={kind: ids, ids: 17}", "task.ids", "17", "for example [17], or a file of them"),
    setting("task={kind: ids, ids: []}", "task.ids", "[]", "name at least one training image"),
    setting("task={kind: ids, ids: [3, 1797]}", "task.ids", "1797", "they are the rows 0..1796"),
    setting("task={kind: ids, ids: [4, 3, 4]}", "task.ids", "4", "is listed 2 times: list each"),
    setting("task={kind: ids, ids: gone.txt}", "task.ids", "'gone.txt'", "No such file or dir"),
    setting("task={kind: ids, ids: experiment.yaml}", "task.ids", "'name: tiny'",
            "line 1 of experiment.yaml is not a whole number: give one id per line"),
    setting('task={kind: ids, ids: "a\\0b"}', "--set", "ids: \"a", "neither files nor databases"),
    setting("task={kind: ids, ids: /dev/zero}", "task.ids", "'/dev/zero'", "not a regular file"),
    setting("task={kind: noisy, fraction: 0}", "task.fraction", "0", "must be above 0"),
    setting("task={kind: noisy, classes: [10]}", "task.classes", "10", "the numbers 0..9"),
    setting("task={kind: backdoor, size: 9}", "task.size", "9", "in 1..8: images are 8x8"),
    setting("task={kind: backdoor, size: 0}", "task.size", "0", "must be at least 1"),
    setting("task={kind: backdoor, target: 10}", "task.target", "10", "the numbers 0..9"),
    setting("task={kind: backdoor, target: dog}", "task.target", "'dog'", "the numbers 0..9"),
    setting("task={kind: semi, labelled: 0}", "task.labelled", "0", "must be above 0"),
    setting("task={kind: semi, labelled: 1.1}", "task.labelled", "1.1", "must be at most 1"),
    setting("task={kind: semi, labelled: 1e-9}", "task.labelled", "1e-09", "knows none of"),
    setting("task={kind: semi, of: random}", "task.of", "'random'", "must be 'class' or 'data'"),
    setting("task={kind: semi, of: class, fraction: 0.5}", "task.fraction", "0.5", "leave it out"),
    setting("task={kind: hard, by: size}", "task.by", "'size'", "must be 'memorisation' or 'loss'"),
    setting("task={kind: hard, order: any}", "task.order", "'any'", "'highest' or 'lowest'"),
    setting("data.limit.train=9999", "data.limit.train", "9999", "in 1..1797, the number"),
    setting("data.limit.train=2", "data.limit.train", "2", "use more images"),
    setting("data.limit.train=24", "task", "'classes': [0]", "use more images or another task"),
    setting("data.limit.test=9", "data.limit.test", "9", "use data.limit.train alone"),
    setting("data.train=x.parquet", "data.train", "'x.parquet'", "source 'digits' has no such opt"),
    setting("data.download=true", "data.download", "True", "source 'digits' has no such option"),
    setting(f"resources.gpu={GPUS + 1}", "resources.gpu", f"{GPUS + 1}", f"has {GPUS};"),
    setting("resources.gpu=1.5", "resources.gpu", "1.5", "must be a whole number, or 0.01 to 1"),
    setting("resources.cpu=99999", "resources.cpu", "99999", "ask for less, or name a cluster"),
    setting("resources.cpu=0", "resources.cpu", "0", "must be at least 0.01"),
    setting("resources.trial_seconds=0", "resources.trial_seconds", "0", "must be above 0"),
    setting("resources.data_memory=0", "resources.data_memory", "0", "must be auto, or GiB above"),
    setting("resources.data_memory=all", "resources.data_memory", "'all'", "must be auto, or GiB"),
    setting("resources.data_memory=true", "resources.data_memory", "True", "must be auto, or"),
    setting("resources.data_memory=.nan", "resources.data_memory", "nan", "must be auto, or GiB"),
]
IMAGES = [
    images("no train", save(), "data.train", "None", "set data.train", "data.train=null"),
    images("no file", lambda _: None, "data.train", "'train.parquet'", "no such file: correct"),
    images("no match", save(), "data.train", "'*.pq'", "no file matches", "data.train='*.pq'"),
    images("folder", lambda folder: (folder / "train.parquet").mkdir(), "data.train",
           "'train.parquet'", "is a folder without .parquet files: name others, train.parquet/*"),
    images("name too long", save(), "data.train", "xxx", "not a valid path",
           "data.train=" + "x" * 5000),
    images("no such user", save(), "data.train", "'~nobody-/x'", "path", "data.train=~nobody-/x"),
    images("empty list", save(), "data.train", "[]", "a list of texts that is", "data.train=[]"),
    images("number", save(), "data.train", "3", "must be text, or a list of", "data.train=3"),
    images("twice", save(), "data.train", "'train.parquet'", "is named twice in the list",
           "data.train=[train.parquet, ./train.parquet]"),
    images("empty", bytes_in(b""), "data.train", "'train.parquet'", "give a valid Parquet file"),
    images("garbage", bytes_in(b"PAR1 no PAR1"), "data.train", "'train.parquet'", "cannot be read"),
    images("YAML", save(), "data.train", "'experiment.yaml'", "cannot be read",
           "data.train=experiment.yaml"),
    images("cut short", cut_short, "data.train", "'train.parquet'", "give a valid Parquet file"),
    images("no rows", save([], pa.array([], pa.int64())), "data.train", "'train.parquet'",
           "holds no rows"),
    images("no image column", save(), "data.image", "'img'", "did you mean 'image'?",
           "data.image=img"),
    images("no label column", save(), "data.label", "'y'", "no such column", "data.label=y"),
    images("mixed sizes", save([*PNGS[:59], png(9, 9)]), "data.image", "'image'",
           "row 59 of train.parquet is 1x9x9, the first image 1x8x8"),
    images("mixed modes", save([*PNGS[:59], png(mode="RGB")]), "data.image", "'image'",
           "convert all to one size and mode"),
    images("mixed sizes in the test part", with_test_part, "data.image", "'image'",
           "row 59 of test.parquet is 1x9x9", "data.test=test.parquet"),
    images("labels with gaps", save(labels=[0, 2] * 30), "data.label", "'label'",
           "labels are 0, 2: without class names they must be 0..C-1, no gaps; renumber them"),
    images("negative labels", save(labels=[-1, 0] * 30), "data.label", "'label'", "renumber them"),
    images("no label", save(labels=[None, *LABELS[1:]]), "data.label", "'label'",
           "row 0 of train.parquet has no label: fill or drop it"),
    images("real labels", save(labels=[0.5] * 60), "data.label", "'label'", "cast the column"),
    images("one class", save(labels=[0] * 60), "task.classes", "[0]", "all classes are forgotten"),
    images("rare class", save(labels=[2, 2, *[0, 1] * 29]), "task", "'classes': [2]",
           "no images are left to measure acc/val_forget", "task.classes=[2]"),
    images("NaN pixels", save(flat(float("nan"))), "data.image", "'image'",
           "row 0 of train.parquet has a pixel of nan: floats are finite and lie in [0, 1]"),
    images("bright pixels", save(flat(300)), "data.image", "'image'", "pixel of 300"),
    images("no image", save([None, *PNGS[1:]]), "data.image", "'image'", "row 0 of train.parquet"),
    images("broken image", save([PNGS[0][:45], *PNGS[1:]]), "data.image", "'image'",
           "cannot be decoded"),
    images("text as image", save(["a.png"] * 60), "data.image", "'image'", "holds string"),
    images("too small", save([png(3, 3)] * 60), "model.name", "'cnn'",
           "images of 3×3 are too small; choose another model"),
    images("too small for this one", save([png(4, 4)] * 60), "model.name", "'convnet'",
           "images of 4×4 are too small", "model.name=convnet"),
    images("limit above the test part", save(), "data.limit.test", "99", "in 1..60",
           "data.test=train.parquet", "data.limit.test=99"),
    images("test part of one", save(), "task", "'kind': 'class'", "no images are left to measure",
           "data.test=train.parquet", "data.limit.test=1"),
]
HOMES = [
    home("file", "cannot write in file (Not a directory); choose another folder", make=a_file),
    home("file/a/b", "file is a file); choose another folder", make=a_file),
    home("/proc/nope", "cannot write in /proc (No such file or directory); choose another folder"),
    home("/dev/null", "choose another folder"),
    home("x" * 300, "File name too long); choose another folder", value="xxx"),
    home("~nobody-/runs", "no such user; choose another folder"),
]
COMMANDS = [
    typed("sweep experiment.yaml --trials 0", "search.trials", "0", "must be at least 1"),
    typed("sweep experiment.yaml --dry-run --trials -1", "search.trials", "-1", "at least 1"),
    typed("sweep experiment.yaml --json --trials -1", "search.trials", "-1", "at least 1"),
    typed("sweep experiment.yaml --address nonsense", "--address", "'nonsense'", "HOST:PORT"),
    typed("sweep experiment.yaml --address host:port", "--address", "'host:port'", "HOST:PORT"),
    typed("references experiment.yaml --set search.trails=3", "search.trails", "3", "trials?"),
    typed("references experiment.yaml --set task.classes=[99]", "task.classes", "99", "0..9"),
    typed("references experiment.yaml --set resources.gpu=99", "resources.gpu", "99", "ask for"),
    typed("references experiment.yaml --home /proc/nope", "--home", "'/proc/nope'", "cannot write"),
    typed("references gone.yaml", "EXPERIMENT", "'gone.yaml'", "no such file or directory"),
    typed("data gone.yaml", "EXPERIMENT", "'gone.yaml'", "no such file or directory"),
    typed("data digts", "EXPERIMENT|SOURCE", "'digts'", "did you mean 'digits'?"),
    typed("data digits --set data.limt=3", "data.limt", "3", "did you mean data.limit?"),
    typed("data digits --home /proc/nope", "--home", "'/proc/nope'", "cannot write in /proc"),
    typed("data parquet", "data.train", "None", "source 'parquet' needs it: set data.train"),
    typed("data image_folder", "data.root", "None", "source 'image_folder' needs it: set data.ro"),
    typed("data image_folder --set data.root=gone", "data.root", "'gone'", "no such folder: corr"),
    typed("data image_folder --set data.root=.", "data.root", "'.'", "has no folder train: put"),
    typed("data cifar10 --set data.root=raw", "data.root", "'raw'",
          "put cifar-10-binary.tar.gz there (from https://www.cs.toronto.edu/~kriz/), or set data"),
    typed("data svhn --set data.size=32", "data.size", "32", "source 'svhn' has no such option"),
    typed("data experiment.yaml --set task.classes=[99]", "task.classes", "99", "numbers 0..9"),
    typed("doctor --set tracking.urii=x", "tracking.urii", "'x'", "did you mean tracking.uri?"),
    typed("doctor --set tracking.uri=ftp://x", "tracking.uri", "'ftp://x'", "must be an address"),
    typed("doctor --set search.trials=0", "search.trials", "0", "must be at least 1"),
    typed("doctor --set nonsense", "--set", "'nonsense'", "write key=value"),
    typed("ui --set tracking.uri=[", "--set", "'tracking.uri=['", "not valid YAML"),
    typed("ui --home ~nobody-/x", "--home", "'~nobody-/x'", "no such user"),
]
# fmt: on
ALL = [*FILES, *KEYS, *VALUES, *NAMES, *SPACES, *TASKS, *IMAGES, *HOMES, *COMMANDS]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, without a Ray to start and without the user's environment."""

    def start(*_: object, **__: object) -> None:
        pytest.fail("Ray was started")

    for name in ("MIXUNLEARN_HOME", "MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", start)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run_command(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mixunlearn", *arguments])
        return main()

    return run_command


def content(folder: Path) -> dict[str, bytes | None]:
    """Return the paths of everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def complaint(capture: pytest.CaptureFixture[str]) -> str:
    """Return the one line that was printed."""
    printed = capture.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("mixunlearn: ")
    assert not {"Traceback", "pydantic", "Error:"} & set(lines[0].replace("'", " ").split())
    return lines[0]


def test_there_are_many_mistakes() -> None:
    assert len(ALL) >= 45


@pytest.mark.parametrize("mistake", ALL)
def test_a_mistake_costs_one_line(
    mistake: Mistake,
    workplace: Path,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = mistake.text if isinstance(mistake.text, bytes) else mistake.text.encode()
    (workplace / "experiment.yaml").write_bytes(text)
    if mistake.make:
        mistake.make(workplace)
    before = content(workplace)
    running = ray.is_initialized()

    assert run(*mistake.typed) == 2

    line = complaint(capfd)
    assert line.startswith(f"mixunlearn: {mistake.key} = ")
    said = line.removeprefix(f"mixunlearn: {mistake.key} = ")
    assert mistake.value in said
    assert mistake.remedy in said.partition(mistake.value)[2]
    assert content(workplace) == before
    assert ray.is_initialized() == running


def test_several_mistakes_of_one_file_are_said_at_once(
    experiment: str, workplace: Path, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = "search.trials=0", "name=a b", "search.trails=3", "task.clases=[1]", "search.epochs=x"
    assert run("sweep", experiment, *settings(*wrong)) == 2
    unknown = ["task.clases = [1]", "search.trails = 3"]
    assert [line.split(": ")[1] for line in capfd.readouterr().err.splitlines()] == [
        *unknown,
        *("name = 'a b'", "search.trials = 0", "search.epochs = 'x'"),
    ]
    names = "data.source=digts", "method=mixunlern", "model.name=cn"
    assert run("sweep", experiment, *settings(*names)) == 2
    assert len(capfd.readouterr().err.splitlines()) == 3
    others = "tracking.uri=mlruns", "storage.study=runs", "model.name=no_such:net"
    assert run("sweep", experiment, *settings(*others), "--json") == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert [line.split()[1] for line in said.err.splitlines()] == [
        *("storage.study", "model.name", "tracking.uri")
    ]
    assert content(workplace).keys() == {experiment}


@pytest.fixture
def experiment(workplace: Path) -> str:
    (workplace / "experiment.yaml").write_text(BASE)
    return "experiment.yaml"


def test_the_experiment_without_a_mistake_is_sound(
    experiment: str, workplace: Path, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    before = content(workplace)
    assert run("sweep", experiment, "--dry-run") == 0
    assert "17 forget" in capfd.readouterr().out
    save()(workplace)
    (workplace / experiment).write_text(PARQUET)
    assert run("references", experiment, "--dry-run") == 0
    assert "12 forget" in capfd.readouterr().out
    assert content(workplace).keys() == before.keys() | {"train.parquet"}


def test_the_plan_says_when_trials_repeat_each_other(
    experiment: str, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    dry = ("sweep", experiment, "--dry-run", "--trials", "16", *settings("references.seeds=1"))
    assert run(*dry, *settings("method=original", "search.epochs=1")) == 0
    said = capfd.readouterr().out
    assert "1 original and 1 reference of cnn" in said
    assert "trials      1 of original (label-aware), at most 1 epoch," in said
    assert "; more would repeat it: the method has no hyperparameters\n" in said
    few = ("method=finetune", "search.space.lr=1e-3", "search.space.batch=[16, 32]")
    assert run(*dry, *settings(*few)) == 0
    assert "; only 2 configurations, tried again under other seeds\n" in capfd.readouterr().out


def test_verbose_shows_where(
    experiment: str, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("sweep", experiment, "--trials", "0", "-v") == 2
    error = capfd.readouterr().err.splitlines()
    assert error[0] == "Traceback (most recent call last):"
    assert error[-1] == "mixunlearn: search.trials = 0: must be at least 1"


@pytest.mark.parametrize("verbose", [(), ("-v",)])
def test_passwords_are_not_shown(
    experiment: str,
    verbose: tuple[str, ...],
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    secret = "ftp://user:hunter2@host"
    for key in ("tracking.uri", "tracking.url", "trackin.uri", "tracking.storage"):
        assert run("sweep", experiment, "--set", f"{key}=x{secret}", *verbose) == 2
        assert "hunter2" not in capfd.readouterr().err
    assert run("sweep", experiment, "--dry-run", "--json", *settings(
        "tracking.uri=http://user:hunter2@host")) == 0  # fmt: skip
    assert "hunter2" not in capfd.readouterr().out


def test_the_environment_is_checked_too(
    experiment: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    assert run("sweep", experiment) == 2
    assert "MLFLOW_TRACKING_URI = 'mlruns': must be an address" in complaint(capfd)
    monkeypatch.setenv("MIXUNLEARN_HOME", "experiment.yaml")
    assert run("data", "digits") == 2
    assert "--home = 'experiment.yaml': cannot write" in complaint(capfd)
    assert content(workplace).keys() == {experiment}


@pytest.mark.parametrize("arguments", [
    ["sweep"], ["swep"], ["sweep", "--colour"], ["sweep", "experiment.yaml", "more"],
    ["sweep", "experiment.yaml", "--trials", "many"], ["data"], ["doctor", "a", "b"],
], ids=" ".join)  # fmt: skip
def test_usage(
    arguments: list[str],
    experiment: str,
    workplace: Path,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(*arguments) == 2
    error = capfd.readouterr().err
    assert "Usage: mixunlearn" in error
    assert "Traceback" not in error
    assert content(workplace).keys() == {experiment}


# Errors that are not mistakes in the input: exit code 1


@pytest.fixture(params=["bytes", "files"])
def small_disk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A disk of one MiB, in the second case with no room for another file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = "size=1m" if request.param == "bytes" else "size=1m,nr_inodes=1"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted:  # only root may
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**30, 2**30 - 2**20, 2**20))
    yield disk
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("command", ["sweep", "references", "data"])
@pytest.mark.parametrize("inner", ["", "deep/runs"])
def test_a_full_disk(
    command: str,
    inner: str,
    small_disk: Path,
    experiment: str,
    workplace: Path,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    home = small_disk / inner
    assert run(command, experiment, "--home", str(home)) == 1
    line = complaint(capfd)
    assert f"--home = '{home}': only 1 MiB free, 200 needed; free space or choose another" in line
    assert list(small_disk.iterdir()) == []
    assert content(workplace).keys() == {experiment}


@pytest.mark.parametrize("by_option", [True, False])
def test_a_cluster_that_is_away(
    by_option: bool,
    experiment: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    if not by_option:
        monkeypatch.setenv("RAY_ADDRESS", address)
    start = time.monotonic()
    assert run("sweep", experiment, *(["--address", address] if by_option else [])) == 1
    assert time.monotonic() - start < 5
    assert f"--address = '{address}': connection refused; start it" in complaint(capfd)
    assert content(workplace).keys() == {experiment}


def test_this_machine_needs_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.local(None)
    assert cluster.local("local")
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert cluster.local(None)
    cluster.require_answer(None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not cluster.local(None)
    assert cluster.local("local")


def test_an_unexpected_error_is_one_line_too(
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("first\nsecond " + "x" * 1000)

    monkeypatch.setattr("distributed.config.read.read_file", fail)
    assert run("sweep", experiment) == 1
    printed = capfd.readouterr().err
    assert printed.startswith("mixunlearn: KeyError: 'first")
    assert printed.endswith("…; -v shows where\n")
    assert len(printed) < 600
