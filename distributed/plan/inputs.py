"""The data of a study in MLflow's terms: the data set and the parts of its split."""

import json
from typing import Any

import numpy as np

from distributed.plan.plan import PARTS, Plan
from mixunlearn.splits import describe

DIGEST = 32  # characters of the data's digest; MLflow accepts at most 36


def inputs(plan: Plan) -> list[dict[str, str]]:
    """Return the inputs for `Tracker.log_inputs`: the data set and each part of its split.

    The data set has its own digest, the parts have the key of the split. The context of each is
    its role: "source", "forget", "retain", "val" or "test".
    """
    dataset, splits = plan.dataset, plan.splits
    common = {**_source(plan), "schema": json.dumps(_schema(dataset.images_NCHW.shape[1:]))}
    counts = {"source": np.bincount(dataset.labels_N, minlength=len(dataset.classes)).tolist()}
    counts |= describe(dataset, splits)
    found = []
    for part in ("source", *PARTS):
        whole = part == "source"
        profile = dict(zip(dataset.classes, counts[part], strict=True))
        found.append(
            {
                **common,
                # MLflow knows data by name and digest, and the parts share the digest of the split.
                "name": dataset.source if whole else f"{dataset.source} {part}",
                "digest": dataset.digest[:DIGEST] if whole else splits.key,
                "profile": json.dumps({"num_rows": sum(counts[part]), "by_class": profile}),
                "context": part,
            }
        )
    return found


def _source(plan: Plan) -> dict[str, str]:
    """Return where the data came from, in the format of MLflow's own sources."""
    data = plan.experiment.data
    if place := data.train or data.root:
        uri = place if isinstance(place, str) else ", ".join(place)
        return {"source_type": "local", "source": json.dumps({"uri": uri})}
    name = f"mixunlearn.data.sources:{data.source}"
    return {"source_type": "code", "source": json.dumps({"tags": {"mlflow.source.name": name}})}


def _schema(image: tuple[int, ...]) -> dict[str, Any]:
    """Return MLflow's schema of arrays: images and labels, with any number of rows."""

    def tensor(dtype: str, shape: tuple[int, ...]) -> str:
        spec = {"dtype": dtype, "shape": [-1, *shape]}
        return json.dumps([{"type": "tensor", "tensor-spec": spec}])

    return {
        "mlflow_tensorspec": {"features": tensor("uint8", image), "targets": tensor("int64", ())}
    }
