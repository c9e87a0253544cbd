"""A deletion request: a trained model, its data, what to forget, and with which configuration."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from distributed.config.experiment import Data
from distributed.config.read import make_experiment
from distributed.config.yaml_file import put
from distributed.plan.make import find_study, make_plan
from distributed.plan.plan import Plan
from distributed.requests.configuration import Configuration, of_study
from distributed.requests.nearest import choose, described
from distributed.runtime.text import shortened
from mixunlearn.data import sources
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.named_rows import row_names
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.methods import METHODS
from mixunlearn.models.own import OwnModel
from mixunlearn.rehearsal import Rehearsal
from mixunlearn.signature import seed_for, signature
from mixunlearn.splits import unsearched

CLASS = "class:"
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
# What a user of the command has written for a key of an experiment.
OPTIONS = {
    "task": "--forget",
    "task.ids": "--forget",
    "task.classes": "--forget",
    "model.original": "--weights",
    "model.name": "--model",
    "data.source": "--data",
}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a user writes.

    Args:
        forget: `class:NAME`, a file of ids, a folder with copies of the images, or rows.
        model: name of the model; `None`: that of the configuration's study.
        weights: of the trained model; `None`: those of that study.
        data: a source, a Parquet file or a folder of images; `None`: the data of that study.
        settings: `key=value` settings of the experiment.
        command: the command that carries out the request, for messages.
    """

    forget: str | Sequence[int]
    model: str | None
    weights: str | None
    data: str | None
    settings: Sequence[str]
    command: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked request.

    Args:
        configuration: with which the model unlearns.
        plan: data, splits and model; its search is never run.
        own: the trained model that must forget.
        of_study: whether that is the original of the configuration's study.
        command: the command that carries it out.
    """

    configuration: Configuration
    plan: Plan
    own: OwnModel
    of_study: bool
    command: str

    @property
    def seed(self) -> int:
        """Return the seed of the unlearning."""
        return seed_for("request", self.plan.experiment.search.seed)

    @property
    def token(self) -> str:
        """Return eight hex digits for all that determines the unlearned model."""
        augmentation = self.plan.references.recipe.augmentation
        # Without one, the digits are those of earlier versions.
        augmented = {} if augmentation == "none" else {"augmentation": augmentation}
        return signature(
            {
                **augmented,
                "model": self.own.digest,
                "architecture": self.plan.references.architecture.content,
                "splits": self.plan.splits.key,
                "method": self.configuration.method,
                "parameters": dict(self.configuration.hyperparameters),
                "epochs": self.configuration.epochs,
                "labels": self.plan.experiment.labels,
                "seed": self.seed,
            }
        )

    @property
    def stages(self) -> tuple[str, ...]:
        """Return the feature stages that the method reads."""
        stage = self.configuration.hyperparameters.get("stage")
        return (str(stage),) if stage is not None else ()


def make_request(wish: Wish, configuration: Configuration, home: Path) -> Request:
    """Check that everything fits, with one dry step of the very method; write nothing.

    Raises:
        InputError: something does not fit.
    """
    with _options_named():
        plan = make_plan(
            make_experiment(_content(wish, configuration, home)),
            home,
            command=wish.command,
            tracks=False,
        )
    own = plan.own or _of_study(configuration, plan, home)
    # No search looks at this forget set, so all of it is measured.
    plan = replace(plan, splits=unsearched(plan.splits), own=own)
    require_hyperparameters(configuration)
    request = Request(
        configuration=configuration,
        plan=plan,
        own=own,
        of_study=plan.own is None,
        command=wish.command,
    )
    _rehearse(request)
    return request


def _of_study(configuration: Configuration, plan: Plan, home: Path) -> OwnModel:
    """Return the original of the configuration's study, as its store has it.

    Raises:
        InputError: there is no study, or its store has no such model any more.
    """
    remedy = "missing: name the weights of your trained model, for example --weights model.pt"
    if configuration.study is None:
        raise InputError("--weights", None, remedy)
    study = find_study(configuration.study, [], home, reading=True)
    if study.source.digest != plan.source.digest:
        other = f"the original of {configuration.study} was trained on other data than --data"
        raise InputError("--weights", None, f"{remedy}; {other}")
    references = study.references
    try:
        weights = references.weights(references.original)
    except MixUnlearnError as error:
        gone = f"missing, and {configuration.study} has no original any more; name a file"
        raise InputError("--weights", None, gone) from error
    if references.architecture != plan.references.architecture:
        raise InputError("--weights", None, f"{remedy}; {configuration.study} has another model")
    return OwnModel.of_arrays(f"the original of {configuration.study}", weights)


def _content(wish: Wish, configuration: Configuration, home: Path) -> dict[str, Any]:
    """Return the experiment of a request: that of the study, with what the user wrote on top."""
    tuned = configuration.experiment
    content: dict[str, Any] = tuned.model_dump(exclude={"search"}) if tuned else {}
    content |= {"name": "unlearn", "method": configuration.method, "labels": configuration.labels}
    content["storage"] = {"files": content.get("storage", {}).get("files")}
    if wish.data is not None:
        content["data"] = _data(wish.data)
    if wish.model is not None:
        content["model"] = {"name": wish.model}
    for name, option in (("data", "--data"), ("model", "--model")):
        if name not in content:
            remedy = f"missing: {configuration.source} belongs to no study that would tell it"
            raise InputError(option, None, remedy)
    if wish.weights is not None:
        content["model"]["original"] = wish.weights
    content["task"] = _task(wish.forget, content["data"], home)
    if "stage" in configuration.hyperparameters:
        # The model's own choice of stages need not have it.
        content["search"] = {"space": {"stage": configuration.hyperparameters["stage"]}}
    put(content, wish.settings)
    return content


def _data(written: str) -> dict[str, Any]:
    """Return the `data` section for a source, a Parquet file or a folder of images."""
    path = Path(written).expanduser()
    if path.is_dir() and not [*path.glob("*.parquet")]:
        return {"source": "image_folder", "root": str(path)}
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return {"source": "parquet", "train": str(path)}
    return {"source": written}


def _task(forget: str | Sequence[int], data: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return the task for what must be forgotten."""
    if not isinstance(forget, str):
        return {"kind": "ids", "ids": list(forget)}
    if forget.startswith(CLASS):
        named = [name.strip() for name in forget.removeprefix(CLASS).split(",")]
        return {"kind": "class", "classes": [int(n) if n.isdecimal() else n for n in named]}
    path = Path(forget)
    # Not Path.is_dir: it fails if the name is too long, as that of ids written out.
    if os.path.isdir(path):  # noqa: PTH112
        source = open_data(data, home)
        return {"kind": "ids", "ids": copies(path, source)}
    if not os.path.isfile(path):  # noqa: PTH113
        remedy = "no such file or folder; give a list of ids, a folder of images, or class:NAME"
        raise InputError("--forget", shortened(forget, 60), remedy)
    return {"kind": "ids", "ids": forget}


