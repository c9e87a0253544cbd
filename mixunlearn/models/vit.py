"""A small vision transformer (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929)."""

from mixunlearn.models.staged import SMALL
from mixunlearn.models.wrapped import RGB, Wrapped

FEWEST = 4  # patches along a side
DEPTH, HEAD_WIDTH = 7, 64


def vit(*, channels: int, size: tuple[int, int], classes: int, width: int = 256) -> Wrapped:
    """ViT-Lite-7 of arXiv 2104.05704 in torchvision's implementation, with a class token.

    Seven blocks with 64-d heads and an MLP of twice the width. Patches are the smallest for which
    an image of up to 64 pixels has at most 8×8 patches, and a larger one at most 14×14: 4×4 pixels
    for 28 and 32.

    Args:
        channels: of the images, 1 (repeated) or 3.
        size: (H, W) of the images: equal, and divisible into such patches.
        classes: number of outputs.
        width: of the tokens; 256 is the paper's.
    """
    from torchvision.models import VisionTransformer  # noqa: PLC0415 (optional, slow to import)

    network = VisionTransformer(
        image_size=size[0],
        patch_size=_patch(size[0]),
        num_layers=DEPTH,
        num_heads=_heads(width),
        hidden_dim=width,
        mlp_dim=2 * width,
        num_classes=classes,
    )
    return Wrapped(network, (channels, *size), mean=(0.5,) * RGB, sd=(0.5,) * RGB, rgb=True)


def _patch(side: int) -> int:
    """Return the smallest patch size with at least 4×4 and not too many patches.

    Raises:
        ValueError: the image's side has no such divisor.
    """
    most = 8 if side <= SMALL else 14
    for patch in range(-(-side // most), side // FEWEST + 1):
        if side % patch == 0:
            return patch
    raise ValueError(f"{side} pixels cannot be cut into {FEWEST} to {most} equal patches")


def _heads(width: int) -> int:
    """Return the number of heads: it divides the width, and several heads have at least 64 each."""
    return next(heads for heads in range(width // HEAD_WIDTH or 1, 0, -1) if width % heads == 0)
