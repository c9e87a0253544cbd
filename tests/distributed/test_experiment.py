"""The experiment: defaults, settings, what a study's name depends on, what is displayed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file

from distributed.cli.show import images_of_work
from distributed.compare.cells import KNOBS, cells, knobs
from distributed.config.checks import check_tracking
from distributed.config.comparison import read_comparison
from distributed.config.experiment import COUNTS, Experiment
from distributed.config.read import make_experiment, read_data, read_experiment, read_tracking
from distributed.plan.make import make_plan
from distributed.plan.model import Stages, make_space
from distributed.plan.plan import Plan, resolved
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.models import build_model
from mixunlearn.recipes import RECIPES, Recipe
from mixunlearn.tasks import TASKS
from search_spaces import SPACES

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "experiments").glob("*.yaml"))
SMALLEST = "{name: tiny, data: {source: digits}, model: {name: cnn}, task: {kind: class}}"
DIGEST = "0" * 64


def read(tmp_path: Path, text: str, *settings: str) -> Experiment:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return read_experiment(path, settings)


def changed(*settings: str) -> Experiment:
    content = yaml.safe_load(SMALLEST)
    for setting in settings:
        key, _, value = setting.partition("=")
        *parents, last = key.split(".")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.safe_load(value)
    return make_experiment(content)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_sound_and_named_like_its_file(path: Path) -> None:
    experiment = read_experiment(path)
    assert experiment.name == path.stem.replace("_", "-")
    assert path.read_text().startswith("# ")


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    experiment = read(tmp_path, SMALLEST)
    assert experiment.labels == "aware"
    assert experiment.method == "mixunlearn"
    assert experiment.search.objective == "gap/avg"
    assert experiment.task.model_dump() == {"kind": "class", "classes": [0]}
    assert read(tmp_path, resolved(experiment)) == experiment


def test_defaults_are_those_of_the_core() -> None:
    for kind, task in TASKS.items():
        defaults = {name: key.default for name, key in task.schema().items()}
        assert changed(f"task.kind={kind}").task.model_dump() == {"kind": kind, **defaults}
    references = make_experiment(yaml.safe_load(SMALLEST)).references
    recipe = Recipe(epochs=references.epochs)
    assert references.model_dump(exclude={*COUNTS, "recipe", "epochs"}) == {
        name: getattr(recipe, name) for name in ("lr", "batch", "weight_decay")
    }


def test_a_recipe_fills_in_what_is_not_written() -> None:
    references = changed("references.recipe=salun182", "references.lr=0.05").references
    assert (references.epochs, references.batch, references.lr) == (182, 256, 0.05)
    recipe = references.chosen
    assert (recipe.optimizer, recipe.weight_decay, recipe.lr) == ("sgd", 5e-4, 0.05)
    written = resolved(changed("references.recipe=salun182", "references.lr=0.05"))
    assert make_experiment(yaml.safe_load(written)).references == references
    mapping = changed("references.recipe={base: salun182, momentum: 0.5}", "references.epochs=9")
    assert (mapping.references.chosen.momentum, mapping.references.chosen.epochs) == (0.5, 9)


def test_a_recipe_counts_by_its_values() -> None:
    plain = changed().signature(DIGEST)
    assert changed("references.recipe=ours").signature(DIGEST) == plain
    assert changed("references.recipe={epochs: 8, lr: 0.001}").signature(DIGEST) == plain
    fast = changed("references.recipe=fast").signature(DIGEST)
    spelled = "{schedule: one_cycle, warm_up: 0.25, lr: 0.004, epochs: 4, batch: 64}"
    assert changed(f"references.recipe={spelled}").signature(DIGEST) == fast != plain


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("recipe=fsat", "references.recipe = 'fsat': unknown; did you mean 'fast'?"),
        ("recipe=5", "references.recipe = 5: must be the name of a recipe, a mapping, or"),
        ("recipe={momentum: 2}", "references.recipe.momentum = 2: must be a finite number of"),
        (f"recipe.lr={10**400}", f"references.recipe.lr = {10**400}: must be a finite number"),
        ("recipe.steps=[1]", "references.recipe.steps = [1]: must be increasing shares"),
        ("recipe.schedule=cos", "references.recipe.schedule = 'cos': must be one of cosine, "),
        ("recipe.speed=1", "references.recipe.speed = 1: unknown key; did you mean"),
        ("momentum=0.8", "references.momentum = 0.8: unknown key; it belongs to references.recipe"),
    ],
)
def test_a_wrong_recipe_is_one_line(setting: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        changed(f"references.{setting}")
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [10**400, -(10**20)])
def test_a_whole_number_that_no_database_keeps_is_refused(number: int) -> None:
    for key in ("search.space.lr", "search.space.k", "search.start"):
        value = f"[{{lr: {number}}}]" if key == "search.start" else number
        with pytest.raises(InputError, match=r"search\.s.* databases keep no larger") as raised:
            changed(f"{key}={value}")
        assert raised.value.value == number


def test_a_wrong_recipe_hides_no_other_mistake() -> None:
    with pytest.raises(InputError) as raised:
        changed("references.recipe.lr=-1", "search.trials=-1")
    found = [raised.value, *raised.value.others]
    assert [error.key for error in found] == ["references.recipe.lr", "search.trials"]


def test_every_method_has_a_space() -> None:
    assert METHODS.keys() == SPACES.keys()


NAMES = f"""
import json, sys
from {make_experiment.__module__} import make_experiment
from mixunlearn.errors import InputError

