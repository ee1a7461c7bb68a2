"""Where the levels of a sampling run lie among those that the network was trained on.

Every spacing but ``compvis`` gives exactly as many levels as asked, and the clean level behind them. In what follows
k counts the T training steps from 0, the least noise; sigma / alpha is the noise level of Karras et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.specs import Spacing
from ldmkit.values import Levels


def spaced(training: Levels, steps: int, spacing: Spacing = "trailing") -> Levels:
    """``steps`` of the levels ``training`` (T,), given from least noise to most, and the clean one: (``steps`` + 1,).

    The result goes from most noise to least, has ``training`` as its path and is on the CPU. A level between two of
    training lies on the straight line between their angles atan(sigma / alpha). The clean level is told as the time of
    the least noise, the nearest that the network knows. Raises ValueError below 1 step, ConfigError where ``spacing``
    cannot make that many.
    """
    if steps < 1:
        raise ValueError(f"got steps={steps} but expected 1 or more")
    training = training.to("cpu")
    clean = Levels(torch.ones(1), torch.zeros(1), training.t[:1])
    if spacing == "compvis":
        parts = [_at_steps(training, compvis(len(training), steps)), training[:1]]
    elif spacing in BY_STEP:
        parts = [_at_steps(training, BY_STEP[spacing](len(training), steps)), clean]
    else:
        parts = [*_at_noise(training, steps, BY_NOISE[spacing]), clean]
    return replace(Levels.joined([part.double() for part in parts]).to(training.alpha.dtype), path=training)


def trailing(total: int, steps: int) -> Tensor:
    """T, T - T/n, ..., T/n, rounded, less one: Lin et al. 2024, "Common diffusion noise schedules", table 2."""
    if steps > total:
        return linspace(total, steps)
    # Whole numbers, so that no two of them round to the same step.
    times = [float((2 * total * (steps - i) + steps) // (2 * steps) - 1) for i in range(steps)]
    return torch.tensor(times, dtype=torch.float64)


def leading(total: int, steps: int) -> Tensor:
    """The first of each of n equal shares of the T steps: Ho et al. 2020, Song et al. 2021. Never begins at T - 1."""
    if steps > total:
        return linspace(total, steps)
    return torch.tensor([float(total * (steps - 1 - i) // steps) for i in range(steps)], dtype=torch.float64)


def linspace(total: int, steps: int) -> Tensor:
    """From T - 1 to 0, both among them; rounded where there are enough training steps."""
    last = total - 1
    times = torch.tensor([last * (1 - i / max(1, steps - 1)) for i in range(steps)], dtype=torch.float64)
    return times if steps > total else times.round()


def beta(total: int, steps: int, shape: float = 0.6) -> Tensor:
    """Quantiles of Beta(0.6, 0.6) from T - 1 to 0, denser at both ends: Lee et al. 2024, "Beta sampling".

    With k / (T - 1) = sin(theta)^2, the density of theta is bounded, and the trapezoid rule gives its distribution.
    """
    theta = torch.linspace(0, torch.pi / 2, 20001, dtype=torch.float64)
    density = (theta.sin() * theta.cos()).pow(2 * shape - 1)
    distribution = torch.cumulative_trapezoid(density, theta)
    wanted = distribution[-1] * torch.linspace(1, 0, steps, dtype=torch.float64)
    above = torch.searchsorted(distribution, wanted).clamp(max=len(distribution) - 1)
    below = torch.where(above > 0, distribution[above - 1], 0.0)
    part = (wanted - below) / (distribution[above] - below)
    return (total - 1) * torch.lerp(theta[above], theta[above + 1], part).sin().square()


def karras(most: Tensor, least: Tensor, steps: int, rho: float = 7.0) -> Tensor:
    """Evenly in (sigma / alpha)^(1 / 7): Karras et al. 2022, "Elucidating the design space", eq. 5."""
    return torch.lerp(most ** (1 / rho), least ** (1 / rho), _ramp(steps)) ** rho


def exponential(most: Tensor, least: Tensor, steps: int) -> Tensor:
    """Evenly in log(sigma / alpha), which is evenly in log-SNR: Lu et al. 2022, "DPM-Solver"."""
    return torch.lerp(most.log(), least.log(), _ramp(steps)).exp()


def compvis(total: int, steps: int) -> Tensor:
    """0, c, 2c, ... below T with c = T // n, all plus one: what the code of Rombach et al. 2022 makes of n steps.

    More than n of them where n does not divide T, and one that does not exist where c divides T - 1. The last of the
    walk then ends at the first training step, not at the clean level.
    """

    def fits(steps: int) -> bool:
        return steps <= total and (total - 1) % (total // steps) > 0

    if not fits(steps):
        fewer = max(filter(fits, range(1, min(steps, total) + 1)), default=1)
        raise ConfigError(
            f"spacing=compvis cannot make {steps} steps: the original code asks for training step {total} of "
            f"0 to {total - 1} or above; the next fewer steps that it can make are {fewer}; or take spacing=leading"
        )
    return torch.arange(0, total, total // steps).flip(0).double() + 1


BY_STEP: dict[str, Callable[[int, int], Tensor]] = {
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "beta": beta,
}
"""(T, n) => n training steps k, which need not be whole, falling: float64."""

BY_NOISE: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "karras": karras,
    "exponential": exponential,
    "uniform-log-snr": exponential,
}
"""(the most and the least of sigma / alpha, n) => n of sigma / alpha, falling: float64."""


def _at_steps(training: Levels, k: Tensor) -> Levels:
    low, high, part = k.floor().long(), k.ceil().long(), k.frac()
    angles = torch.atan2(training.sigma.double(), training.alpha.double())
    scale = training.scale.double().round(decimals=6)  # what is 1 but for rounding is 1
    angle, scale, t = (torch.lerp(line[low], line[high], part) for line in (angles, scale, training.t.double()))
    alpha = scale * angle.cos().where(angle < torch.pi / 2, 0.0)  # cos(pi / 2) is 0 but for rounding
    return Levels(alpha, scale * angle.sin(), t)


def _at_noise(training: Levels, steps: int, place: Callable[[Tensor, Tensor, int], Tensor]) -> list[Levels]:
    """A level without any signal, which no finite noise level describes, comes first and is not placed."""
    noise = training.sigma.double() / training.alpha.double()
    first = [training[-1:]] if noise[-1].isinf() else []
    placed = place(noise[-1 - len(first)], noise[0], steps - len(first))
    return [*first, training.at(-2 * placed.log())]


def _ramp(steps: int) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=torch.float64)
