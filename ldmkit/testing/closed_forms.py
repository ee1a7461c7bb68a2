"""Data of which everything is known: the exact estimate of x0, and where the probability-flow ODE takes each z.

Latents are (B, 2, h, w) in double precision; positions are independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from ldmkit.values import Levels


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance) over the two channels: ``mean`` (2, 1, 1), ``basis`` its axes, ``std`` along them."""

    mean: Tensor = field(default_factory=lambda: column(0.7, -0.3))
    std: Tensor = field(default_factory=lambda: column(0.8, 0.3))
    basis: Tensor = field(default_factory=lambda: torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64))

    @property
    def covariance(self) -> Tensor:
        """Of the two channels: (2, 2)."""
        return self.basis @ torch.diag(self.std.flatten().square()) @ self.basis.T

    def denoise(self, z: Tensor, level: Levels) -> Tensor:
        """E[x0 | z]."""
        here = replace(self, **{f.name: getattr(self, f.name).to(z.device) for f in fields(self)})
        level = replace(level.to(z.device), path=None)
        gain = level.alpha * here.std.square() / here._variance(level)
        return (here.mean + here._scaled(z.double() - level.alpha * here.mean, gain)).to(z.dtype)

    def carried(self, z: Tensor, start: Levels, end: Levels) -> Tensor:
        """Where the exact solution of the ODE is at ``end``: it conserves z's whitened deviation from the mean."""
        gain = (self._variance(end) / self._variance(start)).sqrt()
        return end.alpha * self.mean + self._scaled(z - start.alpha * self.mean, gain)

    def log_density(self, z: Tensor, level: Levels) -> Tensor:
        """log p(z), in nats: (B,)."""
        variance = self._variance(level)
        white = torch.einsum("ji,bjhw->bihw", self.basis, z - level.alpha * self.mean)
        return (-0.5 * (white.square() / variance + (2 * torch.pi * variance).log())).flatten(1).sum(1)

    def _variance(self, level: Levels) -> Tensor:
        return level.alpha.double().square() * self.std.square() + level.sigma.double().square()

    def _scaled(self, deviation: Tensor, gain: Tensor) -> Tensor:
        """Multiply by ``gain`` along the axes of the covariance."""
        return torch.einsum("ij,jhw,kj,bkhw->bihw", self.basis, gain.expand(2, 1, 1), self.basis, deviation)


@dataclass(frozen=True)
class Mixture:
    """In each element by itself, the mixture of Gaussians N(``means``, ``stds``^2) with ``weights``, each (K,)."""

    weights: Tensor = field(default_factory=lambda: column(0.4, 0.6).flatten())
    means: Tensor = field(default_factory=lambda: column(-0.9, 0.8).flatten())
    stds: Tensor = field(default_factory=lambda: column(0.35, 0.5).flatten())

    def denoise(self, z: Tensor, level: Levels) -> Tensor:
        """E[x0 | z]."""
        variance = self._variance(level)
        deviation = z.double().unsqueeze(-1) - level.alpha * self.means
        share = (self.weights.log() - 0.5 * variance.log() - 0.5 * deviation.square() / variance).softmax(-1)
        each = self.means + level.alpha * self.stds.square() / variance * deviation
        return (share * each).sum(-1).to(z.dtype)

    def carried(self, z: Tensor, start: Levels, end: Levels) -> Tensor:
        """Where the exact solution of the ODE is at ``end``: in one dimension it keeps every quantile; by bisection."""
        quantile = self._distribution(z, start)
        low, high = torch.full_like(z, -20.0), torch.full_like(z, 20.0)
        for _ in range(60):
            middle = (low + high) / 2
            below = self._distribution(middle, end) < quantile
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def log_density(self, z: Tensor, level: Levels) -> Tensor:
        """log p(z), in nats: (B,)."""
        variance = self._variance(level)
        deviation = z.unsqueeze(-1) - level.alpha * self.means
        each = self.weights.log() - 0.5 * (deviation.square() / variance + (2 * torch.pi * variance).log())
        return each.logsumexp(-1).flatten(1).sum(1)

    def _distribution(self, z: Tensor, level: Levels) -> Tensor:
        """P(z_t < z)."""
        white = (z.unsqueeze(-1) - level.alpha * self.means) / self._variance(level).sqrt()
        return (self.weights * torch.special.ndtr(white)).sum(-1)

    def _variance(self, level: Levels) -> Tensor:
        return level.alpha.double().square() * self.stds.square() + level.sigma.double().square()


def log_snr_ramp(start: float, end: float, steps: int) -> Levels:
    """alpha^2 + sigma^2 = 1, evenly in log-SNR from ``start`` to ``end``: (``steps`` + 1,), double precision."""
    log_snr = torch.linspace(start, end, steps + 1, dtype=torch.float64)
    return Levels(log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt(), -log_snr)
