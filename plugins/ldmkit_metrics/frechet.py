"""The Frechet distance between two sets of features, each taken as a Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Count, mean and covariance of features, gathered batch after batch in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Take in features (B, D).

        Adds the scatter about the mean of the batch and that of the two means (Chan, Golub and LeVeque 1983, equation
        2.1), instead of a sum of squares from which a large mean would take the digits.
        """
        if not len(features):
            return
        features = features.double()
        mean, total = features.mean(0), self.count + len(features)
        if not self.count:
            self.mean = torch.zeros_like(mean)
            self.scatter = mean.new_zeros(len(mean), len(mean))
        centred, apart = features - mean, mean - self.mean
        self.scatter += centred.T @ centred + torch.outer(apart, apart) * (self.count * len(features) / total)
        self.mean = self.mean + apart * (len(features) / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (D, D), of two or more rows."""
        return self.scatter / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Dowson and Landau 1982, equation 4; 0 for equal moments.

    With S = F F^T the eigenvalues of S1 S2 are those of (F1^T F2)(F1^T F2)^T, so the trace of its root is the sum of
    the singular values of F1^T F2. No root of an unsymmetric matrix is taken, and singular covariances, which fewer
    pictures than features have, need no addition to their diagonal.
    """
    roots = (_factor(one.covariance), _factor(other.covariance))
    cross = torch.linalg.svdvals(roots[0].T @ roots[1]).sum()
    apart = (one.mean - other.mean).square().sum()
    distance = apart + one.covariance.trace() + other.covariance.trace() - 2 * cross
    return max(0.0, distance.item())


def _factor(covariance: Tensor) -> Tensor:
    """F with F F^T = covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()
