"""Power-function averages of weights, and how averages of any width are made of a few stored ones.

Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models" (EDM2), section 3, appendix C:
an average after ``step`` updates weighs the weights after update t, 0 < t <= step, by the profile

    p(t) = (gamma + 1) t^gamma / step^(gamma + 1).

Its ``width`` is the standard deviation of p as a share of ``step``, the paper's sigma_rel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

WIDTHS = (0.05, 0.10)
"""Widths that training stores: from these two the paper reconstructs those from 0.015 to 0.25."""

WIDEST = 12**-0.5
"""Width of gamma = 0, the plain mean over all of training."""


@dataclass(frozen=True)
class Profile:
    """The power-function profile of ``width`` after ``step`` updates."""

    width: float
    step: int

    @property
    def gamma(self) -> float:
        """The exponent, from width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))."""
        t = self.width**-2
        return float(np.roots([1, 7, 16 - t, 12 - t]).real.max())

    def dot(self, other: Profile) -> float:
        """Integral of the product of two profiles."""
        early, late = sorted((self, other), key=lambda profile: profile.step)
        a, b = early.gamma, late.gamma
        return (a + 1) * (b + 1) / (a + b + 1) * (early.step / late.step) ** b / late.step


def power_function(width: float) -> Callable[[int], float]:
    """The decay (1 - 1 / n)^(gamma + 1) at update n, which gives an average the profile of ``width``."""
    exponent = Profile(width, 1).gamma + 1
    return lambda step: (1 - 1 / step) ** exponent


def combination(stored: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, float]:
    """Return the weights with which averages of the profiles ``stored`` come nearest to that of ``wanted``.

    Nearest in least squares of the profiles, among weights that sum to 1. With many averages they do so by themselves,
    and the paper does not ask for it; with few, the model's weights would all shrink. The second value is what is left:
    the norm of the difference as a share of that of ``wanted``.
    """
    products = np.array([[one.dot(other) for other in stored] for one in stored])
    towards = np.array([one.dot(wanted) for one in stored])
    sums = np.ones((len(stored), 1))
    system = np.block([[products, sums], [sums.T, np.zeros((1, 1))]])  # the last unknown is Lagrange's
    weights = np.linalg.lstsq(system, np.append(towards, 1.0), rcond=None)[0][:-1]
    square = wanted.dot(wanted)
    left = weights @ products @ weights - 2 * weights @ towards + square
    return weights, float(np.sqrt(max(left, 0.0) / square))
