"""The generator: a small attention block that mixes a forget and a retain image.

Shape suffixes: B batch, C channels of the features, D inner channels, P positions of the
feature map (height times width), H W pixels of the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.passes import passed

INIT_STD = 0.01  # the authors' value; masks are then close to 0.5 everywhere at the start


class MixBlock(nn.Module):
    """Turns the features of a pair of images into masks that sum to 1 at every pixel.

    The adaptive mask block of AdAutoMix as MixUnlearn uses it (arXiv 2502.10288, section 3):
    cross attention between the two feature maps, upsampled to the image, softmax over the pair.

    Args:
        channels: F, channels of the features.
        reduction: F / D, how much narrower queries and keys are than the features.
        lam_concat: append a constant channel with λ to the forget features and 1 − λ to the
            retain features; without it the masks do not depend on λ.
        relu: whether a ReLU follows the queries and the keys. The authors' block has one, because
            the module of their framework adds it by default; the paper's formula has none.
    """

    def __init__(
        self, channels: int, reduction: int = 2, lam_concat: bool = True, relu: bool = False
    ) -> None:
        super().__init__()
        inputs, inner = channels + int(lam_concat), max(channels // reduction, 1)
        self.lam_concat, self.relu = lam_concat, relu
        self.query = nn.Conv2d(inputs, inner, kernel_size=1)
        self.key = nn.Conv2d(inputs, inner, kernel_size=1)
        self.value = nn.Conv2d(inputs, 1, kernel_size=1)
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=INIT_STD)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self, h_forget: Tensor, h_retain: Tensor, lam: float | Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the masks of a batch of pairs.

        Args:
            h_forget: features of the forget images, shape (B, C, h, w).
            h_retain: features of the retain images, same shape.
            lam: λ in (0, 1), one number or shape (B,).
            size: (H, W) of the images to mix.

        Returns:
            Shape (B, 2, H, W), in the block's precision: forget mask, retain mask; they sum to 1.
        """
        # Cached features may be in half precision; the attention uses the block's precision.
        dtype = self.query.weight.dtype
        forget, retain = h_forget.to(dtype), h_retain.to(dtype)
        if self.lam_concat:
            forget, retain = _append(forget, lam), _append(retain, 1 - lam)
        # The forget mask is channel 0: `mix` and the penalty on the mask rely on this order.
        logits = torch.cat((self._attend(forget, retain), self._attend(retain, forget)), dim=1)
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        passed(h_forget, logits)
        return torch.softmax(logits, dim=1)

    def _attend(self, own: Tensor, other: Tensor) -> Tensor:
        query_BDP, key_BDP = self.query(own).flatten(2), self.key(other).flatten(2)
        if self.relu:
            query_BDP, key_BDP = query_BDP.relu(), key_BDP.relu()
        scale = query_BDP.shape[1] ** -0.5
        attention_BPP = torch.softmax(query_BDP.transpose(1, 2) @ key_BDP * scale, dim=-1)
        value_BP1 = self.value(own).flatten(2).transpose(1, 2)
        mask_BP1: Tensor = attention_BPP @ value_BP1
        return mask_BP1.reshape(len(own), 1, *own.shape[2:])


def _append(features: Tensor, lam: float | Tensor) -> Tensor:
    """Append one channel that holds λ everywhere."""
    shape = (len(features), 1, *features.shape[2:])
    channel = torch.as_tensor(lam, dtype=features.dtype, device=features.device)
    return torch.cat((features, channel.reshape(-1, 1, 1, 1).expand(shape)), dim=1)


def mix(masks: Tensor, forget: Tensor, retain: Tensor) -> Tensor:
    """Return `M_f ⊙ x_f + M_r ⊙ x_r`.

    Args:
        masks: shape (B, 2, H, W), as from `MixBlock`.
        forget: images, shape (B, channels, H, W).
        retain: images, same shape.

    Returns:
        Mixed images, same shape.
    """
    return masks[:, :1] * forget + masks[:, 1:] * retain
