"""The likelihood of a latent under the probability-flow ODE."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise
from ldmkit.values import Levels


def log_likelihood(denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, probes: int | None = None) -> Tensor:
    """log p(z) at the last of ``levels``, in nats: (B,).

    Song et al. 2021, "Score-based generative modeling through stochastic differential equations", appendix D.2: the ODE
    carries z (B, c, h, w) back to ``levels[0]``, where it is taken to be normal of variance alpha^2 + sigma^2, and the
    divergence is integrated on the way; here by the Runge-Kutta method of fourth order in lambda = log(alpha / sigma),
    one step from level to level. So ``levels`` must have alpha and sigma above 0: leave the clean
    one out, ``levels[:-1]``.

    ``probes`` None takes the exact trace of the Jacobian, c h w gradients an evaluation; a number takes as many random
    projections of it, drawn from ``random`` (Hutchinson 1990), which is right on average.
    """
    exact = levels.double()
    lam = exact.log_snr / 2
    middle = levels.at(lam[:-1] + lam[1:])
    vectors = list(_unit_vectors(z) if probes is None else _signs(z, random, probes))
    share = 1.0 if probes is None else 1 / probes

    def flow(y: Tensor, level: Levels) -> tuple[Tensor, Tensor]:
        """dy / dlambda and its divergence, for y = z / sqrt(alpha^2 + sigma^2)."""
        cos, scale = level.alpha / level.scale, level.scale
        with torch.enable_grad():
            at = (scale * y).detach().requires_grad_()
            x0 = denoise(at, level)
            last = len(vectors) - 1
            gradients = (torch.autograd.grad(x0, at, v, retain_graph=i < last) for i, v in enumerate(vectors))
            trace = sum((share * (g * v).flatten(1).sum(1) for (g,), v in zip(gradients, vectors, strict=True)), 0.0)
        return cos * (x0.detach() - cos * y), cos * (scale * trace - cos * y[0].numel())

    y, divergence = z / exact.scale[-1], torch.zeros(len(z), dtype=z.dtype, device=z.device)
    for i in reversed(range(len(levels) - 1)):
        h = lam[i] - lam[i + 1]
        slope_1, div_1 = flow(y, levels[i + 1])
        slope_2, div_2 = flow(y + h / 2 * slope_1, middle[i])
        slope_3, div_3 = flow(y + h / 2 * slope_2, middle[i])
        slope_4, div_4 = flow(y + h * slope_3, levels[i])
        y = y + h / 6 * (slope_1 + 2 * slope_2 + 2 * slope_3 + slope_4)
        divergence = divergence + h / 6 * (div_1 + 2 * div_2 + 2 * div_3 + div_4)
    normal = -0.5 * (y.square() + math.log(2 * math.pi)).flatten(1).sum(1)
    return normal + divergence - y[0].numel() * exact.scale[-1].log()


def _unit_vectors(z: Tensor) -> Iterator[Tensor]:
    """One for each element of a row; their projections of a Jacobian add up to its trace."""
    for index in range(z[0].numel()):
        vector = torch.zeros_like(z)
        vector.flatten(1)[:, index] = 1
        yield vector


def _signs(z: Tensor, random: RowRandom, probes: int) -> Iterator[Tensor]:
    """Rademacher vectors: the mean of their projections of a Jacobian is its trace."""
    for probe in range(probes):
        yield random.normal(f"probe-{probe}", z.shape[1:], device=z.device, dtype=z.dtype).sign()
