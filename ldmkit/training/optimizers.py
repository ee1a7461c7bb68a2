"""The optimisers of a training stage: Muon for hidden weights, AdamW for the rest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Move every singular value of ``matrices`` (N, rows, columns) to about 1.

    Quintic Newton-Schulz iteration with the coefficients of Jordan et al. 2024, "Muon: an optimizer for hidden layers
    in neural networks"; the result's singular values lie in about [0.7, 1.2].
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = _iterate_on_gram(x, steps) if x.shape[2] >= 2 * x.shape[1] and not x.is_cuda else _iterate(x, steps)
    return x.mT if tall else x


def _iterate(x: Tensor, steps: int) -> Tensor:
    """x <- a x + (b G + c G^2) x with G = x x^T, ``steps`` times."""
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_on_gram(x: Tensor, steps: int) -> Tensor:
    """The same polynomial, for wide matrices with a third of the work.

    Each step multiplies x by Q = a I + b G + c G^2, which commutes with G; so G <- Q G Q and the product of all Q are
    followed on (rows, rows) alone. This squares the singular values, which float32 has the digits for.
    """
    a, b, c = NEWTON_SCHULZ
    gram = x @ x.mT
    product: Tensor | None = None
    for step in range(steps):
        q = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        q.diagonal(dim1=1, dim2=2).add_(a)
        product = q if product is None else q @ product
        if step + 1 < steps:
            gram = q @ gram @ q
    return x if product is None else product @ x


class Muon(Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024). Convolution weights count as matrices (out, in * kh * kw).

    Weights of the same shape are orthogonalised in one batched product, which on a CPU is what makes it affordable.
    ``weight_decay`` is decoupled.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[len(parameter), parameter[0].numel()].append(parameter)
            for (rows, columns), parameters in by_shape.items():
                updates = orthogonalise(torch.stack([self._momentum(p, group).view(rows, columns) for p in parameters]))
                lr = group["lr"] * math.sqrt(max(1.0, rows / columns))
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.view_as(parameter).to(parameter.dtype), alpha=-lr)

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        gradient = parameter.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(state["momentum"], group["momentum"]).contiguous()  # Nesterov


def hidden_weights(module: nn.Module) -> list[Tensor]:
    """Weights of the linear and convolutional layers of ``module``: what Muon may update."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return [layer.weight for layer in module.modules() if isinstance(layer, layers) and layer.weight.requires_grad]


def make_optimizers(
    module: nn.Module, *, kind: str, lr: float, muon_lr: float, betas: tuple[float, float], weight_decay: float
) -> list[Optimizer]:
    """Return the optimisers for ``module``; ``kind``: ``"muon"`` (and AdamW for what is not hidden) or ``"adamw"``."""
    hidden = hidden_weights(module) if kind == "muon" else []
    taken = {id(p) for p in hidden}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
    optimizers: list[Optimizer] = []
    if hidden:
        optimizers.append(Muon(hidden, lr=muon_lr, weight_decay=weight_decay))
    if rest:
        optimizers.append(AdamW(rest, lr=lr, betas=betas, weight_decay=weight_decay, fused=True))
    return optimizers


def scheduled(step: int, steps: int, warmup: int, schedule: str) -> float:
    """Factor on the learning rate at ``step`` (from 0): linear warm-up, then ``"cosine"`` to 0 or ``"constant"``."""
    ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if schedule == "constant":
        return ramp
    return ramp * 0.5 * (1 + math.cos(math.pi * step / steps))
