"""Images as a Parquet table, in the form in which Hugging Face writes them."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def write_images(images: npt.NDArray[np.uint8], labels: Sequence[object], path: Path) -> None:
    """Write images, (N, H, W) or (N, H, W, 3), and their labels."""
    pictures = []
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": f"{number:04d}.png"})
    pq.write_table(pa.table({"image": pa.array(pictures), "label": pa.array(labels)}), path)