def data_of(wish: Wish, home: Path) -> Dataset:
    """Return the data set that a user names, with `data.…` settings.

    Raises:
        InputError: it cannot be read.
    """
    content: dict[str, Any] = {"data": _data(wish.data or "")}
    put(content, [each for each in wish.settings if each.startswith("data.")])
    return open_data(content["data"], home)


def open_data(data: Mapping[str, Any], home: Path) -> Dataset:
    """Return the data set of a `data` section.

    Raises:
        InputError: it cannot be read.
    """
    section = Data.model_validate(data)
    return sources.open_dataset(section.source, section.options, home / "cache")


def copies(folder: Path, source: Dataset) -> list[str]:
    """Return the names that the source gives to the images in a folder of copies.

    Raises:
        InputError: an image has no counterpart, or several.
    """
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURES and path.is_file()
    )
    if not files:
        raise InputError("--forget", str(folder), "holds no image: give copies of the images")
    named = row_names(source)
    if "path" not in named:
        remedy = "the data set's images have no file names; give a list of rows, not a folder"
        raise InputError("--forget", str(folder), remedy)
    names = [name for name in named["path"]().to_pylist() if name is not None]
    whole, by_end = {*names}, dict[str, list[str]]()
    for name in names:
        by_end.setdefault(name.rpartition("/")[2], []).append(name)
    return [_counterpart(file, whole, by_end) for file in files]


def _counterpart(file: str, names: set[str], by_end: Mapping[str, Sequence[str]]) -> str:
    if file in names:
        return file
    alike = by_end.get(file.rpartition("/")[2], ())
    if len(alike) == 1:
        return alike[0]
    if alike:
        remedy = f"{len(alike)} images have this name ({alike[0]}, ...): keep their folders"
    else:
        remedy = f"no training image has this name; {known_names(file, sorted(names))}"
    raise InputError("--forget", file, remedy)


def nearest_configuration(wish: Wish, home: Path) -> Configuration:
    """Return the winner of the study in the home that is nearest to a request.

    Raises:
        InputError: no study is near, or the user has not named model and data.
    """
    for option, given in (("--model", wish.model), ("--data", wish.data)):
        if given is None:
            remedy = "missing: --config auto looks for a study with such a model and data"
            raise InputError(option, None, f"{remedy}; name it, or name a study with --config")
    any_method = Configuration(
        method="original", hyperparameters={}, epochs=1, labels="aware", source="auto"
    )
    with _options_named():
        experiment = make_experiment(_content(wish, any_method, home))
        about = described(experiment, home, {})
    choice = choose(about, home)
    return of_study(choice.study, home, chosen=choice.reason)


@contextmanager
def _options_named() -> Iterator[None]:
    """Name the option that a user has written, not the key of the experiment it stands for."""
    try:
        yield
    except InputError as error:
        if error.key not in OPTIONS:
            raise
        raise InputError(OPTIONS[error.key], error.value, error.remedy) from error


def require_hyperparameters(configuration: Configuration) -> None:
    """Check the names of the hyperparameters.

    Raises:
        InputError: the method has none of this name.
    """
    method = METHODS[configuration.method]
    known = [field.name for field in fields(method) if field.init]
    for name, value in configuration.hyperparameters.items():
        if name not in known:
            remedy = (
                f"{configuration.method} has no such hyperparameter; {known_names(name, known)}"
            )
            raise InputError(f"hyperparameters.{name}", value, remedy)


def _rehearse(request: Request) -> None:
    """Take one step of the very method on a few images of noise.

    Raises:
        InputError: the method does not work with the model.
    """
    plan = request.plan
    rehearsal = Rehearsal(
        architecture=plan.references.architecture,
        method=request.configuration.method,
        hyperparameters=request.configuration.hyperparameters,
        stages=request.stages,
        with_labels=plan.experiment.labels == "aware",
        forgotten=plan.splits.forgotten,
        forgets=len(plan.splits.forget_N),
    )
    rehearsal.unlearn(plan.references.architecture.load(request.own.tensors))
