"""What all trainables do with checkpoints: they save time, and nothing else depends on them."""

from contextlib import suppress
from tempfile import TemporaryDirectory

from pyarrow import ArrowException
from ray.train._internal.checkpoint_manager import _TrainingResult
from ray.tune import Trainable

LEFT_OUT = "left_out"  # key in a result: why the checkpoint before it could not be written


class Stored(Trainable):
    """A trainable that never fails because its checkpoints cannot be written or found.

    Without a checkpoint it only starts again from an older one, or from its beginning, and gives
    the same numbers. Derived classes look for their newest checkpoint in `reset_config`.
    """

    left_out = ""  # why the last checkpoint could not be written

    def save(self, checkpoint_dir: str | None = None) -> _TrainingResult:
        """Write a checkpoint; if the storage does not answer, leave it out and keep the reason."""
        if checkpoint_dir:
            return super().save(checkpoint_dir)
        try:
            # A folder of ours: Tune would leave its own behind after an error.
            with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                return super().save(folder)
        except (OSError, RuntimeError, ArrowException) as error:
            self.left_out = self._reason(error)
        with suppress(OSError, ArrowException):  # half of it would only use space
            self._storage.storage_filesystem.delete_dir(self._storage.checkpoint_fs_path)
        return _TrainingResult(checkpoint=None, metrics={})

    def restore(self, checkpoint_path: object) -> None:
        """Do nothing: `reset_config` has found the newest checkpoint, which may be newer."""

    @property
    def own_run(self) -> str:
        """The name of Tune's run that this belongs to; empty without Tune."""
        return str(self._storage.experiment_dir_name) if self._storage else ""

    def news(self) -> dict[str, str]:
        """Return what the next result says about the last checkpoint; empty if it was written."""
        reason, self.left_out = self.left_out, ""
        return {LEFT_OUT: reason} if reason else {}

    def _reason(self, error: Exception) -> str:
        """Return in one line why a checkpoint could not be written.

        Raises:
            RuntimeError: it has nothing to do with the storage.
        """
        if isinstance(error, RuntimeError):
            # The only way to tell it from errors of PyTorch: Tune has no type of its own for it.
            if "cluster storage" not in str(error):
                raise error
            # Somebody has deleted it, or this machine does not see it.
            return f"the folder {self._storage.experiment_fs_path} is gone"
        return " ".join(str(error).split())
