"""``ldmkit check``: the conformance suite of one component, outside pytest, as a table."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from ldmkit.errors import ConfigError, LdmkitError, did_you_mean
from ldmkit.exits import Arguments
from ldmkit.registry.components import KINDS
from ldmkit.registry.discovery import registry

if TYPE_CHECKING:
    from ldmkit.testing import Suite


def main(argv: Sequence[str]) -> int:
    """Run the suite of one component and print what each check says; the exit code is 1 where one fails."""
    parser = Arguments(prog="ldmkit check", description="Run the conformance suite of a component, built small.")
    parser.add_argument("kind", help=", ".join(KINDS))
    parser.add_argument("name", help="an option, as 'ldmkit ls KIND' lists it")
    parser.add_argument("overrides", nargs="*", help="of the run that it is built for, such as cond.text.length=8")
    parser.add_argument("--json", action="store_true", help="for programs")
    asked = parser.parse_intermixed_args(argv)
    suite = _suite(asked.kind, asked.name, asked.overrides)
    rows, out = [], sys.stdout
    for status, name, why in _results(suite):
        rows.append({"status": status, "check": name, "why": why})
        if not asked.json:
            print(f"{status}  {name}{f'{chr(10)}        {why}' if why else ''}", file=out, flush=True)
    counts = Counter(row["status"] for row in rows)
    if asked.json:
        print(json.dumps({"kind": asked.kind, "component": asked.name, "checks": rows}, indent=2))
    else:
        print(f"{asked.kind}={asked.name}: {', '.join(f'{count} {status}' for status, count in counts.items())}")
    return int(counts["failed"] > 0)


def _suite(kind: str, name: str, overrides: Sequence[str]) -> type[Suite]:
    """The suite of ``kind`` for one option. Raises ConfigError where it cannot be composed, before any check runs."""
    if kind not in KINDS:
        raise ConfigError(f"there is no kind of part '{kind}'{did_you_mean(kind, KINDS)}")
    names = {option for group, option, _ in registry().options() if group == kind}
    if name not in names:
        raise ConfigError(f"{kind} has no option '{name}'{did_you_mean(name, names)}{registry().absent()}")

    from ldmkit.testing import SUITES

    suite: type[Suite] = type("Checked", (SUITES[kind],), {"component": name, "overrides": tuple(overrides)})
    try:
        with _quiet():
            suite().part()
    except LdmkitError:
        raise
    except Exception:  # a check tells of it
        return suite
    return suite


def _results(suite: type[Suite]) -> Iterator[tuple[str, str, str]]:
    """Yield status, check and why, keeping what parts print and log meanwhile out of the table."""
    from ldmkit.testing import check

    with _quiet():
        for name, status, why in check(suite):
            yield status, name.removeprefix("test_").replace("_", " "), why


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("ldmkit")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logger.setLevel(before)
