"""Learned variances of the ancestral step: Nichol and Dhariwal 2021, "Improved DDPM", section 3.1.

For any two levels t and s, s the one of less noise, q(z_t | z_s) has the coefficient alpha_t / alpha_s and the variance
sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2 (Kingma et al. 2021, appendix A), between neighbouring steps beta_t.
"""

from __future__ import annotations

from torch import Tensor

from ldmkit.values import Levels


def share(raw: Tensor) -> Tensor:
    """Where between its ends the log-variance is that the network means by ``raw``: 0 at -1, 1 at 1, and beyond."""
    return (raw + 1) / 2


def log_variance(raw: Tensor, at: Levels, before: Levels) -> Tensor:
    """Log-variance of p(z_s | z_t), between log(tilde beta) at ``raw`` = -1 and log(beta) at 1: eq. 15."""
    beta, tilde_beta = _variances(at, before)
    return share(raw) * beta.log() + (1 - share(raw)) * tilde_beta.log()


def step_kl(z0: Tensor, x0: Tensor, raw: Tensor, at: Levels, before: Levels) -> Tensor:
    """KL(q(z_s | z_t, z0) || p(z_s | z_t)) in nats, mean over the latent: (B,). Ho et al. 2020, eq. 5.

    Both means have the same part in z_t, so that only the estimate ``x0`` of ``z0`` tells them apart.
    """
    beta, tilde_beta = _variances(at, before)
    log_ratio = tilde_beta.log() - log_variance(raw, at, before)
    mean_apart = before.alpha * beta / at.sigma.square() * (z0 - x0)
    distance = mean_apart.square() / tilde_beta
    return (0.5 * (log_ratio.exp() * (1 + distance) - 1 - log_ratio)).flatten(1).mean(1)


def _variances(at: Levels, before: Levels) -> tuple[Tensor, Tensor]:
    """beta: of q(z_t | z_s), and tilde beta: of q(z_s | z_t, z0)."""
    beta = at.sigma.square() - (at.alpha / before.alpha * before.sigma).square()
    return beta, beta * (before.sigma / at.sigma).square()
