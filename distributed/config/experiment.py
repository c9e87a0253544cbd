"""The experiment: what a user writes, checked and typed before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_serializer, field_validator, model_validator

from distributed.config.errors import as_one_of_pydantics
from distributed.config.section import (
    YEAR_SECONDS,
    DataMemory,
    Epochs,
    Images,
    Paths,
    Positive,
    Section,
    Seed,
    Trials,
    up_to,
)
from distributed.config.tasks import Task
from distributed.runtime.text import redact_address, without_account
from mixunlearn.data import LARGEST_SIZE
from mixunlearn.errors import InputError
from mixunlearn.recipes import Recipe, is_function, make_recipe
from mixunlearn.signature import signature
from mixunlearn.tasks import TASKS
from mixunlearn.wording import counted

SQUARE = "memory and time grow with its square"
MODELS = "each one is a model to train and to keep"

# Keys of `references` that say how many models there are, not how they are trained.
COUNTS = {"originals", "seeds", "proxies"}
OVERRIDING = ("epochs", "lr", "batch", "weight_decay")  # those that override keys of a recipe

Size: TypeAlias = Annotated[int, Field(ge=1), up_to(LARGEST_SIZE, SQUARE)]
Width: TypeAlias = Annotated[int, Field(ge=1), up_to(1024, SQUARE)]
Batch: TypeAlias = Annotated[int, Field(ge=1), up_to(1_000_000, "a batch must fit into memory")]
Share: TypeAlias = Annotated[float, up_to(100_000, "no machine has more")]


class Limit(Section):
    """How many images to keep of each part of a data set, drawn at random."""

    train: Images | None = None
    test: Images | None = None


class Data(Section):
    """Where images come from; each source has some of the options, see `docs/data.md`."""

    source: str
    train: Paths | None = None
    test: Paths | None = None
    image: str | None = None
    label: str | None = None
    root: str | None = None
    size: Size | None = None
    download: bool | None = None
    limit: Limit = Limit()
    seed: Seed = 0

    @property
    def options(self) -> dict[str, object]:
        """Return the options that were given for the source itself."""
        return self.model_dump(exclude={"source", "limit", "seed"}, exclude_none=True)


class Model(Section):
    """Which classifier; `width` is the number of channels of its first stage.

    `size` is the number of pixels of the shorter side to which it scales images before its first
    layer; null: it takes them as they are.
    `original` is the user's own trained model, which must forget: a file of weights, the address
    of a model in MLflow, or DEFAULT for torchvision's. `weights` are the initial weights of
    originals and references: a file, or DEFAULT.
    """

    name: str
    width: Width | None = None
    size: Size | None = None
    weights: str | None = None
    original: str | None = None

    def with_digests(self, digests: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the section as plain data in which digests replace what they are of.

        So a file that was moved is the same, and an edited one is not. What has no digest is left
        out, and so is no `size`, as it was by older versions, whose studies are found so.
        """
        newer = set() if self.size else {"size"}
        written = self.model_dump(exclude=newer)
        kept = {name: value for name, value in written.items() if name not in digests}
        return kept | {name: digest for name, digest in digests.items() if digest is not None}

    @field_validator("original")
    @classmethod
    def _saved(cls, address: str | None) -> str | None:
        return without_account(address)

    @field_serializer("original")
    def _without_password(self, address: str | None) -> str | None:
        return None if address is None else redact_address(address)


class References(Section):
    """How originals and references are trained, and how many there are.

    `recipe` is the name of one, or a mapping of its keys (`mixunlearn.recipes`); `epochs`, `lr`,
    `batch` and `weight_decay` override its values, and have them if they are not given. Or it is
    the user's own training, `package.module:function`, in place of these keys.
    `originals` null: as many as references, but only one if more than 10,000 images are trained on.
    `proxies`: random forget sets like the one of the task, each with one more model to train, from
    which the bias of the next request is predicted.
    """

    originals: Annotated[int, Field(ge=1), up_to(1000, MODELS)] | None = None
    seeds: Annotated[int, Field(ge=1), up_to(1000, MODELS)] = 3
    proxies: Annotated[int, Field(ge=0), up_to(1000, MODELS)] = 0
    epochs: Epochs = 8
    lr: Positive = 1e-3
    batch: Batch = 32
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    recipe: str | dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_recipe(cls, given: Any) -> Any:  # noqa: ANN401 (whatever a user writes)
        """Fill in the recipe's values of keys that are not given."""
        if not isinstance(given, dict) or is_function(given.get("recipe")):
            return given
        try:
            recipe = make_recipe(given.get("recipe"))
        except InputError as error:
            raise as_one_of_pydantics(error) from error
        return {name: getattr(recipe, name) for name in OVERRIDING} | given

    @property
    def function(self) -> str | None:
        """Return the name of the user's own training; `None` if a recipe of ours trains."""
        return self.recipe if isinstance(self.recipe, str) and is_function(self.recipe) else None

    @property
    def chosen(self) -> Recipe:
        """Return the recipe with the values of the keys beside it; only without `function`."""
        return replace(
            make_recipe(self.recipe), **{name: getattr(self, name) for name in OVERRIDING}
        )

    @property
    def augmentation(self) -> str:
        """Return how images are changed at random; of the user's own training it is not known."""
        return "none" if self.function else self.chosen.augmentation

    @property
    def training(self) -> dict[str, Any]:
        """Return what says how models are trained, as plain data: a recipe's values, not its name.

        Older versions know fewer keys; see `Recipe.content`.
        """
        return self.model_dump(exclude=COUNTS) if self.function else self.chosen.content


