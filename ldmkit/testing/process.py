"""What parts leave as they found it: generators of random numbers, and settings of the whole process."""

from __future__ import annotations

import logging
import os
import random
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def generators() -> dict[str, Any]:
    """State of the global generators, which anything that draws from them changes."""
    numpy: Any = np.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (numpy["state"]["key"].tobytes(), numpy["state"]["pos"], numpy["has_gauss"]),
        "random": random.getstate(),
    }


def settings() -> dict[str, Any]:
    """Settings of this process that belong to its user and to no part."""
    root = logging.getLogger()
    return {
        "signal handlers": {int(number): repr(signal.getsignal(number)) for number in signal.valid_signals()},
        "warnings filters": [repr(each) for each in warnings.filters],
        "root logger": [root.level, root.manager.disable, *map(repr, root.handlers)],
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's threads": torch.get_num_threads(),
        "torch.cuda": torch.cuda.is_initialized(),
        "environment variables": dict(os.environ),
        "working directory": os.getcwd(),  # noqa: PTH109 - the text is all that is compared
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of what is not as it was."""
    return [name for name in before if before[name] != after[name]]


@contextmanager
def untouched(*, during: str) -> Iterator[None]:
    """Raise AssertionError when global random numbers were drawn, or settings changed, within."""
    numbers, chosen = generators(), settings()
    yield
    drawn, set_anew = changed(numbers, generators()), changed(chosen, settings())
    assert not drawn, f"{during} drew from the global generator of {', '.join(drawn)}; expected RowRandom alone"
    assert not set_anew, f"{during} changed {', '.join(set_anew)}; expected all to be left as it was"
