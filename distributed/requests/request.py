"""A deletion request: a trained model, its data, what to forget, and with which configuration."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed.config.read import make_experiment
from distributed.config.yaml_file import put
from distributed.plan.make import find_study, make_plan
from distributed.plan.plan import Plan
from distributed.requests.configuration import Configuration, of_study
from distributed.requests.forget import CLASS, require_list, task_of
from distributed.requests.nearest import NOTHING, Opened, choose, described, open_once
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.names import typed_path
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.models.ensemble import Ensemble
from mixunlearn.models.own import OwnModel
from mixunlearn.rehearsal import Rehearsal
from mixunlearn.signature import seed_for, signature
from mixunlearn.splits import unsearched

SPACE = "search.space."  # what the keys of hyperparameters begin with in an experiment
TO_BE_READ = {"kind": "random"}  # stands for the task until the data are known
# What a user of the command has written for a key of an experiment.
OPTIONS = {
    "task": "--forget",
    "task.ids": "--forget",
    "task.classes": "--forget",
    "model.original": "--weights",
    "model.name": "--model",
    "data.source": "--data",
}
# Keys of an experiment that a request does not take from --set, and what says them.
SAID = {
    "name": "--name",
    "method": "--config",
    "task": "--forget",
    "model.original": "--weights",
    "search": "--config",
}
FREE = {"search.seed"}


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


def make_request(
    wish: Wish,
    configuration: Configuration,
    home: Path,
    opened: Opened | None = None,
    *,
    tried: bool = False,
) -> Request:
    """Check that everything fits, with one dry step of the very method; write nothing.

    Args:
        wish: what the user writes.
        configuration: with which the model unlearns.
        home: where records and studies are kept.
        opened: data that were opened before; what this opens is added.
        tried: whether model and method are known to work: then they are not tried.

    Raises:
        InputError: something does not fit.
    """
    if configuration.method == NOTHING:
        raise InputError("method", NOTHING, "changes nothing; choose another method")
    with _options_named():
        content, dataset = _content(wish, configuration, home, {} if opened is None else opened)
        plan = make_plan(
            make_experiment(content),
            home,
            command=wish.command,
            tracks=False,
            source=dataset,
            tried=tried,
        )
    own = plan.own or _of_study(configuration, plan, home)
    request = Request(
        configuration=_complete(configuration, plan),
        # No search looks at this forget set, so all of it is measured.
        plan=replace(plan, splits=unsearched(plan.splits), own=own),
        own=own,
        of_study=plan.own is None,
        command=wish.command,
    )
    if not tried:
        _rehearse(request)
    return request


def _complete(configuration: Configuration, plan: Plan) -> Configuration:
    """Return a configuration with the defaults of what it leaves out, for example the stage."""
    if configuration.study is not None:
        return configuration
    values = plan.space.defaults({"labels": plan.experiment.labels})
    return replace(configuration, hyperparameters=values)


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


def _content(
    wish: Wish, configuration: Configuration, home: Path, opened: Opened
) -> tuple[dict[str, Any], Dataset]:
    """Return the experiment of a request, and its data set.

    The experiment is that of the study, with what the user wrote on top.
    """
    _require_free(wish.settings)
    # Now, not after the data are read, which may take minutes.
    if isinstance(wish.forget, str) and not wish.forget.startswith(CLASS):
        require_list(wish.forget)
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
    content["task"] = dict(TO_BE_READ)
    # A space with one configuration: so a file's values are checked like those of a search.
    content["search"] = {"space": dict(configuration.hyperparameters)}
    put(content, wish.settings)
    dataset = open_once(make_experiment(content).data, home, opened)
    return {**content, "task": task_of(wish.forget, dataset)}, dataset


def _require_free(settings: Sequence[str]) -> None:
    """Refuse settings that would change nothing, or something else than an option says.

    Raises:
        InputError: there is one.
    """
    for setting in settings:
        key, _, value = setting.partition("=")
        for said, option in SAID.items():
            if f"{key.strip()}.".startswith(f"{said}.") and key.strip() not in FREE:
                raise InputError(f"--set {key.strip()}", value, f"is for {option} to say")


def _data(written: str) -> dict[str, Any]:
    """Return the `data` section for a source, a Parquet file or a folder of images."""
    path = typed_path("--data", written)
    if path.is_dir() and not [*path.glob("*.parquet")]:
        return {"source": "image_folder", "root": str(path)}
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return {"source": "parquet", "train": str(path)}
    return {"source": written}


def data_of(wish: Wish, home: Path, opened: Opened) -> Dataset:
    """Return the data set that a user names, with `data.…` settings.

    Raises:
        InputError: it cannot be read.
    """
    content: dict[str, Any] = {
        **{"name": "unlearn", "data": _data(wish.data or ""), "model": {"name": "cnn"}},
        **{"task": dict(TO_BE_READ), "method": "original"},
    }
    put(content, [each for each in wish.settings if each.startswith("data.")])
    with _options_named():
        return open_once(make_experiment(content).data, home, opened)


def nearest_configuration(wish: Wish, home: Path, opened: Opened) -> Configuration:
    """Return the winner of the study in the home that is nearest to a request.

    What data it opens is added to `opened`.

    Raises:
        InputError: no study is near, or the user has not named model and data.
    """
    for option, given in (("--model", wish.model), ("--data", wish.data)):
        if given is None:
            remedy = "missing: --config auto looks for a study with such a model and data"
            raise InputError(option, None, f"{remedy}; name it, or name a study with --config")
    any_method = Configuration(
        method=NOTHING, hyperparameters={}, epochs=1, labels="aware", source="auto"
    )
    with _options_named():
        content, _ = _content(wish, any_method, home, opened)
        about = described(make_experiment(content), home, opened)
    choice = choose(about, home)
    return of_study(choice.study, home, chosen=choice.reason)


@contextmanager
def _options_named() -> Iterator[None]:
    """Name the option that a user has written, not the key of the experiment it stands for."""
    try:
        yield
    except InputError as error:
        option = OPTIONS.get(error.key, error.key.replace(SPACE, "hyperparameters.", 1))
        raise InputError(option, error.value, error.remedy) from error


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
    method = rehearsal.unlearn(plan.references.architecture.load(request.own.tensors))
    if isinstance(method.model, Ensemble):
        remedy = "gives several models instead of one with your keys; choose another method"
        raise InputError("method", rehearsal.method, remedy)
