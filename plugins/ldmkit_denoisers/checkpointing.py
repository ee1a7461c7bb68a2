"""Gradient checkpointing: less memory for more work (Chen et al. 2016, "... with sublinear memory cost")."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run(block: nn.Module, *inputs: Any, checkpointing: bool) -> Any:
    """``block(*inputs)``; with ``checkpointing``, what its backward needs is computed again there and not kept."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
