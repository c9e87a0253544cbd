"""How large report.html is and how long it takes to write, with 100 and with 5,000 trials.

The report data are random numbers: twelve hyperparameters, six epochs, twenty metrics with gaps and
z. The result is the size of the larger page, divided by 5 MB. The seconds are measured from report
data in memory to a page on the disk.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import publish, say, spread
from report.page import write_page
from report.report_data import Axis, Importance, ReportData, Share

TARGET, LIMIT = 1.0, 5_000_000
FEW, MANY = 100, 5_000
REPEATS = 5
EPOCHS = 6
AXES = {f"parameter_{n}": Axis(low=1e-5, high=1e-1, log=True, default=1e-3) for n in range(9)}
AXES |= {f"choice_{n}": Axis(options=("one", "two", "three"), default="one") for n in range(3)}
METRICS = [f"acc/metric_{n}" for n in range(19)] + ["mia/asr"]


def main() -> None:
    """Write both pages and print the result."""
    sizes, seconds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (FEW, MANY):
            report_data, path = make_report_data(count), Path(folder) / f"{count}.html"
            seconds[count] = [timed(report_data, path) for _ in range(REPEATS)]
            sizes[count] = path.stat().st_size
            say(f"{count} trials: {sizes[count]:,} bytes")
    publish(
        "report_page",
        [sizes[MANY] / LIMIT],
        at_most=TARGET,
        of=f"the page of {MANY} trials against {LIMIT / 1e6:g} MB",
        few_bytes=sizes[FEW],
        many_bytes=sizes[MANY],
        few_s=spread(seconds[FEW]),
        many_s=spread(seconds[MANY]),
    )


def timed(report_data: ReportData, path: Path) -> float:
    """Return the seconds that writing a page takes."""
    start = time.perf_counter()
    write_page([report_data], path)
    return time.perf_counter() - start


def make_report_data(count: int) -> ReportData:
    """Return random report data with this number of trials."""
    rng = np.random.default_rng(0)
    rows = [row(number, rng) for number in range(count)]
    shares = {name: Share(mean=1 / len(AXES), low=0.0, high=0.3) for name in AXES}
    curves = {one["trial"]: dict(enumerate(rng.uniform(1, 60, one["epochs"]), 1)) for one in rows}
    return ReportData(
        summary={"study": "benchmark"},
        rows=rows,
        curves=curves,
        ended=range(count),
        axes=AXES,
        objective="gap/avg",
        own=(0.5, 1.0),
        original=52.0,
        importance=Importance(shares=shares, trials=count, method="made up"),
    )


def row(number: int, rng: np.random.Generator) -> Mapping[str, Any]:
    """Return a random row of the trials table."""
    values = {
        f"{kind}{name}": float(rng.uniform(0, 100))
        for name in METRICS
        for kind in ("", "gap/", "z/")
    }
    return {
        "study": "benchmark",
        "trial": number,
        "trial_id": f"{number:08x}",
        "method": "mixunlearn",
        "state": ("complete", "pruned", "pruned", "failed")[number % 4],
        "epochs": 1 + number % EPOCHS,
        "seconds": float(rng.uniform(5, 50)),
        **{f"params/{name}": drawn(axis, rng) for name, axis in AXES.items()},
        **values,
        "gap/avg": float(rng.uniform(1, 60)),
        "mlflow_run_id": f"{number:032x}",
        "error": "RuntimeError: it went wrong" if number % 4 == 3 else None,
    }


def drawn(axis: Axis, rng: np.random.Generator) -> float | str:
    """Return a random value of a hyperparameter."""
    if axis.options:
        return str(rng.choice(axis.options))
    return float(10 ** rng.uniform(-5, -1))


if __name__ == "__main__":
    main()
