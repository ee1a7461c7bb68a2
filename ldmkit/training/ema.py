"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def warmed_up(decay: float) -> Callable[[int], float]:
    """Decay min(``decay``, (1 + n) / (10 + n)) after n updates.

    The warm-up is that of the original latent diffusion code: early averages forget the random start quickly.
    """
    return lambda step: min(decay, (1 + step) / (10 + step))


class EMA:
    """Averages of a module's parameters in float32; ``decay_at(n)`` is the weight of the old average at update n."""

    def __init__(self, module: nn.Module, decay_at: Callable[[int], float]) -> None:
        self.decay_at = decay_at
        self.module = module
        self.averages = {name: p.detach().float().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` updates (counted from 1)."""
        current = [p.detach().float() for p in self.module.parameters()]
        torch._foreach_lerp_(list(self.averages.values()), current, 1 - self.decay_at(step))

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return self.averages

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``; raises KeyError when a parameter is missing."""
        for name, average in self.averages.items():
            average.copy_(state[name])

    @torch.no_grad()
    def store_in(self, module: nn.Module) -> None:
        """Write the averages into ``module``, which has the same parameters."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.averages[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the module computes with its averages, in eval mode; afterwards all is as it was."""
        kept = [p.detach().clone() for p in self.module.parameters()]
        training = self.module.training
        self.store_in(self.module)
        self.module.eval()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.module.parameters(), kept, strict=True):
                    parameter.copy_(value)
            self.module.train(training)
