"""What a part's code is, as a digest that stays the same when comments, docstrings and layout change.

    code_digest("package.module:Class")     of a part: its module, and what that imports of its own package
    package_digest(folder)                  of a whole package

Read from the source, without importing it. Results of stages are filed under the first, so that a new part in a family,
or a better docstring, trains nothing anew.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def code_digest(target: str) -> str:
    """sha256 over the module of ``"package.module:Class"`` and all that it imports, directly or not, of its package.

    Imports within functions count too; what is imported by a computed name does not. A module that is not Python
    source counts by its name. Read once in a process, as the code itself is: an edit under a run that goes on for
    hours is none of its code.
    """
    module = target.partition(":")[0]
    pending, found = [module], {module: ""}
    while pending:
        module = pending.pop()
        path = _file(module)
        if path is not None:
            found[module], imported = _read(module, path, path.stat().st_mtime_ns)
            pending += [name for name in imported if name not in found]
    return _combined(found)


def package_digest(place: Path | None) -> str:
    """sha256 over the Python files of the package in the folder ``place``, its tests aside, or over that one file."""
    if place is None or place.is_file():
        return _combined({place.name: _digest(_tree(place), place)} if place is not None else {})
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*.py")}
    digests = {name: _digest(_tree(path), path) for name, path in files.items() if not name.startswith("tests/")}
    return _combined(digests)


def _combined(digests: dict[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{name} {digests[name]}" for name in sorted(digests)).encode()).hexdigest()


@cache
def _read(module: str, path: Path, modified: int) -> tuple[str, tuple[str, ...]]:
    """The digest of a module as it was when ``modified``, and what it imports of its own top-level package."""
    tree = _tree(path)
    return _digest(tree, path), tuple(_imported(module, path, tree)) if tree is not None else ()


def _tree(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return None


def _digest(tree: ast.Module | None, path: Path) -> str:
    """Of what the source says; of its bytes where it is no Python."""
    said = "\0".join(_words(tree)).encode(errors="surrogatepass") if tree is not None else path.read_bytes()
    return hashlib.sha256(said).hexdigest()


def _words(node: object) -> Iterator[str]:
    """The syntax tree as words; unlike those of ``ast.dump``, they are the same in every version of Python.

    What is absent has no word: fields that later versions added are then as if they were not there.
    """
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for name in node._fields:
            value: Any = getattr(node, name, None)
            if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            if name != "ctx" and value is not None and value != []:
                yield name
                yield from _words(value)
        yield ")"
    elif isinstance(node, list):
        for each in node:
            yield from _words(each)
        yield "]"
    else:
        yield repr(node)


def _imported(module: str, path: Path, tree: ast.Module) -> Iterator[str]:
    steps = module.split(".")
    package = steps if path.stem == "__init__" else steps[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == steps[0])
        elif isinstance(node, ast.ImportFrom):
            around = package[: len(package) - node.level + 1] if node.level else []
            source = [*around, *(node.module.split(".") if node.module else [])]
            if source[:1] == steps[:1]:
                below = [".".join([*source, alias.name]) for alias in node.names]
                modules = [name for name in below if _file(name) is not None]
                yield from modules if len(modules) == len(below) else [".".join(source), *modules]


def _file(module: str) -> Path | None:
    """The source of ``module``, found without importing the packages around it."""
    top, *steps = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not steps or spec.submodule_search_locations is None:
        return Path(spec.origin) if not steps and spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations:
        for place in (Path(folder, *steps).with_suffix(".py"), Path(folder, *steps, "__init__.py")):
            if place.is_file():
                return place
    return None
