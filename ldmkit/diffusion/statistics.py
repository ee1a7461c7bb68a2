"""Latent statistics: the shift and scale that give latents zero mean and unit variance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ldmkit.errors import CheckpointError
from ldmkit.values import Posterior

Kind = Literal["channel", "scalar"]


@dataclass(frozen=True)
class LatentStatistics:
    """z0 = (latent - ``shift``) * ``scale``, each (C,), measured over ``count`` images.

    ``first_stage`` is the digest of the first stage that made the latents; with another one they mean nothing.
    """

    shift: Tensor
    scale: Tensor
    count: int
    first_stage: str

    @classmethod
    def measure(cls, posteriors: Iterable[Posterior], first_stage: str, kind: Kind = "channel") -> LatentStatistics:
        """Measure latents sampled from ``posteriors``, in double precision.

        ``kind`` ``"channel"``: mean and standard deviation of each channel. ``"scalar"``: one scale for all channels, 1
        over the standard deviation around the mean of all, and no shift (Rombach et al. 2022, appendix G).
        """
        total = square = torch.zeros((), dtype=torch.float64)
        count = pixels = 0
        for posterior in posteriors:
            mean, std = posterior.mean.double(), posterior.std.double()
            total = total + mean.sum((0, 2, 3))
            square = square + (mean.square() + std.square()).sum((0, 2, 3))  # E z^2 = mean^2 + std^2
            count += len(mean)
            pixels += len(mean) * mean.shape[2] * mean.shape[3]
        shift, square = total / pixels, square / pixels
        if kind == "scalar":
            std = _std(shift.mean(), square.mean()).expand_as(shift)
            shift = torch.zeros_like(shift)
        else:
            std = _std(shift, square)
        return cls(shift.float(), (1 / std).float(), count, first_stage)

    def with_scale(self, scale: float) -> LatentStatistics:
        """These with a given ``scale`` for all channels and no shift, such as 0.18215 of Stable Diffusion."""
        return replace(self, shift=torch.zeros_like(self.shift), scale=torch.full_like(self.scale, scale))

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents of the first stage => z0 (B, C, h, w)."""
        shift, scale = self._beside(latents)
        return (latents - shift) * scale

    def undo(self, z0: Tensor) -> Tensor:
        """z0 => latents of the first stage (B, C, h, w)."""
        shift, scale = self._beside(z0)
        return z0 / scale + shift

    def belongs_to(self, first_stage: str) -> None:
        """Raise CheckpointError when these statistics were measured with another first stage."""
        if first_stage != self.first_stage:
            raise CheckpointError(
                f"these latent statistics belong to first stage {self.first_stage[:12]}, "
                f"but this is first stage {first_stage[:12]}; measure them again with this one"
            )

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads back."""
        return {
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "count": self.count,
            "first_stage": self.first_stage,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LatentStatistics:
        """Read back; CheckpointError where ``value`` holds no statistics."""
        if not isinstance(value, dict) or {"shift", "scale", "count", "first_stage"} - value.keys():
            raise CheckpointError("the latent statistics of the checkpoint are damaged")
        return cls(torch.tensor(value["shift"]), torch.tensor(value["scale"]), value["count"], value["first_stage"])

    def _beside(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = (v.to(latents).view(1, -1, 1, 1) for v in (self.shift, self.scale))
        return shift, scale


def _std(mean: Tensor, square: Tensor) -> Tensor:
    """Standard deviation from the first two moments; never 0."""
    return (square - mean.square()).clamp_min(1e-12).sqrt()
