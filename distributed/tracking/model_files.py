"""Unlearned models as files that MLflow can run, without pickle.

A saved model maps pixels to probabilities. It needs PyTorch and MLflow, but not this project.
Shape suffixes: B batch, C channels, H W pixels, K classes.
"""

import json
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml
from safetensors.numpy import save
from torch import Tensor, nn

from distributed.runtime.text import one_line
from distributed.tracking.server import import_mlflow, set_defaults
from mixunlearn import atomic
from mixunlearn.data.batches import PIXEL_MAX
from mixunlearn.errors import MixUnlearnError
from mixunlearn.models import StagedModel
from mixunlearn.problem import Architecture, Arrays

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature


CARD, MLMODEL = "README.md", "MLmodel"
WEIGHTS, ARCHITECTURE = "model.safetensors", "architecture.json"
EXAMPLES = 2  # images in the example; with one image, the export would fix the batch size


class Classifier(nn.Module):
    """A model for use: pixels in, probabilities out.

    Args:
        model: maps images in [0, 1] to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Return probabilities (B, K), float32, of uint8 images (B, C, H, W)."""
        images = pixels_BCHW.to(torch.float32) / PIXEL_MAX
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.softmax(self.model(images), dim=1)


# --- saving ----------------------------------------------------------------------------------


def save_model(
    model: StagedModel,
    folder: Path,
    *,
    architecture: Architecture,
    classes: Sequence[str],
    card: str,
    metadata: Mapping[str, str],
) -> str | None:
    """Write a model as a folder that MLflow can log and run; contacts no server.

    The folder holds the program (`data/model.pt2`) with signature and input example, the weights
    alone (`model.safetensors`) with `architecture.json`, and the card (`README.md`). It appears
    only when it is complete. The example is noise, because an image of the data may have to be
    forgotten one day.

    Args:
        model: the unlearned model, on the CPU; it is put into evaluation mode.
        folder: path of the folder; if it holds a model already, it stays unchanged.
        architecture: architecture of the model.
        classes: names of the model's outputs.
        card: text of the card, in Markdown.
        metadata: entries for the file `MLmodel`.

    Returns:
        The reason if the model cannot be exported and only its weights are saved; else None.

    Raises:
        MixUnlearnError: the disk is full, or the folder cannot be written.
    """
    set_defaults()
    # In the same folder, as a rename cannot cross file systems.
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    about = {"classes": list(classes), **metadata}
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        reason = _export(Classifier(model).eval(), temporary, architecture, about)
        _add_files(temporary, weights, architecture, card)
        atomic.publish(temporary, folder, marker=MLMODEL)
    except OSError as error:
        reason = one_line(error)
        raise MixUnlearnError(
            f"{folder}: {reason}; fix it and run the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return reason


def discard(folder: Path) -> None:
    """Remove a folder with a saved model, if there is one.

    Raises:
        MixUnlearnError: it cannot be removed.
    """
    try:
        if folder.is_symlink():  # what it leads to is not ours
            folder.unlink()
        else:
            atomic.discard(folder)
    except OSError as error:
        reason = one_line(error)
        raise MixUnlearnError(
            f"{folder}: {reason}; remove it and run the same command again"
        ) from error


def _export(
    program: Classifier, folder: Path, architecture: Architecture, metadata: Mapping[str, object]
) -> str | None:
    """Write the program for MLflow; if the export fails, only its description; return why."""
    import_mlflow()  # waits if the tracking thread is importing it at the same time
    from mlflow.models import Model  # noqa: PLC0415

    signature = _signature(architecture)
    try:
        with _unfounded_warnings_ignored():
            _save_program(program, folder, architecture, signature, metadata)
    except OSError:
        raise
    except Exception as error:  # a model that cannot be traced may raise anything
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        Model(signature=signature, metadata=dict(metadata)).save(str(folder / MLMODEL))
        return one_line(error)
    return None


@contextmanager
def _unfounded_warnings_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        # Each weight is stored alone; in channels-last order, PyTorch takes it for incomplete.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        # About MLflow's own interfaces for language models, at its import.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        yield


def _save_program(
    program: Classifier,
    folder: Path,
    architecture: Architecture,
    signature: "ModelSignature",
    metadata: Mapping[str, object],
) -> None:
    from mlflow.models import Model  # noqa: PLC0415
    from mlflow.pytorch import save_model as save_program  # noqa: PLC0415

    shape = (EXAMPLES, *architecture.image_shape)
    save_program(
        program,
        folder,
        signature=signature,
        input_example=np.random.default_rng(0).integers(PIXEL_MAX + 1, size=shape, dtype=np.uint8),
        serialization_format="pt2",
        # Without this, MLflow loads the model in another process to guess its packages.
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        metadata=dict(metadata),
    )
    _leave_out_traces(folder / "data" / "model.pt2")
    # `Model.load` takes a path for an address: it fails on a folder with `%` in its name.
    written = Model.from_dict(yaml.safe_load((folder / MLMODEL).read_text(encoding="utf-8")))
    _run_on_cpu(written)
    written.save(str(folder / MLMODEL))


def _leave_out_traces(file: Path) -> None:
    """Remove the paths of source files on this machine from an exported program."""
    program = torch.export.load(file)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, file)


def _run_on_cpu(model: "Model") -> None:
    """Let MLflow run an exported model on the CPU, where its weights are; on a GPU it fails."""
    model.flavors["python_function"]["config"] = {"device": "cpu"}


def _signature(architecture: Architecture) -> "ModelSignature":
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import Schema, TensorSpec  # noqa: PLC0415

    pixels = TensorSpec(np.dtype(np.uint8), (-1, *architecture.image_shape))
    probabilities = TensorSpec(np.dtype(np.float32), (-1, architecture.classes))
    return ModelSignature(inputs=Schema([pixels]), outputs=Schema([probabilities]))


def _add_files(folder: Path, weights: Arrays, architecture: Architecture, card: str) -> None:
    # The format stores bytes as they lie: a channels-last array would come back permuted.
    whole = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    (folder / WEIGHTS).write_bytes(save(whole))
    (folder / ARCHITECTURE).write_text(json.dumps(asdict(architecture), indent=1) + "\n")
    (folder / CARD).write_text(card)
