"""The console script: hands over to the checkout it was installed from."""

import os
import signal
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the command line of the checkout; say where it is missing.

    Returns:
        The exit code.
    """
    if not (CHECKOUT / "distributed" / "cli").is_dir():
        print(
            "mixunlearn: sweeps run from a checkout of the repository; "
            "this is the library alone, made for `import mixunlearn`",
            file=sys.stderr,
        )
        return 2
    # Before Ray is imported: strangers on this machine or network must not run code through it.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    # First, because an installed Dask has a top-level package of the same name.
    sys.path.insert(0, str(CHECKOUT))
    from distributed.cli.app import main as run  # noqa: PLC0415

    code = run()
    for number in (signal.SIGINT, signal.SIGTERM):  # nothing is left that they could end in order
        signal.signal(number, signal.SIG_IGN)
    return code


if __name__ == "__main__":
    sys.exit(main())
