"""Reconstruction error plus KL: the part of the paper's first-stage loss that needs no other network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.protocols import FirstStageLoss
from ldmkit.registry.ranges import at_least
from ldmkit.values import Reconstruction
from ldmkit_first_stages.blocks import at_least_fp32

RECONSTRUCTIONS = ("l1", "l2")
REDUCTIONS = ("sum", "mean")


class L1KL(FirstStageLoss):
    """reconstruction + ``kl_weight`` * KL(q || N(0, I)) (Rombach et al. 2022, appendix G, equation 25).

    ``reduction`` holds for both terms. ``sum``, as in the paper: summed over channels and positions, averaged over the
    batch. ``mean``: averaged over all elements, the error over those of the image, the KL over those of the latent.
    The two have the same minimum where ``mean`` has ``latent_numel / image_numel`` times the weight of ``sum``:
    1e-6 with sums at 256x256x3 is 2.08e-8 with means for a latent of 32x32x4.

    The parts it reports are in the chosen reduction, before weighting: ``reconstruction`` and ``kl`` (nats).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        reconstruction: str
        reduction: str
        kl_weight: float

        def __post_init__(self) -> None:
            at_least(0, kl_weight=self.kl_weight)
            for key, value, choices in (
                ("reconstruction", self.reconstruction, RECONSTRUCTIONS),
                ("reduction", self.reduction, REDUCTIONS),
            ):
                if value not in choices:
                    raise ConfigError(
                        f"loss '{self.name}': {key} is '{value}' but must be one of: {', '.join(choices)}"
                    )

    def __init__(self, config: Config, *, image_numel: int, latent_numel: int) -> None:
        super().__init__()
        self.config = config
        self.image_numel = image_numel
        self.latent_numel = latent_numel

    @property
    def equivalent_kl_weight(self) -> float:
        """The ``kl_weight`` that means the same in the other reduction."""
        mean_per_sum = self.latent_numel / self.image_numel
        return self.config.kl_weight * (mean_per_sum if self.config.reduction == "sum" else 1 / mean_per_sum)

    def constants(self) -> Mapping[str, float]:
        """The weight in the other reduction, for the log."""
        return {"equivalent_kl_weight": self.equivalent_kl_weight}

    def forward(self, images: Tensor, reconstruction: Reconstruction, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Images (B, C, H, W) and what became of them => scalar loss and its parts, detached."""
        difference = at_least_fp32(images) - at_least_fp32(reconstruction.images)
        errors = difference.abs() if self.config.reconstruction == "l1" else difference.square()
        error, kl = errors.flatten(1).sum(1).mean(), reconstruction.posterior.kl().mean()
        if self.config.reduction == "mean":
            error, kl = error / self.image_numel, kl / self.latent_numel
        loss = error + self.config.kl_weight * kl
        return loss, {"reconstruction": error.detach(), "kl": kl.detach()}
