"""How an error ends a program: what is printed, and the exit code."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from ldmkit.errors import ConfigError, LdmkitError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

DEBUG = "LDMKIT_DEBUG"
"""Environment variable that asks for tracebacks; ``--debug`` sets it, so that jobs in other processes see it too."""


def report(error: BaseException) -> int:
    """Print ``error`` on stderr and return the exit code.

    An error that the user can mend, which a full disk also is, is one line, with a traceback only where that is asked
    for. Any other is a mistake of ours or of a plugin, and has its traceback always.
    """
    mendable = isinstance(error, LdmkitError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)
    if not mendable or os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    if mendable:
        print(f"ldmkit: {' '.join(str(error).split())}", file=sys.stderr)
    return error.exit_code if isinstance(error, LdmkitError) else 1


class Arguments(argparse.ArgumentParser):
    """The parser of a verb's arguments; a mistake in them is a ConfigError instead of an exit with the usage."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; unlike argparse's own, this raises OSError where it cannot be written."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with what argparse found, behind the verb."""
        verb = self.prog.removeprefix("ldmkit ")
        if message.startswith("argument "):
            raise ConfigError(f"{verb}: {message.removeprefix('argument ').replace(': takes ', ' takes ', 1)}")
        raise ConfigError(f"{verb}: {message}; '{self.prog} --help' lists what there is")
