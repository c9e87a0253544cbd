"""The cost of a folder of images: decoding into the cache, compared with only decoding the files.

The images are parts of scikit-learn's two photographs, with ImageNet's average size and about as
many bytes. Times are CPU times, summed over threads: they depend little on the number of cores and
on other load. The cost of a data set of ImageNet's size is calculated from the cost of one image.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks import publish, say
from mixunlearn.data.image_folder import contents
from mixunlearn.data.pixels import decode_square
from mixunlearn.data.sources import open_dataset

TARGET = 1.2
IMAGES, FEW = 2048, 512
CLASSES = 8
WIDTH, HEIGHT, QUALITY = 500, 375, 96
SIZE, SMALL = 224, 64
REPEATS = 3
IMAGENET = 1_281_167
KILO, MEGA, GIGA, MIB, HOUR = 1e3, 1e6, 1e9, 2**20, 3600
SAMPLE_S = 0.005


def main() -> None:
    """Measure and print the result."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_images(root / "many", IMAGES)
        make_images(root / "few", FEW)
        runs = []
        for repeat in range(REPEATS):
            runs.append(run := opened(root / "many", SIZE, root / f"cache {repeat}"))
            say(f"alone {run['alone_s']:.1f} s of CPU, into the cache {run['cpu_s']:.1f} s")
        again = opened(root / "many", SIZE, root / "cache 0")
        small = opened(root / "many", SMALL, root / "small")
        few = opened(root / "few", SIZE, root / "few cache")
        listing = cpu_seconds(lambda: contents(str(root / "many")))
        cpu = median(run["cpu_s"] for run in runs) / IMAGES
        image = again["bytes"] / IMAGES
        publish(
            "image_folder",
            [run["cpu_s"] / run["alone_s"] for run in runs],
            at_most=TARGET,
            of=f"{IMAGES} JPEGs of {WIDTH}x{HEIGHT} to {SIZE}x{SIZE}",
            file_kb=round(sum(map(size_of, files_in(root / "many"))) / IMAGES / KILO, 1),
            images_per_core_s=round(1 / cpu, 1),
            images_per_core_s_at_64=round(IMAGES / small["cpu_s"], 1),
            cache_bytes_an_image=round(image, 1),
            cache_bytes_an_image_at_64=round(small["bytes"] / IMAGES, 1),
            memory_mib=round(max(run["memory"] for run in runs) / MIB, 1),
            memory_mib_of_a_quarter=round(few["memory"] / MIB, 1),
            listing_us_an_image=round(MEGA * listing / IMAGES, 2),
            check_gb_per_core_s=round(again["bytes"] / GIGA / (again["cpu_s"] - listing), 2),
            imagenet={
                "images": IMAGENET,
                "core_hours": round(IMAGENET * cpu / HOUR, 2),
                "cache_gb": round(IMAGENET * image / GIGA, 1),
                "core_hours_at_64": round(IMAGENET * small["cpu_s"] / IMAGES / HOUR, 2),
                "cache_gb_at_64": round(IMAGENET * small["bytes"] / IMAGES / GIGA, 1),
            },
        )


def make_images(root: Path, count: int) -> None:
    """Write JPEGs into folders of classes: random parts of two photographs."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / "train" / f"class_{number % CLASSES}" / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = photos[number % len(photos)]
        left = int(rng.integers(photo.width - WIDTH + 1))
        top = int(rng.integers(photo.height - HEIGHT + 1))
        part = photo.crop((left, top, left + WIDTH, top + HEIGHT))
        part.save(path, "JPEG", quality=QUALITY)


def files_in(root: Path) -> list[Path]:
    """Return all files in a folder and its subfolders."""
    return [path for path in root.rglob("*") if path.is_file()]


def size_of(path: Path) -> int:
    """Return the size of a file in bytes."""
    return path.stat().st_size


def decode_alone(files: list[Path], size: int) -> None:
    """Do what every import must do: read and decode the files; discard the images."""

    def decode(path: Path) -> None:
        with path.open("rb") as file:
            decode_square(file, size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode, files):
            pass


def opened(root: Path, size: int, cache: Path) -> dict[str, float]:
    """Open a folder in a separate process, which imports it if it is not in the cache."""
    command = [sys.executable, __file__, str(root), str(size), str(cache)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def measure(root: str, size: int, cache: Path) -> dict[str, float]:
    """Open a folder; return CPU time, CPU time of decoding only, memory, and bytes in the cache."""
    before = private_bytes()
    with watched() as seen:
        start = time.process_time()
        dataset = open_dataset("image_folder", {"root": root, "size": size}, cache)
        cpu = time.process_time() - start
    assert dataset.path
    alone = cpu_seconds(lambda: decode_alone(files_in(Path(root)), size))
    memory, stored = max(seen) - before, size_of(dataset.path)
    return {"cpu_s": cpu, "alone_s": alone, "memory": memory, "bytes": stored}


@contextmanager
def watched() -> Iterator[list[int]]:
    """Sample the memory of this process, without mapped files."""
    seen, over = [private_bytes()], threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            seen.append(private_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    yield seen
    over.set()
    thread.join()


def private_bytes() -> int:
    """Return this process's memory without file pages, which the system can drop at any time."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of a call, in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main()
