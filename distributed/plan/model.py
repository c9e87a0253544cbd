"""The model of a plan: its architecture, initial weights and feature stages."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed.config.experiment import Experiment
from distributed.runtime.addresses import resolve
from distributed.study.folder import StudyFolder
from distributed.tracking.weights import fetched_weights, is_address
from mixunlearn.data.arrow import Dataset
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.models import Pretrained, StagedModel
from mixunlearn.models.own import KEY, OwnModel
from mixunlearn.own_recipe import OwnRecipe
from mixunlearn.problem import Architecture
from mixunlearn.redaction import redact
from search_spaces import SPACES, Choice, Space


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What a user brings along with the model; each is `None` if it is not given.

    Args:
        pretrained: initial weights of originals and references.
        own: the user's own model, not yet fitted to its architecture.
        own_recipe: the user's own training.
    """

    pretrained: Pretrained | None = None
    own: OwnModel | None = None
    own_recipe: OwnRecipe | None = None

    @classmethod
    def read(
        cls, experiment: Experiment, home: Path, begun: StudyFolder | None = None
    ) -> "Brought":
        """Return what an experiment names.

        Args:
            experiment: what the user wrote.
            home: where results are kept, and MLflow's database if no other address is set.
            begun: folder of the study if it is only read: of the user's own model, its digest
                will do, so that its file may be gone.

        Raises:
            InputError: a file cannot be read, MLflow has no such model, or a module cannot be
                found.
            MixUnlearnError: MLflow does not answer, or a download failed.
        """
        model, recipe = experiment.model, experiment.references.function
        return cls(
            pretrained=Pretrained.read(model.weights, model.name) if model.weights else None,
            own=(begun and _remembered(experiment, begun)) or _own(experiment, home),
            own_recipe=OwnRecipe.of(recipe) if recipe else None,
        )

    def fitted(self, shape: Architecture) -> "Brought":
        """Return the same with the user's own model fitted to its architecture.

        Raises:
            InputError: it is another model.
        """
        if self.own is None or self.own.known is not None:
            return self
        return replace(self, own=self.own.fitted(shape))


def _own(experiment: Experiment, home: Path) -> OwnModel | None:
    """Return the user's own model, from a file or from MLflow; `None` if there is none."""
    source, tracking = experiment.model.original, experiment.tracking
    if source is None:
        return None
    if not is_address(source):
        return OwnModel.of_file(source, experiment.model.name)
    uri, _ = resolve(tracking.uri, tracking.storage, home)
    with fetched_weights(source, uri, KEY) as path:
        return OwnModel.of_file(source, experiment.model.name, str(path))


def _remembered(experiment: Experiment, begun: StudyFolder) -> OwnModel | None:
    """Return what a study has kept of the user's own model; `None` if it names another one now."""
    try:
        found = json.loads(begun.original.read_text())
        same = redact(experiment.model.original or "") == found["source"]
        return OwnModel.remembered(found["source"], found["digest"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def architecture(
    experiment: Experiment, dataset: Dataset, pretrained: Pretrained | None
) -> Architecture:
    """Return the model of an experiment, sized for its images."""
    channels, height, width = dataset.images_NCHW.shape[1:]
    return Architecture(
        name=experiment.model.name,
        width=experiment.model.width,
        image_shape=(channels, height, width),
        classes=len(dataset.classes),
        weights=pretrained.digest if pretrained else None,
        size=experiment.model.size,
    )


@dataclass(frozen=True)
class Stages:
    """What the search space of a method depends on: the model's feature stages.

    Args:
        names: the stages that can be chosen.
        default: the one that is chosen by default; empty if there are none.
    """

    names: tuple[str, ...]
    default: str

    @classmethod
    def of(cls, model: StagedModel, narrowing: Mapping[str, Any]) -> "Stages":
        """Return the stages of a model, with additional ones that `search.space` names.

        Raises:
            InputError: a stage cannot be read.
        """
        return cls(model.stages_with(_wished_stages(narrowing)), model.default_stage)

    @classmethod
    def read(cls, path: Path) -> "Stages | None":
        """Return the stages that a study has kept; `None` if it has not, or not legibly."""
        try:
            found = json.loads(path.read_text())
            return cls(tuple(found["names"]), found["default"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def make_space(method: str, stages: Stages, narrowing: Mapping[str, Any], epochs: int) -> Space:
    """Return the hyperparameters of a method for a model, as `search.space` asks for.

    Args:
        method: a key of `METHODS`.
        stages: of the model.
        narrowing: `search.space`.
        epochs: of a trial; some methods plan their course for this number.

    Raises:
        InputError: the method has no space, or the narrowing does not fit it.
    """
    if method not in SPACES:
        remedy = (
            "has no search space; its package must name one under the entry point "
            "mixunlearn.search_spaces"
        )
        raise InputError("method", method, remedy)
    space = SPACES[method](stages.names, stages.default)
    _require_rates(space, narrowing)
    planned = {
        name: value for name, value in METHODS[method].planned(epochs).items() if name in space
    }
    return space.narrowed({**planned, **narrowing}, widen=True)


def _require_rates(space: Space, narrowing: Mapping[str, Any]) -> None:
    """Refuse another optimizer with the learning rates of the default one."""
    wish = narrowing.get("optimizer", [])
    others = {*map(str, wish if isinstance(wish, list) else [wish])}
    if "optimizer" in space and "lr" not in narrowing and others - {space["optimizer"].default}:
        default = space["optimizer"].default
        remedy = f"the range of lr is for {default}; give search.space.lr, too: [1e-4, 0.1] for sgd"
        raise InputError("search.space.optimizer", wish, remedy)


def taught_stages(readable: tuple[str, ...], augmentation: str) -> tuple[str, ...]:
    """Return the stages whose features are computed once and stored: none of augmented images."""
    return readable if augmentation == "none" else ()


def _wished_stages(narrowing: Mapping[str, Any]) -> list[str]:
    """Return the feature stages that the user names."""
    wish = narrowing.get("stage", [])
    return [name for name in (wish if isinstance(wish, list) else [wish]) if isinstance(name, str)]


def readable_stages(space: Space, model: str) -> tuple[str, ...]:
    """Return the stages from which trials may read features: those worth caching.

    Raises:
        InputError: the method needs a stage and the model has none.
    """
    stage = space.get("stage")
    if stage is None or not space.reachable("stage"):
        return ()
    assert isinstance(stage, Choice)
    if not stage.options:
        remedy = "has no feature map for the generator; use another, or search.space.mixing=mixup"
        raise InputError("model.name", model, remedy)
    return tuple(str(option) for option in stage.options)
