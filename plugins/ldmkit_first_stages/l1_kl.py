"""Reconstruction error plus KL: the part of the paper's first-stage loss that needs no other network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ldmkit.protocols import FirstStageLoss
from ldmkit.registry.ranges import at_least
from ldmkit.values import Reconstruction
from ldmkit_first_stages.terms import Distance, Kind, LatentTerms, Reduction, mean_error


class L1KL(FirstStageLoss):
    """reconstruction + ``kl_weight`` * KL(q || N(0, I)) (Rombach et al. 2022, appendix G, equation 25).

    Where the posterior has no spread there is no KL, and where the first stage has a penalty (a codebook's), it counts
    ``codebook_weight`` times (van den Oord et al. 2017, equation 3).

    ``reduction`` holds for all terms. ``sum``, as in the paper: summed over channels and positions, averaged over the
    batch. ``mean``: averaged over all elements, the error over those of the image, the others over those of the latent.
    The two have the same minimum where ``mean`` has ``latent_numel / image_numel`` times the weight of ``sum``:
    1e-6 with sums at 256x256x3 is 2.08e-8 with means for a latent of 32x32x4.

    The parts it reports are in the chosen reduction, before weighting: ``reconstruction``, ``kl`` (nats), ``penalty``.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        reconstruction: Distance
        reduction: Kind
        kl_weight: float
        codebook_weight: float

        def __post_init__(self) -> None:
            at_least(0, kl_weight=self.kl_weight, codebook_weight=self.codebook_weight)

    def __init__(self, config: Config, *, image_numel: int, latent_numel: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.reduction = Reduction(config.reduction, image_numel, latent_numel)
        self.latent_terms = LatentTerms(self.reduction, config.kl_weight, config.codebook_weight)

    def constants(self) -> Mapping[str, float]:
        """The weight of the KL in the other reduction, for the log."""
        return self.latent_terms.constants()

    def forward(
        self, images: Tensor, reconstruction: Reconstruction, step: int, last_layer: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Images (B, C, H, W) and what became of them => scalar loss and its parts, detached."""
        error = mean_error(images, reconstruction.images, self.config.reconstruction)
        error = self.reduction.of_image(error)
        asked, parts = self.latent_terms(reconstruction)
        return error + asked, {name: part.detach() for name, part in {"reconstruction": error, **parts}.items()}
