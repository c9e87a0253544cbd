"""Labelled images on a device: parts of them, and how well a model knows them.

Shape suffix: N samples.
"""

import torch

from mixunlearn.data import streaming
from mixunlearn.data.batches import Indices, Samples
from mixunlearn.data.labelled import LabelledImages
from mixunlearn.inference import predict
from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.models import StagedModel


def on_device(images: LabelledImages, device: torch.device) -> Samples:
    """Return images, to be read batch by batch, with their labels on a device."""
    return Samples(
        images_NCHW=images.streamed(device),
        labels_N=torch.tensor(images.labels_N, device=device),
    )


def chosen(samples: Samples, rows_N: Indices) -> Samples:
    """Return some of the samples, with their labels."""
    return samples.at(torch.from_numpy(rows_N).to(samples.device))


def joined(first: Samples, second: Samples) -> Samples:
    """Return the samples of both, with their labels."""
    assert first.labels_N is not None
    assert second.labels_N is not None
    return Samples(
        images_NCHW=streaming.joined((first.images_NCHW, second.images_NCHW)),
        labels_N=torch.cat((first.labels_N, second.labels_N)),
    )


def labels_of(samples: Samples) -> Indices:
    """Return the labels, int64, shape (N,)."""
    assert samples.labels_N is not None
    return samples.labels_N.cpu().numpy()


def accuracy_on(model: StagedModel, samples: Samples) -> float:
    """Return the accuracy of a model in percent; it is left in evaluation mode.

    Raises:
        DivergedError: an output is not finite.
    """
    return accuracy(predict(model, samples.images_NCHW)[0].cpu().numpy(), labels_of(samples))
