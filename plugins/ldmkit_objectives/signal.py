"""How much signal is left: abar_t = alpha_t^2 of a variance-preserving process, over T training steps.

Some schedules are given by their betas, abar_t being the product of (1 - beta_s) over s <= t; those know whole steps
only. Others are functions of a time u in [0, 1]; step i, counted from 0, stands at u = (i + 1) / T. All: float64 (T,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear(steps: int, start: float, end: float) -> Tensor:
    """Betas on a straight line in sqrt(beta), the "linear" of Rombach et al. 2022."""
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()


def linear_beta(steps: int, start: float, end: float) -> Tensor:
    """Betas on a straight line, Ho et al. 2020, section 4."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def cosine(steps: int) -> Tensor:
    """Betas of Nichol and Dhariwal 2021, eq. 17, with s = 0.008 and beta capped at 0.999."""
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def flow(time: Tensor) -> Tensor:
    """The straight line z_u = (1 - u) z0 + u eps of Liu et al. 2022 and Lipman et al. 2023, at unit variance."""
    return (1 - time).square() / ((1 - time).square() + time.square())


def sigmoid(time: Tensor, tau: float) -> Tensor:
    """Jabri et al. 2022 (with Chen 2023, algorithm 1): from -3 to 3 along a sigmoid of temperature ``tau``."""
    start, end = -3.0, 3.0
    first, last = (torch.tensor(value / tau, dtype=torch.float64).sigmoid() for value in (start, end))
    here = ((start + (end - start) * time) / tau).sigmoid()
    return ((last - here) / (last - first)).clamp(1e-9, 1)


def edm(time: Tensor) -> Tensor:
    """sigma / alpha from 0.002 to 80, evenly in its seventh root: Karras et al. 2022, eq. 5 and table 1."""
    least, most, rho = 0.002, 80.0, 7.0
    sigma = (least ** (1 / rho) + time * (most ** (1 / rho) - least ** (1 / rho))) ** rho
    return 1 / (1 + sigma.square())


def shifted(abar: Tensor, shift: float) -> Tensor:
    """Multiply sigma / alpha by ``shift``; of ``flow`` that is Esser et al. 2024, eq. 23, with sqrt(m / n)."""
    return abar / (abar + shift**2 * (1 - abar))


def zero_terminal(abar: Tensor) -> Tensor:
    """Stretch sqrt(abar) so that nothing is left of the signal at the end: Lin et al. 2024, algorithm 1."""
    root = abar.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
