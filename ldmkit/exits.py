"""How an error ends a program: what is printed, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback

from ldmkit.errors import LdmkitError

DEBUG = "LDMKIT_DEBUG"
"""Environment variable that asks for tracebacks; ``--debug`` sets it, so that jobs in other processes see it too."""


def report(error: BaseException) -> int:
    """Print ``error`` on stderr and return the exit code.

    An error that the user can mend is one line, with a traceback only where that is asked for. Any other is a mistake
    of ours or of a plugin, and has its traceback always.
    """
    if not isinstance(error, LdmkitError) or os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    if isinstance(error, LdmkitError):
        print(f"ldmkit: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 1
