"""The membership attack exactly as LAF's code scores it, to compare with its paper's tables.

The attacker is that of `mia/asr`; the images it sees are not, see `asr_laf`. A model retrained
without the forget set scores far from 50 here, so a number means something only next to those of
retrained models, measured in the same way.

Shape suffixes: N samples, C channels, H W pixels, K classes.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mixunlearn.data.streaming import Images, gathered, upload
from mixunlearn.inference import predict
from mixunlearn.metrics.membership import Probabilities, attacker_accuracy, labelled
from mixunlearn.models import StagedModel

Transform: TypeAlias = Callable[[Tensor, np.random.Generator], Tensor]  # uint8 in, uint8 out

LEARNED = 5000  # images of each kind that the attacker learns from, rounded up to whole batches
BATCH = 32
LEFT_OUT = 0.01  # of what the attacker could learn from
AREAS, RATIOS = (0.08, 1.0), (3 / 4, 4 / 3)  # of the crops, torchvision's defaults
AT_ONCE = 1024  # images that are cropped at once; limits memory only
VALUES = 2**25  # pixels times channels at once: 128 MiB as float32


def plain(images_NCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the images as they are: LAF's training transform for MNIST and Fashion-MNIST."""
    del rng
    return images_NCHW


def random_crops(images_NCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """Return random crops in the images' own size, half of them mirrored, uint8.

    LAF's training transform for CIFAR-10 and SVHN: a crop of 8 to 100 % of the area, its ratio of
    width to height between 3/4 and 4/3, interpolated bilinearly. Deviations: LAF enlarges images
    to 224 × 224 first; a crop that does not fit is cut to the image here, and drawn again there.

    Args:
        images_NCHW: uint8.
        rng: generator of the crops.
    """
    parts = torch.split(images_NCHW, AT_ONCE)
    return torch.cat([_cropped(part, _crops(len(part), rng)) for part in parts])


def asr_laf(
    model: StagedModel,
    retain_NCHW: Images,
    forget_NCHW: Images,
    held_out_NCHW: Images,
    transform: Transform,
    seed: int,
    learned: int = LEARNED,
) -> float:
    """Return the success of the membership attack as LAF's code scores it, in percent.

    Retained images and the forget set pass through the training transform, held-out images do not.
    So the attacker learns to tell crops from whole images as well, and a retrained model scores
    above 50 (64.7 where plain images give 50.7). For the rest see `laf_success`.

    Args:
        model: the model that is attacked.
        retain_NCHW: retained training images, uint8, on the model's device or streamed to it.
        forget_NCHW: the forget set.
        held_out_NCHW: images never trained on, in the order of their file.
        transform: the training transform, such as `random_crops` or `plain`.
        seed: of the transform and of the attack's draws.
        learned: see `laf_success`.

    Source: Shen et al., ICLR 2024, arXiv 2404.00506, and its code.

    Raises:
        DivergedError: an output of the model is not finite.
        ValueError: see `laf_success`.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(retain_NCHW))[: len(forget_NCHW)]
    sample_NCHW = retain_NCHW[torch.from_numpy(chosen).to(retain_NCHW.device)]
    sample_NK = _answers(model, sample_NCHW, transform, rng)
    forget_NK = _answers(model, forget_NCHW, transform, rng)
    held_out_NK = predict(model, held_out_NCHW)[0].cpu().numpy()
    return laf_success(sample_NK, forget_NK, held_out_NK, seed=seed, learned=learned)


def _answers(
    model: StagedModel, images_NCHW: Images, transform: Transform, rng: np.random.Generator
) -> Probabilities:
    """Return the outputs on transformed images, of which only a part is in memory at a time."""
    values = math.prod(images_NCHW.shape[1:])
    parts = torch.split(torch.arange(len(images_NCHW)), max(1, min(AT_ONCE, VALUES // values)))
    shown = (
        transform(gathered(images_NCHW, indices_B), rng)
        for indices_B in upload(parts, images_NCHW.device)
    )
    probs = [predict(model, part_NCHW)[0].cpu().numpy() for part_NCHW in shown]
    return np.concatenate(probs)


def laf_success(
    sample_NK: Probabilities,
    forget_NK: Probabilities,
    held_out_NK: Probabilities,
    *,
    seed: int,
    learned: int = LEARNED,
) -> float:
    """Return the success of the attack on outputs, in percent, in [0, 100].

    Members to learn from are the first 5,024 of |D_f| retained images, non-members the first 5,024
    held-out images; 1 % of both is left out. Then the attacker is asked about all of D_f and about
    as many of the other held-out images as there are, at most |D_f|. So the sets are unbalanced:
    with 10,000 test images and |D_f| = 10,000, calling everything a non-member scores 33, and
    chance is not 50.

    Args:
        sample_NK: outputs on as many retained images as D_f has, in random order.
        forget_NK: outputs on all of D_f.
        held_out_NK: outputs on images never trained on, in the order of their file.
        seed: of the 1 % that is left out.
        learned: of each kind, rounded up to batches of 32. For data with fewer than 5,025 held-out
            images it must be smaller; then the result is not exactly LAF's.

    Raises:
        ValueError: a set is empty, or no held-out images are left to ask about.
    """
    first = BATCH * -(-learned // BATCH)
    if not len(sample_NK) or not len(forget_NK) or len(held_out_NK) <= first:
        needed = f"retained and forgotten images, and more than {first} held-out images"
        raise ValueError(f"LAF's attack needs {needed}; {len(held_out_NK)} are held out")
    if not all(np.isfinite(part).all() for part in (sample_NK, forget_NK, held_out_NK)):
        return float("nan")
    asked = BATCH * -(-len(forget_NK) // BATCH)
    probs_NK, answers_N = labelled(sample_NK[:first], held_out_NK[:first])
    kept = np.random.default_rng(seed).permutation(len(answers_N))
    kept = kept[int(np.ceil(LEFT_OUT * len(kept))) :]
    asking = labelled(forget_NK, held_out_NK[first : first + asked])
    return 100 * attacker_accuracy((probs_NK[kept], answers_N[kept]), asking)


def _crops(count: int, rng: np.random.Generator) -> Tensor:
    """Return affine maps from output to input coordinates, both in [−1, 1], (count, 2, 3)."""
    area = rng.uniform(*AREAS, size=count)
    ratio = np.exp(rng.uniform(np.log(RATIOS[0]), np.log(RATIOS[1]), size=count))
    size = np.minimum(np.sqrt([area * ratio, area / ratio]), 1.0)  # width and height, as shares
    centre = (1 - size) * rng.uniform(-1, 1, size=(2, count))
    maps = np.zeros((count, 2, 3))
    maps[:, 0, 0] = size[0] * rng.choice((-1, 1), size=count)
    maps[:, 1, 1] = size[1]
    maps[:, :, 2] = centre.T
    return torch.from_numpy(maps)


def _cropped(images_NCHW: Tensor, maps: Tensor) -> Tensor:
    pixels = images_NCHW.to(torch.float32)
    grid = functional.affine_grid(maps.to(pixels), list(pixels.shape), align_corners=False)
    crops = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return crops.round_().to(torch.uint8)
