"""Opens the storage of a study: a SQL database or a journal file."""

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import SQLAlchemyError

from distributed.runtime.text import one_line
from mixunlearn.errors import MixUnlearnError

JOURNAL = "journal:///"


def open_record(address: str, name: str) -> tuple[BaseStorage, int]:
    """Return Optuna's storage and the study's id in it; both are created if missing.

    Args:
        address: address of a SQL database, or `journal:///PATH`.
        name: name of the study.

    Raises:
        MixUnlearnError: the storage does not answer, or is damaged.
    """
    try:
        study = _study(_storage(address), name)
    except (StorageInternalError, SQLAlchemyError, OSError, ValueError, KeyError) as error:
        reason = one_line(root_cause(error))
        what = f"the record of the study {name} cannot be opened: {reason}"
        raise MixUnlearnError(f"{what}; check storage.study and free space") from error
    return study._storage, study._study_id


def _study(storage: BaseStorage, name: str) -> optuna.Study:
    try:
        # First, because `create_study` writes in any case, and the record may be read-only.
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return optuna.create_study(
            study_name=name, storage=storage, direction="minimize", load_if_exists=True
        )


def _storage(address: str) -> BaseStorage:
    if address.startswith(JOURNAL):
        path = address.removeprefix(JOURNAL)
        # This lock needs no symbolic links, which network file systems may lack.
        backend = JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))
        return get_storage(JournalStorage(backend))
    if address.startswith("sqlite"):
        # While another process, such as a report, uses the file; SQLite's own limit is 5 s.
        return get_storage(RDBStorage(address, engine_kwargs={"connect_args": {"timeout": 60}}))
    # Checks each connection before its use, because the server may have closed it.
    return get_storage(RDBStorage(address, engine_kwargs={"pool_pre_ping": True}))


def root_cause(error: BaseException) -> Exception:
    """Return the error of the database or the disk, which Optuna and SQLAlchemy wrap."""
    found = error
    while (inner := getattr(found, "orig", None) or found.__cause__) is not None:
        found = inner
    return found if isinstance(found, Exception) else RuntimeError(str(found))
