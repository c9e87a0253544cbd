"""A small variational autoencoder of representations (Kingma & Welling, arXiv 1312.6114).

Shape suffixes: B batch, E representation, L latent variables.
"""

from itertools import pairwise

from torch import Tensor, nn

HIDDEN = (128, 32)  # of LAF, arXiv 2404.00506
KL_WEIGHT = 0.025  # also of LAF


class VAE(nn.Module):
    """Learns how representations are distributed: it restores those well that resemble its data.

    Args:
        inputs: E, at least 1.
        latent: L, at least 1.
    """

    def __init__(self, inputs: int, latent: int) -> None:
        super().__init__()
        wide, narrow = HIDDEN
        self.latent = latent
        self.encoder = _layers(inputs, wide, narrow, 2 * latent)
        # The last layer is linear: the authors' sigmoid cannot restore representations above 1.
        self.decoder = _layers(latent, narrow, wide, inputs)

    def encode(self, x_BE: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latent variables, each (B, L)."""
        mean_BL, log_variance_BL = self.encoder(x_BE).chunk(2, dim=1)
        return mean_BL, log_variance_BL

    def forward(self, x_BE: Tensor) -> Tensor:
        """Return the restored representations, without random noise, shape (B, E)."""
        restored_BE: Tensor = self.decoder(self.encode(x_BE)[0])
        return restored_BE

    def loss(self, x_BE: Tensor, noise_BL: Tensor) -> Tensor:
        """Return `‖x̂ − x‖² + κ·KL(N(μ, σ²) ‖ N(0, 1))`, mean of the batch; x̂ is of `μ + σ·noise`.

        Args:
            x_BE: representations.
            noise_BL: standard normal.
        """
        mean, log_variance = self.encode(x_BE)
        restored = self.decoder(mean + (log_variance / 2).exp() * noise_BL)
        kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        loss: Tensor = ((restored - x_BE).square().sum() + KL_WEIGHT * kl) / len(x_BE)
        return loss


def _layers(*sizes: int) -> nn.Sequential:
    """Return linear layers of these sizes with a ReLU between each two."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
