"""Packages that only some metrics need: what ``pip install 'ldmkit[metrics]'`` brings."""

from __future__ import annotations

from importlib.util import find_spec

from ldmkit.errors import ConfigError


def need(package: str, for_what: str) -> None:
    """Raise ConfigError where ``package`` is not installed; does not import it.

    ``for_what`` begins the message: ``"metric 'fid'"``.
    """
    if find_spec(package) is None:
        raise ConfigError(
            f"{for_what} needs the package {package}; type pip install 'ldmkit[metrics]', or leave it out"
        )
