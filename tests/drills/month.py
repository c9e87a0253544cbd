"""A month of nights: `python -m tests.drills.month`.

30 nights on digits, each with the real command on its date. From night 12 on, the optimizer takes
smaller steps than its setting, as a library with a worse default would; on night 20 the data
change; during night 25 the driver is killed, and the same command is run again. All other
differences are noise. Searches start a new study every ten nights, and five nights are kept whole:
so the rules that bound the disk over years apply within the month. The last line of standard output
is JSON with verdict, time and disk of every night.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console
from sklearn.datasets import load_digits

from distributed.nightly.retention import size_of
from tests.drills.faults import SITE
from tests.drills.process import LEAVING_S, ROOT, Command

NIGHTS, WORSE, CHANGED, KILLED = 30, 12, 20, 25
FIRST = date(2026, 11, 1)
LIBRARY = "DRILL_LIBRARY"  # state of the library; read by tests/drills/site
EXPERIMENT = {
    "name": "digits",
    "data": {"source": "parquet", "train": "digits.parquet"},
    "model": {"name": "cnn", "width": 8},
    "task": {"kind": "class", "classes": [0]},
    "method": "mixunlearn",
    "references": {"seeds": 3, "epochs": 10, "lr": 3e-3},
    "search": {"epochs": 4},
}
PLAN = {
    "name": "month",
    "experiments": ["digits.yaml"],
    "budget": {"trials": 2},
    "seeds": 5,
    "draws": 2,
    "margin": 2.0,
    "promote": True,
    "keep": 5,
    "renew": 20,
    "tell": {"file": "nightly/month/notices.md"},
}


def main() -> int:
    """Run the month and print its result."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.month", description=__doc__)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--folder", type=Path, help="for all files; by default a temporary one")
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="month-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    experiment = {**EXPERIMENT, "data": {"source": "parquet", "train": str(folder / "d.parquet")}}
    (folder / "digits.yaml").write_text(yaml.safe_dump(experiment))
    (folder / "month.yaml").write_text(yaml.safe_dump(PLAN))
    nights: list[Mapping[str, Any]] = []
    for number in range(1, given.nights + 1):
        nights.append(night(number, folder))
        say = "{number:2d} {date} {verdict:12s} {seconds:5.0f} s {megabytes:6.1f} MB  {why}"
        Console(stderr=True, highlight=False).print(say.format(**nights[-1]), soft_wrap=True)
    sys.stdout.write(json.dumps({"nights": nights, **judged(nights)}) + "\n")
    return 0


def night(number: int, folder: Path) -> dict[str, Any]:
    """Run one night, killed and resumed if it is that night; return its result."""
    write_data(folder / "d.parquet", changed=number >= CHANGED)
    day = FIRST + timedelta(days=number - 1)
    words = ["nightly", str(folder / "month.yaml"), "--date", day.isoformat(), "--json"]
    words += ["--home", str(folder / "home")]
    paths = f"{SITE}:{ROOT}"
    library = {"PYTHONPATH": paths, LIBRARY: "worse" if number >= WORSE else ""}
    start = time.monotonic()
    commands = []
    if number == KILLED:
        command = Command(words, folder / f"{number}-killed.err", library)
        command.await_line("candidate|trials: 1 of")
        time.sleep(random.Random(number).uniform(0, 5))
        command.kill()
        commands.append(command)
    command = Command(words, folder / f"{number}.err", library)
    commands.append(command)
    code = command.wait()
    found = command.result if code in {0, 3, 4} else {"verdict": None, "experiments": [{}]}
    for each in commands:
        each.clear(LEAVING_S if each is not command else 5.0)
    part = found["experiments"][0]
    return {
        "number": number,
        "date": day.isoformat(),
        "code": code,
        "verdict": found["verdict"] or "failed",
        "why": part.get("why") or command.last,
        "promoted": bool(part.get("promoted")),
        "causes": part.get("causes", []),
        "gap": part.get("metrics", {}).get("gap/avg", {}).get("mean"),
        "seconds": round(time.monotonic() - start, 1),
        "study": part.get("study"),
        "megabytes": round(size_of(folder / "home") / 1e6, 1),
    }


def judged(nights: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the false alarms, and the number of nights until the real one."""
    alarms = [each["number"] for each in nights if each["verdict"] == "regressed"]
    true = [number for number in alarms if WORSE <= number < CHANGED]
    return {
        "false_alarms": [number for number in alarms if number not in true],
        "seen_after_nights": true[0] - WORSE if true else None,
        "regressed": true,
        "failed": [each["number"] for each in nights if each["verdict"] == "failed"],
    }


def write_data(path: Path, *, changed: bool) -> None:
    """Write the digits; the other source lacks every twentieth image."""
    digits = load_digits()
    keep = [i for i in range(len(digits.target)) if not changed or i % 20]
    pixels = (digits.images[keep] * 255 / 16).astype("uint8")
    table = pa.table({"image": pixels.tolist(), "label": digits.target[keep].tolist()})
    pq.write_table(table, path)


if __name__ == "__main__":
    sys.exit(main())
