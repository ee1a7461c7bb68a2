"""Errors a user can cause and mend: one clear line each, with the exit code that scripts can rely on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LdmkitError(Exception):
    """What was asked, what there is, what to type. The command line prints it as one line, without a traceback."""

    exit_code = 1


class ConfigError(LdmkitError):
    """A name, key, type or combination in the configuration, or a wrong command line."""

    exit_code = 2


class DataError(LdmkitError):
    """Images, captions or labels that are missing or cannot be read."""

    exit_code = 3


class CheckpointError(LdmkitError):
    """A checkpoint or stored stage that is missing, damaged or belongs to something else."""

    exit_code = 4


class NumericError(LdmkitError):
    """A loss that is not finite."""

    exit_code = 5


class Interrupted(LdmkitError):  # noqa: N818 - it is no mistake
    """The user or the machine asked the run to stop; its state is saved.

    ``scheduler`` is the signal by which a scheduler asked, which has an answer to it and now waits for that.
    """

    exit_code = 130
    scheduler: int | None = None


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice that ``name`` was most likely meant to be, or None when nothing is near."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return found[0] if found else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'? There is: a, b, x"``, to be put behind the statement of what is wrong."""
    choices = sorted(choices)
    near = nearest(name, choices)
    hint = f"; did you mean '{near}'?" if near else "."
    return f"{hint} There is: {', '.join(choices) if choices else 'nothing'}"
