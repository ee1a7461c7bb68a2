"""How an error is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Norm = Literal["l1", "l2", "huber"]
Distance = Callable[[Tensor, Tensor], Tensor]

ELEMENTWISE: dict[str, Callable[..., Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss, "huber": F.huber_loss}


def distance(norm: Norm) -> Distance:
    """Return ``(prediction, target) -> mean over all axes but the first``, in float32 or better: (B,).

    ``norm`` is ``"l2"`` (squared error), ``"l1"`` (absolute error) or ``"huber"`` (half the squared error up to 1, from
    there on the absolute error less a half; Huber 1964).
    """
    elementwise = ELEMENTWISE[norm]

    def of_rows(prediction: Tensor, target: Tensor) -> Tensor:
        exact = torch.promote_types(target.dtype, torch.float32)
        return elementwise(prediction.to(exact), target.to(exact), reduction="none").flatten(1).mean(1)

    return of_rows
