"""Carries out a request: unlearns with checkpoints, and writes the model with the user's keys."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from distributed.requests.request import Request
from distributed.runtime.progress import Progress
from distributed.runtime.text import one_line
from distributed.study.lock import Lockable
from mixunlearn.atomic import replacing
from mixunlearn.errors import DivergedError, InputError, MixUnlearnError
from mixunlearn.files import Files
from mixunlearn.models.finite import require_finite
from mixunlearn.models.staged import StagedModel
from mixunlearn.problem import Problem
from mixunlearn.trial import Trial
from trainables.checkpoint import PREFIX, latest, save_state

Format = Literal["safetensors", "pt"]
WORK, BEGUN, DONE = ".work", "request.json", "unlearned.json"
TRIAL = "unlearning"  # folder of the checkpoints
UNFINISHED = ".*.tmp"  # files that a killed command was writing
KEPT = 2  # checkpoints: the newest may be half written when the machine stops


@dataclass(frozen=True, kw_only=True)
class Output:
    """The folder of a request's results.

    Args:
        folder: path of the folder.
        format: of the weights.
    """

    folder: Path
    format: Format = "safetensors"

    @property
    def weights(self) -> Path:
        """The unlearned model's weights, under the user's own keys."""
        return self.folder / f"model.{self.format}"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.folder / "README.md"

    @property
    def record(self) -> Path:
        """A copy of the deletion record."""
        return self.folder / "record.json"

    @property
    def work(self) -> Path:
        """Checkpoints and notes, which are removed when the request is done."""
        return self.folder / WORK


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """A model that has unlearned.

    Args:
        model: on the device that computed it.
        seconds: time to unlearn.
        history: the losses of each epoch; empty if the model was written before.
    """

    model: StagedModel
    seconds: float
    history: tuple[Mapping[str, float], ...] = ()


def run(
    request: Request,
    output: Output,
    device: torch.device,
    problem: Callable[[], Problem],
    progress: Progress,
) -> Unlearned:
    """Unlearn, or continue where an earlier command was stopped; write the weights.

    Args:
        request: the request.
        output: where results go.
        device: where to compute.
        problem: returns what the trial unlearns; called only if it is not done yet.
        progress: shows each epoch.

    Raises:
        InputError: the folder holds the results of another request.
        DivergedError: a loss or a weight is not finite; nothing is written then.
        MixUnlearnError: the folder cannot be written.
    """
    require_own(request, output)
    with _disk_errors(output):
        if done := _done(request, output):
            return _written(request, output, device, done)
        # First of all: whatever else a kill leaves here then belongs to this request.
        _note(output.work / BEGUN, token=request.token)
        found = _unlearn(request, output, device, problem(), progress)
        _write_weights(request, output, found.model)
        file = digest_of_file(output.weights)
        _note(output.work / DONE, token=request.token, seconds=found.seconds, file=file)
    return found


def tidy(output: Output) -> None:
    """Remove checkpoints, notes, and what killed commands have left half-written."""
    shutil.rmtree(output.work, ignore_errors=True)
    remove_unfinished(output.folder)


def remove_unfinished(folder: Path) -> None:
    """Remove files of a folder that a killed command was writing; it must be locked."""
    for left in folder.glob(UNFINISHED):
        left.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder of results, which is made if it is missing.

    The lock is on the folder, not on a file in it, and ends with the process. File systems that
    lock files only have no such lock.

    Raises:
        MixUnlearnError: another command is writing there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = Lockable(folder, os.O_RDONLY)
    except OSError as error:
        reason = one_line(error)
        raise MixUnlearnError(f"--out = {str(folder)!r}: {reason}; choose another") from error
    try:
        with suppress(OSError):
            _lock(held, folder)
        yield
    finally:
        held.close()


def _lock(held: Lockable, folder: Path) -> None:
    try:
        held.lock()
    except BlockingIOError as error:
        remedy = "another command is writing there; let it finish, then run this one again"
        raise MixUnlearnError(f"--out = {str(folder)!r}: {remedy}") from error


def _note(path: Path, **content: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content))


def require_own(request: Request, output: Output) -> None:
    """Check that a folder is empty, or was begun by the same request.

    Raises:
        InputError: it holds something else.
    """
    folder = output.folder
    if folder.exists() and not folder.is_dir():
        raise InputError("--out", str(folder), "is not a folder; choose another")
    known = {_token(path) for path in (output.record, output.work / DONE, output.work / BEGUN)}
    others = [path for path in folder.glob("*") if path != output.work] if folder.exists() else []
    # An unfinished request that left no weights does not count: its list may have been corrected.
    if request.token in known or not others:
        return
    remedy = "holds the results of another request" if known - {None} else "is not empty"
    raise InputError("--out", str(folder), f"{remedy}; choose another folder")


def _token(path: Path) -> str | None:
    """Return the token of the request that wrote a record or notes; `None` if there are none."""
    try:
        # That of a record also says whether it was verified.
        return str(json.loads(path.read_text())["token"]).partition("-")[0]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _done(request: Request, output: Output) -> dict[str, Any]:
    """Return the notes on the finished unlearning; empty if it has not finished."""
    for path in (output.work / DONE, output.record):
        if _token(path) == request.token and output.weights.is_file():
            found = dict(json.loads(path.read_text()))
            written = found["file"] if "file" in found else found["model"]["file"]
            if digest_of_file(output.weights) == written:
                return found
    return {}


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _written(
    request: Request, output: Output, device: torch.device, notes: Mapping[str, Any]
) -> Unlearned:
    """Return the model whose weights were written before."""
    model = read_weights(request, output).to(device)
    return Unlearned(model=model, seconds=float(notes["seconds"]))


def read_weights(request: Request, output: Output) -> StagedModel:
    """Return the model whose weights were written, on the CPU.

    Raises:
        InputError: the file was damaged or changed.
    """
    architecture = request.plan.references.architecture
    found = type(request.own).read(str(output.weights), architecture)
    return architecture.load(found.tensors)


def _unlearn(
    request: Request,
    output: Output,
    device: torch.device,
    problem: Problem,
    progress: Progress,
) -> Unlearned:
    configuration = request.configuration
    trial = Trial(
        problem, configuration.method, configuration.hyperparameters, request.seed, device
    )
    history = _restored(request, output, trial)
    if history:
        progress.say(f"unlearning: resumed after epoch {trial.epochs_done}")
    while trial.epochs_done < configuration.epochs:
        history.append(trial.unlearn())
        require_finite(trial.method.model)
        _checkpoint(request, output, trial, history)
        losses = ", ".join(
            f"{name.removeprefix('train/')} {x:.3g}" for name, x in history[-1].items()
        )
        done = f"epoch {trial.epochs_done} of {configuration.epochs}"
        progress.show(f"unlearning: {done}, {losses}", event=True)
    return Unlearned(
        model=trial.method.model, seconds=trial.seconds, history=tuple(map(dict, history))
    )


def _restored(request: Request, output: Output, trial: Trial) -> list[Mapping[str, float]]:
    """Load the newest checkpoint into a trial, if there is one; return the losses until then."""
    state = latest(Files.of(output.work), TRIAL, request.token)
    if state is None:
        return []
    trial.load_state_dict(state["trial"])
    return list(state["history"])


def _checkpoint(
    request: Request, output: Output, trial: Trial, history: list[Mapping[str, float]]
) -> None:
    # As Tune names them: the newest one sorts last.
    runs = output.work / "run" / TRIAL
    folder = runs / f"{PREFIX}{trial.epochs_done:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    state = {"identity": request.token, "trial": trial.state_dict(), "history": history}
    save_state(state, folder)
    for old in sorted(runs.glob(f"{PREFIX}*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _write_weights(request: Request, output: Output, model: StagedModel) -> None:
    """Write the weights under the user's keys, in the user's precision.

    Raises:
        DivergedError: a weight is too large for that precision.
    """
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in request.own.state_dict(model).items()
    }
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise DivergedError(f"{name} is too large for {str(tensor.dtype)[6:]}")
    with replacing(output.weights) as temporary:
        if output.format == "safetensors":
            save_file(state, temporary)
        else:
            # By way of memory: PyTorch tells of a full disk in its own words.
            torch.save(state, content := io.BytesIO())
            temporary.write_bytes(content.getbuffer())


@contextmanager
def _disk_errors(output: Output) -> Iterator[None]:
    try:
        yield
    except DivergedError as error:
        remedy = "the configuration is of no use for this model; choose another with --config"
        raise MixUnlearnError(f"unlearning diverged ({error.args[0]}): {remedy}") from error
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        remedy = "fix it and run the same command again"
        raise MixUnlearnError(f"--out = {str(output.folder)!r}: {reason}; {remedy}") from error
