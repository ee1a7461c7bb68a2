"""The values that parts hand to each other.

Legend: B batch, C channels, H W pixels, h w latent grid, M tokens, D token width, E vector width, K map channels,
T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom

Fields = Mapping[str, Any]
"""Fields of a batch by name: text is a list of B strings, label int64 (B,), map int64 (B, H, W), scalar float32 (B,),
image uint8 (B, C, H, W), mask bool (B, H, W).

Boxes are a list of B tensors float32 (N, 5), N differing: left, top, right and bottom as fractions of the picture's
width and height, in [0, 1] from the top left corner, and the index of the class.
"""


@dataclass(frozen=True)
class Batch:
    """B examples: ``images`` uint8 (B, C, H, W), ``fields`` as in :data:`Fields`."""

    images: Tensor
    fields: Fields


def to_pixels(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) in 0..255 => float pixels in [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(pixels: Tensor) -> Tensor:
    """Float pixels in [-1, 1] (clipped) => uint8 (B, C, H, W) in 0..255, rounded to nearest."""
    return pixels.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian q(z | image): ``mean`` and ``std``, both (B, C, h, w); ``std`` is 0 where there is no noise."""

    mean: Tensor
    std: Tensor

    def sample(self, random: RowRandom, purpose: str = "posterior") -> Tensor:
        """Draw mean + std * eps, eps ~ N(0, 1) from the rows' own streams."""
        noise = random.normal(purpose, self.mean.shape[1:], device=self.mean.device)
        return self.mean + self.std * noise.to(self.mean.dtype)

    def mode(self) -> Tensor:
        """The most likely latent, which is the mean."""
        return self.mean

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) in nats, summed over C, h, w: (B,). Kingma and Welling 2014, appendix B."""
        var = self.std.square()
        return 0.5 * (self.mean.square() + var - 1.0 - var.log()).flatten(1).sum(1)


@dataclass(frozen=True)
class Reconstruction:
    """What a first stage makes of images while it is trained.

    ``images`` (B, C, H, W) were decoded from a draw of ``posterior``. ``penalty`` is a scalar that the first stage
    itself wants small, a mean over the elements of the latents such as a codebook's distance to them, and None where it
    wants nothing; ``parts`` of it are for the log, detached scalars.
    """

    images: Tensor
    posterior: Posterior
    penalty: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)


def code_usage(counts: Tensor) -> dict[str, Tensor]:
    """How much of a codebook is used; ``counts`` (q, n) says how often each of n codes stands for a position.

    ``usage`` is the share of codes that stand for at least one position, ``perplexity`` the exponential of the
    entropy of how often each does: n where all are used alike, 1 where one is used alone. Means over q codebooks.
    """
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    entropy = -torch.xlogy(shares, shares).sum(1)
    return {"usage": (counts > 0).float().mean(), "perplexity": entropy.exp().mean()}


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told: any of three forms, each None where absent.

    ``tokens`` (B, M, D) with ``mask`` (B, M) bool, True where a token is real; ``vector`` (B, E); ``map`` (B, K, h, w).
    """

    tokens: Tensor | None = None
    mask: Tensor | None = None
    vector: Tensor | None = None
    map: Tensor | None = None

    def apply(self, change: Any) -> Conditioning:
        """Apply ``change`` to each tensor that is present."""
        present = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(value) for name, value in present.items() if value is not None})

    def to(self, *args: Any, **kwargs: Any) -> Conditioning:
        """Move every form, as ``Tensor.to`` does; the mask keeps its type."""
        moved = self.apply(lambda value: value.to(*args, **kwargs))
        return moved if moved.mask is None else replace(moved, mask=moved.mask.bool())

    @property
    def device(self) -> torch.device:
        """Where its forms are; the CPU when it has none."""
        present = (getattr(self, f.name) for f in fields(self))
        return next((value.device for value in present if value is not None), torch.device("cpu"))

    def where(self, keep: Tensor, other: Conditioning) -> Conditioning:
        """Take a row from here where ``keep`` (B,) is True, else from ``other``, which has the same forms.

        ``keep`` and ``other`` may be on another device; the result is on this one's.
        """

        def choose(here: Tensor | None, there: Tensor | None) -> Tensor | None:
            if here is None or there is None:
                return None
            rows = keep.to(here.device).view(-1, *[1] * (here.ndim - 1))
            return torch.where(rows, here, there.to(here.device, here.dtype))

        return Conditioning(**{f.name: choose(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})

    @staticmethod
    def batch(parts: Sequence[Conditioning]) -> Conditioning:
        """Concatenate along the batch; every part has the same forms and the same number of tokens.

        The result is on the device of the first part.
        """
        device = parts[0].device

        def join(name: str) -> Tensor | None:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else torch.cat([value.to(device) for value in values])

        return Conditioning(**{f.name: join(f.name) for f in fields(Conditioning)})


@dataclass(frozen=True)
class Levels:
    """Noise levels z_t = alpha z0 + sigma eps, with the time ``t`` that the network is told; each (T,) or 0-d.

    ``levels[i]`` is one level. In training the axis is the batch: one level for each row. ``path`` has, for levels to
    sample at, those that they were taken from: all that the network was trained on, from little noise to much.
    """

    alpha: Tensor
    sigma: Tensor
    t: Tensor
    path: Levels | None = None

    def __len__(self) -> int:
        return len(self.alpha)

    def __getitem__(self, index: Any) -> Levels:
        return Levels(self.alpha[index], self.sigma[index], self.t[index], self.path)

    def to(self, *args: Any) -> Levels:
        """Move or convert, as ``Tensor.to`` does."""
        path = None if self.path is None else self.path.to(*args)
        return Levels(self.alpha.to(*args), self.sigma.to(*args), self.t.to(*args), path)

    def double(self) -> Levels:
        """In double precision: differences of log-SNR need it where steps are many."""
        return self.to(torch.float64)

    @staticmethod
    def joined(parts: Sequence[Levels]) -> Levels:
        """The levels of all ``parts``, one behind the other, without a path."""
        alpha, sigma, t = (torch.cat([getattr(part, name) for part in parts]) for name in ("alpha", "sigma", "t"))
        return Levels(alpha, sigma, t)

    @property
    def log_snr(self) -> Tensor:
        """log(alpha^2 / sigma^2); +inf at sigma = 0, -inf at alpha = 0."""
        return 2 * (self.alpha.log() - self.sigma.log())

    @property
    def scale(self) -> Tensor:
        """sqrt(alpha^2 + sigma^2), the deviation of z_t where z0 has unit variance."""
        return self.alpha.hypot(self.sigma)

    def at(self, log_snr: Tensor) -> Levels:
        """Levels of any ``log_snr`` (N,) on the path of these.

        Where it lies between two levels of the path (of these, where there is none), t and alpha^2 + sigma^2 are
        straight lines in the angle atan(sigma / alpha); beyond its ends they stay as they are there.
        """
        path = self.path or self
        angles = torch.atan2(path.sigma.double(), path.alpha.double())
        order = angles.argsort()
        angle = torch.atan(torch.exp(-log_snr.double() / 2))
        above = torch.searchsorted(angles[order], angle).clamp(1, len(path) - 1)
        low, high = order[above - 1], order[above]
        part = ((angle - angles[low]) / (angles[high] - angles[low])).clamp(0, 1)
        power, t = (torch.lerp(line[low], line[high], part) for line in (path.scale.double().square(), path.t.double()))
        alpha, sigma = (power * log_snr.double().sigmoid()).sqrt(), (power * (-log_snr.double()).sigmoid()).sqrt()
        return Levels(alpha, sigma, t, self.path).to(self.alpha.dtype)

    def beside(self, latents: Tensor) -> Levels:
        """Shape alpha and sigma so that they broadcast against ``latents`` (B, C, h, w), with one ``t`` a row."""
        batch = len(latents)
        as_rows = (value.expand(batch).to(latents.device) for value in (self.alpha, self.sigma, self.t))
        alpha, sigma, t = as_rows
        return Levels(alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1), t)


def to_device(fields: Fields, device: torch.device | str) -> dict[str, Any]:
    """Move the fields that are tensors to ``device``."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in fields.items()}
