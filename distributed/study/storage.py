"""Opens the storage of a study: a SQL database or a journal file."""

from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import SQLAlchemyError

from distributed.runtime.addresses import sqlite_path
from distributed.runtime.text import one_line
from distributed.study.trials_table import count_trials
from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from mixunlearn.wording import counted

JOURNAL = "journal:///"
ERRORS = (StorageInternalError, SQLAlchemyError, OSError)  # of a record that does not answer


def open_record(
    address: str, name: str, *, create: bool = True, table: Path | None = None
) -> tuple[BaseStorage, int]:
    """Return Optuna's storage and the study's id in it.

    Args:
        address: address of a SQL database, or `journal:///PATH`.
        name: name of the study.
        create: whether to create both if they are missing.
        table: the trials table of the study; if it has trials, a record that is missing was lost,
            and none is created.

    Raises:
        MissingError: there is no record, and `create` is false; nothing was made.
        CorruptError: the record was lost; nothing was made.
        MixUnlearnError: the storage does not answer, or is damaged.
    """
    file = record_file(address)
    try:
        empty = file is not None and not (file.exists() and file.stat().st_size)
        # Loaded first: `create_study` writes in any case.
        storage = None if empty else _storage(address)
        study = _known_study(storage, name) if storage else None
        if study is None:
            _require_new(name, file, create=create, table=table)
            study = optuna.create_study(
                study_name=name,
                storage=storage or _storage(address),  # not a second one: each keeps connections
                direction="minimize",
                load_if_exists=True,
            )
    except (*ERRORS, ValueError, KeyError) as error:
        what = f"the record of the study {name} cannot be opened: {reason_of(error)}"
        raise MixUnlearnError(f"{what}; check storage.study and free space") from error
    return study._storage, study._study_id


def _known_study(storage: BaseStorage, name: str) -> optuna.Study | None:
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def _require_new(name: str, file: Path | None, *, create: bool, table: Path | None) -> None:
    """Check that a study without a record may get one."""
    if table and count_trials(table):
        raise lost_record(name, file, table)
    if not create:
        where = file or "its database"
        raise MissingError(f"the study {name} has no record in {where}: run its `mixunlearn sweep`")


def lost_record(name: str, file: Path | None, table: Path | None) -> CorruptError:
    """Return the error for a record that is gone; it says what remains of it.

    Args:
        name: name of the study.
        file: file of the record; `None` if it was in a database server.
        table: the trials table of the study.
    """
    what = f"the record of the study {name} is gone from {file or 'its database'}"
    trials = count_trials(table) if table else 0
    if not trials:
        return CorruptError(f"{what}, and no table of it is left; the same command starts anew")
    command = f"`mixunlearn sync {name} --from-table` makes it anew from them"
    return CorruptError(f"{what}; {table} still has {counted(trials, 'trial')}: {command}")


def record_file(address: str) -> Path | None:
    """Return the file of a record; `None` if it is in a database server."""
    if address.startswith(JOURNAL):
        return Path(address.removeprefix(JOURNAL))
    return sqlite_path(address)


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


def reason_of(error: BaseException) -> str:
    """Return in one line why a record does not answer."""
    return one_line(root_cause(error))


def root_cause(error: BaseException) -> Exception:
    """Return the error of the database or the disk, which Optuna and SQLAlchemy wrap."""
    found = error
    while (inner := getattr(found, "orig", None) or found.__cause__) is not None:
        found = inner
    return found if isinstance(found, Exception) else RuntimeError(str(found))
