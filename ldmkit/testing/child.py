"""A process beside this one, started afresh: what importing a part does shows there, and what works only here does not.

One process serves all suites, since starting one takes seconds of importing torch. It answers pickled questions on its
standard input, and hears by an audit hook which connections and files are opened meanwhile.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from unittest import SkipTest
from weakref import finalize

import torch

from ldmkit.registry.discovery import registry
from ldmkit.testing.process import changed, generators, settings

if TYPE_CHECKING:
    from ldmkit.testing.suite import Suite


@dataclass(frozen=True)
class Import:
    """What the import of a module changed or printed, its time in seconds of one core, and why it failed, if it did."""

    changed: list[str]
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class There:
    """What a suite found in the other process, which connections and files were opened, and what was raised, if so."""

    found: dict[str, Any]
    opened: list[str]
    error: str = ""


def child() -> Child:
    """The process for the parts that are installed now; it has imported the modules of all of them, in their order."""
    return _child(tuple(sys.path), tuple({part.target.partition(":")[0]: None for part, _ in registry().components()}))


@lru_cache(maxsize=1)
def _child(path: tuple[str, ...], modules: tuple[str, ...]) -> Child:
    started = Child()
    started.imports(modules)
    return started


class Child:
    """A fresh interpreter with this one's environment and path, but with another seed of hashes."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        self._imports: dict[str, Import] = {}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from ldmkit.testing.child import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"},
        )
        self.close = finalize(self, _end, self._process, self._stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def imports(self, modules: Sequence[str]) -> dict[str, Import]:
        """What each of ``modules`` did when it was first imported there."""
        if missing := [module for module in modules if module not in self._imports]:
            self._imports.update(self.ask(import_all, missing))
        return self._imports

    def takes_up(self, suite: Suite, directory: Path) -> There:
        """What ``suite`` finds there with what it left in ``directory``."""
        kind, own = kind_and_attributes(suite)
        found: There = self.ask(take_up, kind, own, directory, torch.get_num_threads())
        return found

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function``, which has to be importable, there; AssertionError with what it raised or how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((function, arguments), self._process.stdin)
            self._process.stdin.flush()
            answered, answer = pickle.load(self._process.stdout)
        except (EOFError, OSError) as error:
            self._stderr.seek(0)
            last = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            self.close()
            _child.cache_clear()
            raise AssertionError(f"expected another process to go on, but it ended: {last}") from error
        assert answered, f"in another process: {answer}"
        return answer


def _end(process: subprocess.Popen[bytes], stderr: Any) -> None:
    """Close its input, which ends it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait()
    stderr.close()


def kind_and_attributes(suite: Suite) -> tuple[str, dict[str, Any]]:
    """What makes a suite as ``suite`` elsewhere: its kind, and what the author's class says.

    SkipTest where that class has methods of its own: another process may not be able to import them.
    """
    from ldmkit.testing import SUITES

    classes = type(suite).__mro__
    authors = classes[: classes.index(SUITES[suite.kind])]
    own = {name: value for each in reversed(authors) for name, value in vars(each).items() if name[0] != "_"}
    methods = [name for name, value in own.items() if callable(value) or isinstance(value, classmethod | staticmethod)]
    if needed := [name for name in methods if not name.startswith("test_")]:
        raise SkipTest(f"the suite has methods of its own: {', '.join(needed)}")
    return suite.kind, {name: value for name, value in own.items() if name not in methods}


# What follows runs there.


def serve() -> None:
    """Answer until the input ends. What is printed meanwhile goes to the standard error, answers to the output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _temporary.append(os.path.realpath(tempfile.gettempdir()))  # which opens files itself at its first call
    sys.addaudithook(notice)
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply = (True, function(*arguments))
        except Exception as error:
            reply = (False, _one_line(error))
        answers.write(pickle.dumps(reply))
        answers.flush()


def import_all(modules: Sequence[str]) -> dict[str, Import]:
    """Import ``modules`` in their order; what each did."""
    return {module: _import(module) for module in modules}


def _import(module: str) -> Import:
    before, printed, start, error = {**settings(), **generators()}, StringIO(), time.process_time(), ""
    try:
        with redirect_stdout(printed):
            import_module(module)
    except Exception as raised:
        error = _one_line(raised)
    seconds = time.process_time() - start
    found = changed(before, {**settings(), **generators()}) + ["standard output"] * bool(printed.getvalue())
    return Import(found, seconds, error)


def take_up(kind: str, attributes: dict[str, Any], directory: Path, threads: int) -> There:
    """Make the suite of ``kind`` with ``attributes``; what it finds with ``directory``."""
    from ldmkit.testing import SUITES

    torch.set_num_threads(threads)
    _opened.clear()
    suite = type("Elsewhere", (SUITES[kind],), attributes)()
    try:
        found, error = suite.take_up(directory), ""
    except Exception as raised:
        found, error = {}, _one_line(raised)
    return There(found, list(dict.fromkeys(_opened)), error)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


_opened: list[str] = []
"""What :func:`notice` heard of since the last question."""

_temporary: list[str] = []
"""Where files may be written."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def notice(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: remember, and refuse, connections; remember files that are opened to be written."""
    if event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & _WRITING:
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((*_temporary, "/dev/")) and "__pycache__" not in path:
            _opened.append(f"writes {path}")
    address = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}.get(event)
    if address is not None and not (event == "socket.connect" and isinstance(arguments[1], str | bytes)):
        _opened.append(f"asks {arguments[address]}")
        raise OSError("the conformance kit allows no network")
