"""The terms that losses of first stages share, and how each becomes one number.

Legend: B batch, C channels, H W pixels, c h w latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ldmkit.values import Reconstruction
from ldmkit_first_stages.blocks import at_least_fp32

Distance = Literal["l1", "l2"]
Kind = Literal["sum", "mean"]


@dataclass(frozen=True)
class Reduction:
    """How errors become one number, the same way for every term of a loss.

    ``mean``: the mean over all elements, those of the image or those of the latent. ``sum``, as in the paper: the sum
    over the elements of one image or latent, averaged over the batch; that is the mean times their number.
    """

    kind: Kind
    image_numel: int
    latent_numel: int

    def of_image(self, mean: Tensor) -> Tensor:
        """A mean over the elements of images => what this reduction makes of them."""
        return mean * self.image_numel if self.kind == "sum" else mean

    def of_latent(self, mean: Tensor) -> Tensor:
        """A mean over the elements of latents => what this reduction makes of them."""
        return mean * self.latent_numel if self.kind == "sum" else mean

    def equivalent(self, weight: float) -> float:
        """The weight of a latent's term, against an image's, that means the same in the other reduction."""
        mean_per_sum = self.latent_numel / self.image_numel
        return weight * (mean_per_sum if self.kind == "sum" else 1 / mean_per_sum)


def mean_error(images: Tensor, reconstructions: Tensor, distance: Distance) -> Tensor:
    """Pixels (B, C, H, W) both => absolute (``l1``) or squared (``l2``) error, the mean over all elements, in fp32."""
    difference = at_least_fp32(images) - at_least_fp32(reconstructions)
    return (difference.abs() if distance == "l1" else difference.square()).mean()


@dataclass(frozen=True)
class LatentTerms:
    """What a loss asks of latents: ``kl_weight`` * KL(q || N(0, I)) + ``codebook_weight`` * the first stage's penalty.

    A posterior without spread (deviation 0 everywhere, as that of a codebook) has no KL. The penalty counts as a mean
    over the elements of the latents.
    """

    reduction: Reduction
    kl_weight: float
    codebook_weight: float

    def __call__(self, reconstruction: Reconstruction) -> tuple[Tensor, dict[str, Tensor]]:
        """What became of images => the weighted sum, and each term that there is, reduced but not weighted."""
        posterior, penalty = reconstruction.posterior, reconstruction.penalty
        total, parts = posterior.mean.new_zeros(()), {}
        if bool(posterior.std.any()):
            parts["kl"] = self.reduction.of_latent(posterior.kl().mean() / self.reduction.latent_numel)
            total = total + self.kl_weight * parts["kl"]
        if penalty is not None:
            parts["penalty"] = self.reduction.of_latent(penalty)
            total = total + self.codebook_weight * parts["penalty"]
        return total, parts

    def constants(self) -> dict[str, float]:
        """The weight of the KL that means the same in the other reduction; nothing where it is 0."""
        return {"equivalent_kl_weight": self.reduction.equivalent(self.kl_weight)} if self.kl_weight else {}
