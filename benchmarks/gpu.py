"""Everything about the speed of steps on one GPU, in one call of at most eight minutes.

It needs neither a network nor Ray: PyTorch, NumPy, SciPy and pyarrow are enough. Images are random.
The floor is a plain training step in a CUDA graph of its own, in bfloat16: as fast as this
arithmetic goes with PyTorch's kernels. Ratios are of times within one run.

    python -m benchmarks.gpu --out gpu.json        # `--device cpu --quick` tries it in seconds
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.multiprocessing as mp
from torch.nn import functional as F

from benchmarks import machine, say
from benchmarks.synthetic import CLASSES, QUICK, Size, prepared, problem, random_samples
from mixunlearn.methods import METHODS
from mixunlearn.optimization import adam
from mixunlearn.precision import Precision
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training

LIMIT_S = 460.0  # no measurement starts later
STEPPED = ("mixunlearn", "finetune", "neggrad", "l_mix", "scrub", "laf")
WAYS = {  # how steps are taken: precision, captured or not
    "captured bfloat16": ("bfloat16", True),
    "captured float32": ("float32", True),
    "eager float32": ("float32", False),
}
GOALS = {"mixunlearn": 1.25, "training": 1.10}
SWEEP_S = 150.0  # for the sweep, if there is as much time left


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all parts, print a table, and write JSON."""
    given = _parser().parse_args(arguments)
    device, size = torch.device(given.device), QUICK if given.quick else Size()
    torch.set_num_threads(1)
    start = time.perf_counter()
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    say(f"gpu on {card}: {size.model}, {'×'.join(map(str, size.shape))}")
    found: dict[str, Any] = {"benchmark": "gpu", "card": card, "machine": machine()}
    parts: dict[str, Callable[[], object]] = {
        "floors_ms": lambda: floors(size, device),
        "steps": lambda: steps(size, device, found["floors_ms"]),
        "training": lambda: training(size, device, found["floors_ms"]),
        "methods": lambda: captured_methods(size.methods or METHODS, device),
        "processes": lambda: processes(size, given.device),
        "sweep": lambda: sweep(device, quick=given.quick),
    }
    for name, measure in parts.items():
        if time.perf_counter() - start > LIMIT_S - (SWEEP_S if name == "sweep" else 0):
            say(f"{name}: left out, no time is left")
            continue
        found[name] = measure()
        found["seconds"] = round(time.perf_counter() - start, 1)
        # After each part: whatever happens to the next one, this is kept.
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    say(f"{given.out}: written, {time.perf_counter() - start:.0f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the speed of steps on one GPU.")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cuda", "cpu"], default=default)
    parser.add_argument("--quick", action="store_true", help="a few small steps: only a trial")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    return parser


def floors(size: Size, device: torch.device) -> dict[str, float]:
    """Return milliseconds of a plain step by its number of images."""
    counts = sorted({n * batch for batch in size.batches for n in (1, 3)})
    found = {str(count): round(floor_ms(size, count, device), 3) for count in counts}
    say("floor, a plain step: " + ", ".join(f"{n} images {ms:.2f} ms" for n, ms in found.items()))
    return found


def floor_ms(size: Size, count: int, device: torch.device) -> float:
    """Return milliseconds of a plain bfloat16 step on a fixed batch, on CUDA in one graph."""
    model = size.architecture.build(0).to(device).train()
    optimizer, precision = adam(model, 1e-4), Precision(name="bfloat16")
    for group in optimizer.param_groups:
        group["capturable"] = device.type == "cuda"
    images = torch.rand((count, *size.shape), device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (count,), device=device)

    def step() -> None:
        with precision.forward(device):
            optimizer.zero_grad(set_to_none=True)
            precision.backward(F.cross_entropy(model(images), labels))
        optimizer.step()

    replay = _graph(step) if device.type == "cuda" else step
    return per_call_ms(lambda: [replay() for _ in range(size.steps)], size, device) / size.steps


