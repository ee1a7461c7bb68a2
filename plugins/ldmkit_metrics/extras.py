"""Packages that only some metrics need: what ``pip install 'ldmkit[metrics]'`` brings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

from ldmkit.errors import ConfigError
from ldmkit.torchvision_operators import declare_torchvision_operators

_declare_once = cache(declare_torchvision_operators)


def need(package: str, for_what: str) -> None:
    """Raise ConfigError where ``package`` is not installed; does not import it.

    ``for_what`` begins the message: ``"metric 'fid'"``.
    """
    if find_spec(package) is None:
        raise ConfigError(
            f"{for_what} needs the package {package}; type pip install 'ldmkit[metrics]', or leave it out"
        )


@contextmanager
def importing() -> Iterator[None]:
    """Within, what imports torchvision can be imported, beside any torch and without its warnings.

    lpips and torch-fidelity do, and so does torchmetrics where torch-fidelity is installed.
    """
    _declare_once()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about image codecs, which nobody asks for
        yield
