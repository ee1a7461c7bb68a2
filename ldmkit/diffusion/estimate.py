"""What guidance and samplers see of a model: its estimate of z0."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.protocols import ConditionalDenoise, Denoise, Denoiser, Objective, Perturbation
from ldmkit.values import Conditioning, Levels


@dataclass(frozen=True)
class X0Estimate:
    """A denoiser and an objective as one function to x0, for some rows; see :class:`ConditionalDenoise`.

    ``of_variance``: to what :meth:`Objective.denoiser_to_variance` gives, in its place.
    """

    denoiser: Denoiser
    objective: Objective
    conditioners: Sequence[str]
    told: Callable[[Collection[str]], Conditioning]
    by_weaker: Callable[[], X0Estimate] | None = None
    perturbation: Perturbation | None = None
    of_variance: bool = False

    def prepare(self, conditioning: Conditioning) -> Any:
        """See :meth:`Denoiser.prepare`."""
        prepared = self.denoiser.prepare(conditioning)
        return self.denoiser.perturb(prepared, self.perturbation) if self.perturbation else prepared

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        raw = self.denoiser(z, level.beside(z).t, prepared)
        if self.of_variance:
            return self.objective.denoiser_to_variance(raw.to(z.dtype), z)
        return self.objective.denoiser_to_x0(raw.to(z.dtype), z, level)

    def perturbed(self, where: Perturbation) -> ConditionalDenoise:
        """The same with :meth:`Denoiser.perturb`."""
        return replace(self, perturbation=where)

    def weaker(self) -> ConditionalDenoise:
        """The estimate of the weaker model for the same rows."""
        if self.by_weaker is None:
            raise ConfigError("this guidance needs a weaker model, but none was named")
        return self.by_weaker()


@dataclass(frozen=True)
class WithVariance:
    """``denoise`` beside the variance that ``estimate`` is of, told of all conditioners: a DenoiseWithVariance."""

    denoise: Denoise
    estimate: ConditionalDenoise

    @cached_property
    def prepared(self) -> Any:
        """All that there is to tell, prepared once."""
        return self.estimate.prepare(self.estimate.told(self.estimate.conditioners))

    def __call__(self, z: Tensor, level: Levels) -> Tensor:
        return self.denoise(z, level)

    def variance(self, z: Tensor, level: Levels) -> Tensor:
        """See :class:`DenoiseWithVariance`."""
        return self.estimate(z, level, self.prepared)