def _graph(step: Callable[[], None]) -> Callable[[], None]:
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with warnings.catch_warnings(), torch.cuda.stream(stream):
        # PyTorch warns of optimizers that are prepared for a graph and take steps without one.
        warnings.simplefilter("ignore")
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def per_call_ms(call: Callable[[], object], size: Size, device: torch.device) -> float:
    """Return the median milliseconds of a call, from an idle device to an idle device."""
    call()
    found = []
    for _ in range(size.repetitions):
        settle(device)
        start = time.perf_counter()
        call()
        settle(device)
        found.append(time.perf_counter() - start)
    return 1e3 * median(found)


def settle(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steps(
    size: Size, device: torch.device, floors_ms: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Return milliseconds of steps by method, batch and way, with the ratio to the floor."""
    found = {}
    for batch in size.batches:
        floor = floors_ms[str(3 * batch)]
        for name in STEPPED:
            for way in WAYS:
                key = f"{name}, {batch} pairs, {way}"
                with memory(device) as used:
                    ms, why = step_ms(name, batch, way, size, device)
                ratio = round(ms / floor, 3)
                found[key] = {"ms": round(ms, 3), "to_floor": ratio, "memory_gib": used(), **why}
                goal = GOALS.get(name) if way == "captured bfloat16" else None
                say(f"{key:45} {ms:8.2f} ms {ratio:7.2f} × floor{_goal(ratio, goal)} {_why(why)}")
    return found


def step_ms(
    name: str, batch: int, way: str, size: Size, device: torch.device
) -> tuple[float, dict[str, str]]:
    """Return milliseconds of a method's step, and why it is not captured if it is not."""
    precision, capture = WAYS[way]
    context = replace(
        problem(size, batch * size.steps, device),
        precision=Precision(name=precision),
        capture=capture,
    )
    method = prepared(name, context, batch)
    with said() as why:
        method.epoch()  # what is computed once, and the captures
        return per_call_ms(method.epoch, size, device) / size.steps, why


def training(
    size: Size, device: torch.device, floors_ms: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Return images a second of training by batch and way, with the ratio to the floor."""
    found = {}
    for batch in size.batches:
        samples = random_samples(size.shape, batch * size.steps, 3, device)
        for way, (precision, capture) in WAYS.items():
            model = size.architecture.build(0).to(device)
            recipe = Recipe(epochs=100, batch=batch, precision=precision)
            trained = Training(model, samples, recipe, 0, capture=capture)
            with said() as why:
                trained.epoch()
                ms = per_call_ms(trained.epoch, size, device) / size.steps
            ratio, rate = round(ms / floors_ms[str(batch)], 3), round(1e3 * batch / ms)
            found[f"{batch} images, {way}"] = {"images_s": rate, "to_floor": ratio, **why}
            goal = GOALS["training"] if way == "captured bfloat16" else None
            text = f"training, {batch} images, {way}"
            say(f"{text:45} {rate:8,} images/s {ratio:.2f} × floor{_goal(ratio, goal)} {_why(why)}")
    return found


def captured_methods(methods: Iterable[str], device: torch.device) -> dict[str, str]:
    """Return for each method whether its captured steps pass their own check, or why not."""
    small = replace(QUICK, model="convnet", width=8)
    found = {}
    for name in methods:
        try:
            method = prepared(name, problem(small, 96, device, forgotten=(0,)), 8)
            with said() as why:
                for _ in range(2):
                    method.epoch()
            # Methods of one step, and sets of methods, have no steps to capture.
            steps = method.can_capture() and method.captured_kinds > 0
            plain = "captured" if steps else "one operation at a time"
            found[name] = why.get("why", plain)
        except Exception as error:
            found[name] = f"fails: {type(error).__name__}: {error}"
    for text in sorted({*found.values()}):
        say(f"methods, {text}: {', '.join(name for name in found if found[name] == text)}")
    return found


def processes(size: Size, device: str) -> dict[str, dict[str, float]]:
    """Return pairs a second of several processes together, captured in float32."""
    if not size.processes:
        say("processes: left out")
        return {}
    found, context = {}, mp.get_context("spawn")
    most, batch = max(size.processes), size.batches[0]
    barrier, results = context.Barrier(most + 1), context.Queue()
    rounds = (size, device, barrier, results)
    workers = [context.Process(target=_work, args=(n, *rounds), daemon=True) for n in range(most)]
    for worker in workers:
        worker.start()
    for count in size.processes:
        barrier.wait(LIMIT_S)
        parts = [results.get(timeout=LIMIT_S) for _ in range(count)]
        pairs = sum(done for done, _ in parts) * batch
        found[str(count)] = {
            "pairs_s": round(pairs / size.seconds),
            "memory_gib_each": round(max(used for _, used in parts), 2),
        }
        say(f"{count} processes, {batch} pairs: {found[str(count)]['pairs_s']:,} pairs/s together")
    for worker in workers:
        worker.join(LIMIT_S)
    return found


def _work(
    number: int, size: Size, device: str, barrier: Barrier, results: "Queue[tuple[float, float]]"
) -> None:
    """Take steps in each round in which this process has a part; report steps and memory."""
    torch.set_num_threads(1)
    place, batch = torch.device(device), size.batches[0]
    method = prepared("mixunlearn", problem(size, batch * size.steps, place), batch)
    method.epoch()
    for count in size.processes:
        barrier.wait(LIMIT_S)
        if number >= count:
            continue
        done, start = 0.0, time.perf_counter()
        while (passed := time.perf_counter() - start) < size.seconds:
            method.epoch()
            done += size.steps
        used = torch.cuda.max_memory_reserved() / 2**30 if place.type == "cuda" else 0.0
        # The last epoch ends later than the others' time.
        results.put((done * size.seconds / max(passed, time.perf_counter() - start), used))


def sweep(device: torch.device, *, quick: bool) -> dict[str, Any]:
    """Return the seconds of a short sweep from command to report, if Ray is installed."""
    needed = ("ray", "optuna", "mlflow", "pydantic", "plotly")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        say(f"sweep: left out, {', '.join(missing)} not installed")
        return {"left_out": missing}
    if quick:
        return {"left_out": ["quick"]}
    settings = ["search.trials=8", "search.epochs=3", "references.epochs=5"]
    settings += ["resources.gpu=0.25"] if device.type == "cuda" else []
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "mixunlearn", "sweep", "experiments/digits_class.yaml"]
        command += ["--home", home, *(word for each in settings for word in ("--set", each))]
        start = time.perf_counter()
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, timeout=SWEEP_S, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {SWEEP_S:g} s"}
    seconds = round(time.perf_counter() - start, 1)
    say(f"sweep: 8 trials of digits in {seconds:.0f} s, exit code {run.returncode}")
    return {"seconds": seconds, "exit_code": run.returncode, "end": run.stderr[-500:]}


@contextmanager
def said() -> Iterator[dict[str, str]]:
    """Yield what then has the warnings of the block as `why`, if there were any."""
    why: dict[str, str] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield why
    if caught:
        why["why"] = str(caught[0].message)


@contextmanager
def memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Yield what returns the most memory of the device that the block had, in GiB."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield (
        lambda: (
            round(torch.cuda.max_memory_reserved(device) / 2**30, 2)
            if device.type == "cuda"
            else 0.0
        )
    )


def _goal(ratio: float, goal: float | None) -> str:
    if goal is None:
        return ""
    return f" (goal {goal:g}: {'met' if ratio <= goal else 'missed'})"


def _why(why: Mapping[str, str]) -> str:
    return f"[{why['why']}]" if why else ""


if __name__ == "__main__":
    main()