content = json.loads(sys.argv[1])
refused = []
for key, value in json.loads(sys.argv[2]).items():
    try:
        make_experiment(content | {{key: value}})
    except InputError as error:
        refused.append(str(error).partition(";")[0])
heavy = [name for name in ("torch", "ray", "mlflow", "optuna", "scipy") if name in sys.modules]
print(json.dumps([refused, heavy]))
"""


def test_names_are_checked_without_importing_pytorch() -> None:
    wrong = {"method": "sgd", "model": {"name": "lenet"}, "data": {"source": "stl10"}}
    contents = [json.dumps(yaml.safe_load(SMALLEST)), json.dumps(wrong)]
    ran = subprocess.run(
        [sys.executable, "-c", NAMES, *contents],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    refused, heavy = json.loads(ran.stdout)
    assert refused == [
        "method = 'sgd': unknown",
        "model.name = 'lenet': unknown",
        "data.source = 'stl10': unknown",
    ]
    assert heavy == []


def test_settings_are_put_over_the_file_in_order(tmp_path: Path) -> None:
    experiment = read(
        tmp_path,
        SMALLEST,
        "search.trials=3",
        "search.trials=5",
        "search.space.lr=[1e-5, 1E-3]",
        "references.weight_decay=5e-4",
        "data.limit={train: 100}",
        "task={kind: data, fraction: 1}",
        " name =other",
        "tracking.uri=sqlite:///a=b.db",
        "resources.trial_seconds=",
    )
    assert experiment.search.trials == 5
    assert experiment.search.space == {"lr": [1e-5, 1e-3]}
    assert experiment.references.weight_decay == 5e-4
    assert experiment.data.limit.train == 100
    assert experiment.task.model_dump() == {"kind": "data", "classes": None, "fraction": 1}
    assert experiment.name == "other"
    assert experiment.tracking.uri == "sqlite:///a=b.db"
    assert experiment.resources.trial_seconds is None


def test_settings_leave_the_content_of_the_file_alone(tmp_path: Path) -> None:
    text = "anchors: {lr: &lr 1e-3}\n"
    with pytest.raises(InputError, match="anchors = "):
        read(tmp_path, text + SMALLEST[1:-1].replace(", ", "\n"))
    shared = (
        "name: tiny\ndata: {source: digits}\nmodel: {name: cnn}\ntask: {kind: class}\n"
        "references: &common {epochs: 2}\nsearch: {<<: *common, trials: 3}\n"
    )
    experiment = read(tmp_path, shared, "search.epochs=7")
    assert (experiment.references.epochs, experiment.search.epochs) == (2, 7)


def test_a_file_may_come_from_windows(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode() + b"\r\n")
    assert read_experiment(path).name == "tiny"


@pytest.mark.parametrize(
    "setting",
    [
        "name=other",
        "search.trials=99",
        "references.proxies=5",
        "resources.cpu=2",
        "resources.precision=float32",
        "resources.capture=off",
        "resources.deterministic=true",
        "tracking.uri=http://host",
        "data.train=elsewhere.parquet",
        "data.train=[else.parquet, where.parquet]",
        "data.test=elsewhere.parquet",
        "data.root=elsewhere",
        "data.download=true",
        "data.size=64",
    ],
)
def test_what_cannot_change_a_number_does_not_change_the_signature(setting: str) -> None:
    assert changed(setting).signature(DIGEST) == changed().signature(DIGEST)


@pytest.mark.parametrize(
    "setting",
    [
        "data.limit.train=100",
        "data.seed=1",
        "model.width=8",
        "model.size=16",
        "task.classes=[1]",
        "labels=agnostic",
        "method=l_mix",
        "references.seeds=4",
        "references.lr=0.01",
        "search.epochs=7",
        "search.seed=1",
        "search.sampler=random",
        "search.scheduler=none",
        "search.objective=gap/mia/asr",
        "search.report_seeds=4",
        "search.space.lr=1.0e-4",
        "search.start=[{lr: 1.0e-4}]",
        "resources.precision=bfloat16",
    ],
)
def test_what_can_change_a_number_changes_the_signature(setting: str) -> None:
    assert changed(setting).signature(DIGEST) != changed().signature(DIGEST)


def test_other_data_make_another_study() -> None:
    assert changed().signature(DIGEST) != changed().signature("1" * 64)


def test_studies_of_earlier_versions_keep_their_names() -> None:
    assert changed().signature(DIGEST) == "627e2241"
    assert changed("data.label=y").signature(DIGEST) == "b7baa2b3"


def test_without_weights_the_signature_is_that_of_earlier_versions() -> None:
    presets = (("digits_class", "aa617d6e"), ("cifar10_class", "37b9b744"))
    for name, signature in presets:
        path = next(path for path in PRESETS if path.stem == name)
        # With the numbers of references that these presets once had.
        seeds = {"digits_class": 3, "cifar10_class": 5}[name]
        experiment = read_experiment(path, [f"references.seeds={seeds}"])
        assert experiment.signature(DIGEST) == signature


def test_weights_count_by_their_content() -> None:
    first, second = (changed(f"model.weights={name}.safetensors") for name in "ab")
    assert first.signature(DIGEST, weights="1") == second.signature(DIGEST, weights="1")
    assert first.signature(DIGEST, weights="1") != first.signature(DIGEST, weights="2")
    assert first.signature(DIGEST, weights="1") != changed().signature(DIGEST)


def planned(home: Path, *settings: str) -> Plan:
    return make_plan(changed(*settings), home, command="test")


@pytest.fixture
def _no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.usefixtures("_no_tracking")
def test_a_plan_starts_from_the_weights_of_a_file(tmp_path: Path) -> None:
    model = build_model("cnn", image_shape=(1, 8, 8), classes=7, seed=1, width=4)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    plan = planned(tmp_path, "model.width=4", f"model.weights={tmp_path / 'weights.safetensors'}")
    assert plan.pretrained is not None
    assert plan.references.architecture.weights == plan.pretrained.digest
    assert plan.references.pretrained is plan.pretrained
    assert plan.study != planned(tmp_path, "model.width=4").study


@pytest.mark.usefixtures("_no_tracking")
def test_margins_make_another_study_only_if_one_differs(tmp_path: Path) -> None:
    default = planned(tmp_path).study
    assert planned(tmp_path, "margins={acc: 2, mia/asr: 5}").study == default
    stricter = planned(tmp_path, "margins={acc: 1}")
    assert stricter.study != default
    # However it is written.
    names = ", ".join(f"{name}: 1" for name in stricter.margins if name.startswith("acc/"))
    assert planned(tmp_path, f"margins={{{names}, mia: 5}}").study == stricter.study


@pytest.mark.usefixtures("_no_tracking")
def test_trials_choose_among_few_stages_or_take_the_one_asked_for(tmp_path: Path) -> None:
    model = "model.name=torchvision:resnet18"
    assert planned(tmp_path, model).stages == ("relu", "layer1")
    assert planned(tmp_path, model).default["stage"] == "relu"
    assert planned(tmp_path, model, "search.space.stage=layer1.0").stages == ("layer1.0",)
    assert planned(tmp_path, model, "search.space.stage=[layer1, conv1]").stages == (
        *("layer1", "conv1"),
    )


@pytest.mark.usefixtures("_no_tracking")
def test_without_feature_maps_there_is_no_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flat_models.py").write_text(
        "from torch import nn\n"
        "def flat(*, channels, size, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = "model.name=flat_models:flat"
    with pytest.raises(InputError, match=r"^model.name = .* has no feature map for the generator"):
        planned(tmp_path, model)
    assert planned(tmp_path, model, "search.space.mixing=mixup").stages == ()
    assert planned(tmp_path, model, "method=finetune").stages == ()


def test_sections_can_be_read_alone() -> None:
    data = read_data("parquet", ["data.train=a.parquet", "data.label=y"])
    assert data.options == {"train": "a.parquet", "label": "y"}
    assert read_tracking(["tracking.storage=s3://bucket/runs"]).storage == "s3://bucket/runs"
    assert read_tracking().uri is None


def test_a_password_is_used_and_never_shown() -> None:
    experiment = changed("tracking.uri=http://me:hunter2@host")
    assert experiment.tracking.uri == "http://me:hunter2@host"
    assert "hunter2" not in resolved(experiment)
    assert "hunter2" not in experiment.model_dump_json()
    assert "http://***@host" in resolved(experiment)
    # As read again from a study's folder: the password comes from the environment.
    assert changed("tracking.uri=http://***@host").tracking.uri == "http://host"
    saved = changed("storage.study=postgresql://ann:***@host/name")
    assert saved.storage.study == "postgresql://ann@host/name"


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000",
        "https://user:password@host/path",
        "databricks",
        "databricks://profile",
        "sqlite:///runs/mlflow.db",
        "sqlite:////tmp/mlflow.db",
        "postgresql://user@host/name",
        "postgresql+psycopg2://user@host/name",
        "mysql+pymysql://user@host/name",
        "mssql+pyodbc://user@host/name",
    ],
)
def test_addresses_of_servers_and_databases_are_taken(uri: str) -> None:
    check_tracking("tracking.uri", uri)
    changed(f"tracking.uri={uri}")


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_folders_are_taken_only_if_mlflow_takes_them(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(InputError, match="must be an address"):
        check_tracking("tracking.uri", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_tracking("tracking.uri", uri)


@pytest.mark.parametrize(
    "storage", ["artifacts", "/srv/artifacts", "s3://a/b", "gs://a", "file:///a"]
)
def test_places_of_artifacts_are_taken(storage: str) -> None:
    changed(f"tracking.storage={storage}")


def test_workers_find_a_home_that_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    plan = make_plan(changed(), Path("runs"), command="test")
    assert plan.references.store.root == tmp_path / "runs" / "store"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("gpu", [0, 0.01, 0.25, 1, 2, 8.0])
def test_shares_and_whole_gpus_are_taken(gpu: float) -> None:
    assert changed(f"resources.gpu={gpu}").resources.gpu == gpu


def test_values_cannot_be_changed_later() -> None:
    experiment: Any = changed()
    with pytest.raises(ValueError, match="frozen"):
        experiment.search.trials = 3


def test_a_plan_needs_no_gpu_where_nothing_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = changed("resources.gpu=64", "task.kind=class", "task.classes=[1]")
    with pytest.raises(InputError, match=r"resources.gpu = 64.0: this machine has"):
        make_plan(wanted, tmp_path, command="test")
    plan = make_plan(wanted, tmp_path, command="test", planning=True)
    assert plan.workers == "none on this machine"
    elsewhere = replace(plan, local=False).workers
    assert elsewhere.endswith("room for, each on 64 GPUs, without captured steps")
    assert "resources.gpu = 64: this machine has" in caplog.text
    images, splits = images_of_work(plan), plan.splits
    forget, retain = len(splits.forget_N), len(splits.retain_N)
    models = 3 * (2 * retain + forget)  # three originals and three references
    assert images == {"training": models * 8, "trials": 16 * 6 * retain}


PAPER = sorted((ROOT / "experiments" / "paper").glob("*.yaml"))


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_presets_of_papers_train_as_their_authors_do(path: Path) -> None:
    every = [cell for cell in cells(read_comparison(path)) if cell.experiment]
    for cell in every:
        name, experiment = cell.data, cell.experiment
        assert experiment is not None
        stages = ("pool1", "pool2") if experiment.model.name == "cnn" else ("layer2", "layer3")
        narrowing, epochs = experiment.search.space, experiment.search.epochs
        space = make_space(experiment.method, Stages(stages, stages[-1]), narrowing, epochs)
        assert len(knobs(space, {"labels": experiment.labels})) <= KNOBS, cell.title
        recipe, model = experiment.references.chosen, experiment.model
        if path.stem.startswith("salun"):
            assert (recipe, model.size) == (RECIPES["salun182"], None)
        elif model.name == "cnn":
            assert recipe == replace(RECIPES["laf224"], augmentation="none"), name
        else:
            assert (recipe, model.size) == (RECIPES["laf224"], 224)