class Search(Section):
    """What is searched, how, and for how long.

    `start` holds whole or partial configurations that are tried right after the default.
    """

    trials: Trials = 16
    epochs: Epochs = 6
    sampler: Literal["tpe", "random", "cmaes", "gp"] = "tpe"
    scheduler: Literal["asha", "median", "none"] = "asha"
    objective: str = "gap/avg"
    seed: Seed = 0
    report_seeds: Annotated[int, Field(ge=3), up_to(1000, MODELS)] = 3
    space: dict[str, Any] = Field(default_factory=dict)
    start: list[dict[str, Any]] = Field(default_factory=list)


class Resources(Section):
    """What one trial gets, and how it computes; fractions of a GPU share it.

    With several GPUs, each computes a part of every batch.
    `precision` is that of the steps of unlearning; auto: float32. `capture` off: a GPU gets each
    operation of a step by itself. `deterministic`: a GPU gives equal numbers for equal seeds, too.
    """

    cpu: Annotated[Share, Field(ge=0.01)] = 1
    gpu: Annotated[Share, Field(ge=0)] = 0
    trial_seconds: Annotated[Positive, up_to(YEAR_SECONDS, "that is a year")] | None = None
    data_memory: DataMemory = "auto"  # GiB for images and features
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    capture: Literal["auto", "off"] = "auto"
    deterministic: bool = False

    @field_validator("capture", mode="before")
    @classmethod
    def _as_written(cls, given: object) -> object:
        # YAML reads the word `off` as false.
        return "off" if given is False else given

    @property
    def steps(self) -> str:
        """Return the precision of the steps of unlearning."""
        # Not what is fastest on a device: the same experiment must mean the same numbers.
        return "float32" if self.precision == "auto" else self.precision


# Keys that change no number beyond rounding, so that a study and a trial stay the same.
SAME_NUMBERS = tuple(f"resources.{name}" for name in Resources.model_fields if name != "precision")


class Tracking(Section):
    """Where MLflow keeps runs and artifacts; null: in files under the home."""

    uri: str | None = None
    storage: str | None = None

    @field_validator("uri", "storage")
    @classmethod
    def _saved(cls, address: str | None) -> str | None:
        return without_account(address)

    # What is serialised is shown: in MLflow, in reports, in experiment.yaml.
    @field_serializer("uri", "storage")
    def _without_password(self, address: str | None) -> str | None:
        return None if address is None else redact_address(address)


class Storage(Section):
    """Where the record of a study and its files are kept; null: under the home.

    `study` is the address of a database for Optuna. `files` is the address of a folder for the
    store, the checkpoints and the results, on any file system that pyarrow supports.
    """

    study: str | None = None
    files: str | None = None

    @field_validator("study", "files")
    @classmethod
    def _saved(cls, address: str | None) -> str | None:
        return without_account(address)

    @field_serializer("study", "files")
    def _without_password(self, address: str | None) -> str | None:
        return None if address is None else redact_address(address)


UNLISTED = "not published"  # end of what stands for a list of images where others may read it


class Experiment(Section):
    """An experiment: what to forget, how to search, with which resources, where to keep results.

    `margins` declare, before anything runs, by how much an unlearned model may differ from
    retrained ones and still be called equivalent: by metric, or by group of metrics (`acc`, `mia`).
    """

    name: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: Data
    model: Model
    task: Task
    labels: Literal["aware", "agnostic"] = "aware"
    method: str = "mixunlearn"
    references: References = References()
    margins: dict[str, Positive] = Field(default_factory=dict)
    search: Search = Search()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()

    @property
    def row_lists(self) -> tuple[str, ...]:
        """Return the keys of the task that list images, or name a file that does."""
        keys = TASKS[self.task.kind].schema().items()
        return tuple(name for name, key in keys if key.lists_rows)

    def published(self, images: int) -> dict[str, Any]:
        """Return the experiment as plain data that others may read: it counts images to forget.

        Args:
            images: number of images to be forgotten.
        """
        content = self.model_dump()
        for name in self.row_lists:
            # Also the name of a file: it may be that of a person.
            content["task"][name] = f"{counted(images, 'image')}, {UNLISTED}"
        return content

    def signature(
        self,
        digest: str,
        ids: Sequence[int] = (),
        weights: str | None = None,
        margins: Mapping[str, float] | None = None,
        own: str | None = None,
        recipe: str | None = None,
    ) -> str:
        """Return eight hex digits for all that can change a study's numbers.

        The numbers of trials, originals and proxies, the name, the home and the cluster do not
        change it.

        Args:
            digest: digest of the data set; it replaces where and how the data were read.
            ids: indices of the images to forget, if the task lists them; they replace the list or
                its file.
            weights: digest of the initial weights; it replaces their file.
            margins: those of the verdict that differ from the defaults, by metric; they replace
                what was declared.
            own: digest of the user's own model; it replaces its file.
            recipe: digest of the module of the user's own training.
        """
        content = self.model_dump(exclude={"name", "tracking", "resources", "storage"})
        content["data"] |= {"train": None, "test": None, "digest": digest}
        for key in ("root", "size", "download"):  # the digest covers their effect
            del content["data"][key]
        for name in self.row_lists:
            content["task"][name] = list(ids)
        content["model"] = self.model.with_digests({"weights": weights, "original": own})
        content["references"] = {"seeds": self.references.seeds, **self.references.training}
        if recipe:
            content["references"]["digest"] = recipe
        # Nothing else of the resources changes numbers beyond rounding.
        if self.resources.steps != "float32":
            content["precision"] = self.resources.steps
        # Asking for more trials, originals or proxies continues the same study.
        del content["search"]["trials"]
        if not self.search.start:
            del content["search"]["start"]
        # Other margins are another study: nobody can choose them after the result. Older versions
        # have none: the defaults are left out.
        del content["margins"]
        if margins:
            content["margins"] = dict(margins)
        return signature(content)
