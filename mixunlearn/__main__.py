"""The console script: finds the rest of the program and runs its command line."""

import codecs
import contextlib
import locale
import os
import signal
import sys
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent


def program_folder(library: Path = LIBRARY) -> Path | None:
    """Return the folder with the rest of the program; `None` if there is only the library.

    Args:
        library: the folder of this package. A wheel has the program in it, a checkout beside it.
    """
    # Not tried by an import: that could find Dask's package named `distributed`.
    places = (library / "_program", library.parent)
    return next((each for each in places if (each / "distributed/cli/app.py").is_file()), None)


def main() -> int:
    """Run the command line of the program; print an error if it is not there.

    Returns:
        The exit code.
    """
    if os.name == "posix":
        _use_utf8()
        _name_user()
    program = program_folder()
    if program is None:
        print(
            "mixunlearn: the commands are missing, only the library is here; "
            "install the wheel again, with pip's option --force-reinstall",
            file=sys.stderr,
        )
        return 2
    # Set before Ray is imported: other users of this machine or network must not run code in it.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    # At the front of the path, because Dask installs a top-level package named `distributed` too.
    sys.path.insert(0, str(program))
    # At its end: a file of the current folder must not hide a module of Python or of a package.
    with contextlib.suppress(OSError):  # the folder may have been removed
        sys.path.append(str(Path.cwd()))
    try:
        from distributed.cli.app import main as run  # noqa: PLC0415

        code = run()
    except ModuleNotFoundError as error:  # only the library's own packages were installed
        whole = "install the extra `all` as well: pip install 'mixunlearn[all]'"
        print(f"mixunlearn: {error.name} is not installed; {whole}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # before the command began, which explains how it was stopped
        print("mixunlearn: stopped; run the same command again", file=sys.stderr)
        code = 1
    for number in (signal.SIGINT, signal.SIGTERM):  # there is nothing left to stop cleanly
        signal.signal(number, signal.SIG_IGN)
    return code


def _use_utf8() -> None:
    """Start this process again if the locale would make it read and write files in another way.

    Then all files are UTF-8, also those of Ray's workers and of other libraries.
    """
    encoding = codecs.lookup(locale.getpreferredencoding(False)).name
    if encoding == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:replace")  # of the terminal
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _name_user() -> None:
    """Give a user without an account, as in a container, a home and a name: libraries need both."""
    import pwd  # noqa: PLC0415 - not on every system

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", "/")  # as container engines do
        os.environ.setdefault("USER", str(os.getuid()))


if __name__ == "__main__":
    sys.exit(main())
