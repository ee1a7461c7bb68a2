"""What a class says about itself, read from its source: nothing is imported."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from functools import cache
from pathlib import Path


@cache
def tree(module: str) -> ast.Module:
    """Return the source of ``module``, parsed; empty where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # the package around it fails at import; `ldmkit plugins` says why
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ast.Module(body=[], type_ignores=[])
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8", errors="replace"))


def class_node(target: str) -> ast.ClassDef | None:
    """Return the class ``package.module:Class`` as its source has it; None where there is no such source."""
    module, _, qualname = target.partition(":")
    node: ast.AST = tree(module)
    for step in qualname.split("."):
        inner = [
            child for child in ast.iter_child_nodes(node) if isinstance(child, ast.ClassDef) and child.name == step
        ]
        if not inner:
            return None
        node = inner[0]
    return node if isinstance(node, ast.ClassDef) else None


def docstring(target: str) -> str:
    """Return the docstring of the class ``package.module:Class``; "" where there is none."""
    node = class_node(target)
    return inspect.cleandoc(ast.get_docstring(node) or "") if node is not None else ""
