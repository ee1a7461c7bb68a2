"""What parts leave as they found it: generators of random numbers, and settings of the whole process."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib import import_module
from io import StringIO
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


@cache
def changed_by_import(modules: Sequence[str]) -> dict[str, list[str]]:
    """For each of ``modules``, imported in this order in a fresh interpreter: what its import changed or printed."""
    program = "import sys; from ldmkit.testing.process import report_imports; report_imports(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, *modules],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, f"importing {', '.join(modules)} in a fresh interpreter failed: {done.stderr}"
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def report_imports(modules: Sequence[str]) -> None:
    """Print what :func:`changed_by_import` returns, as JSON."""
    found = {}
    for module in modules:
        before, printed = {**settings(), **generators()}, StringIO()
        with redirect_stdout(printed):
            import_module(module)
        found[module] = changed(before, {**settings(), **generators()}) + ["standard output"] * bool(printed.getvalue())
    print(json.dumps(found))
