"""What guidance and samplers see of a model: its estimate of z0."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.protocols import ConditionalDenoise, Denoiser, Objective, Perturbation
from ldmkit.values import Conditioning, Levels


@dataclass(frozen=True)
class X0Estimate:
    """A denoiser and an objective as one function to x0, for some rows; see :class:`ConditionalDenoise`."""

    denoiser: Denoiser
    objective: Objective
    conditioners: Sequence[str]
    told: Callable[[Collection[str]], Conditioning]
    by_weaker: Callable[[], X0Estimate] | None = None
    perturbation: Perturbation | None = None

    def prepare(self, conditioning: Conditioning) -> Any:
        """See :meth:`Denoiser.prepare`."""
        prepared = self.denoiser.prepare(conditioning)
        return self.denoiser.perturb(prepared, self.perturbation) if self.perturbation else prepared

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        raw = self.denoiser(z, level.beside(z).t, prepared)
        return self.objective.denoiser_to_x0(raw.to(z.dtype), z, level)

    def perturbed(self, where: Perturbation) -> ConditionalDenoise:
        """The same with :meth:`Denoiser.perturb`."""
        return replace(self, perturbation=where)

    def weaker(self) -> ConditionalDenoise:
        """The estimate of the weaker model for the same rows."""
        if self.by_weaker is None:
            raise ConfigError("this guidance needs a weaker model, but none was named")
        return self.by_weaker()
