"""Gradient checkpointing: less memory for more work (Chen et al. 2016, "... with sublinear memory cost")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def run(block: Callable[..., Any], *inputs: Any, checkpointing: bool) -> Any:
    """``block(*inputs)``; with ``checkpointing``, what its backward pass needs is not kept but computed again there.

    Random numbers are the same again.
    """
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
