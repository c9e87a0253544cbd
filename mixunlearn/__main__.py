"""The console script: runs the command line of the checkout it was installed from."""

import os
import signal
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the command line of the checkout; print an error if there is no checkout.

    Returns:
        The exit code.
    """
    # Not tried by an import: that could find Dask's package of the same name.
    if not (CHECKOUT / "distributed" / "cli").is_dir():
        print(
            "mixunlearn: sweeps run from a checkout of the repository; "
            "this installation is only the library, for `import mixunlearn`",
            file=sys.stderr,
        )
        return 2
    # Set before Ray is imported: other users of this machine or network must not run code in it.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    # At the front of the path, because Dask installs a top-level package named `distributed` too.
    sys.path.insert(0, str(CHECKOUT))
    from distributed.cli.app import main as run  # noqa: PLC0415

    code = run()
    for number in (signal.SIGINT, signal.SIGTERM):  # there is nothing left to stop cleanly
        signal.signal(number, signal.SIG_IGN)
    return code


if __name__ == "__main__":
    sys.exit(main())
