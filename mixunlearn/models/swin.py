"""A Swin transformer sized for the images (Liu et al., ICCV 2021, arXiv 2103.14030)."""

from mixunlearn.models.staged import SMALL
from mixunlearn.models.wrapped import RGB, Wrapped

DEPTHS = (2, 2, 6, 2)
HEAD_WIDTH = 32


def swin(*, channels: int, size: tuple[int, int], classes: int, width: int = 96) -> Wrapped:
    """Swin-T in torchvision's implementation; small images get smaller patches and windows.

    The patch size is the shorter side divided by 16 and rounded up, at most the paper's 4 pixels:
    2×2 for 28 and 32. Windows have 4×4 patches for images of up to 64 pixels, else the paper's 7×7.

    Args:
        channels: of the images, 1 (repeated) or 3.
        size: (H, W) of the images.
        classes: number of outputs.
        width: of the first stage's tokens; 96 is the paper's, 24 trains on a CPU.
    """
    from torchvision.models import SwinTransformer  # noqa: PLC0415 (optional, slow to import)

    side = min(size)
    patch, window = min(-(-side // 16), 4), 4 if side <= SMALL else 7
    heads = max(width // HEAD_WIDTH, 1)
    network = SwinTransformer(
        patch_size=[patch, patch],
        embed_dim=width,
        depths=list(DEPTHS),
        num_heads=[heads * 2**stage for stage in range(len(DEPTHS))],
        window_size=[window, window],
        num_classes=classes,
    )
    return Wrapped(network, (channels, *size), mean=(0.5,) * RGB, sd=(0.5,) * RGB, rgb=True)
