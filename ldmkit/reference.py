"""The reference of the protocols, made from their source: what a part of each kind has to be.

    python -m ldmkit.reference > docs/protocols.md

Nothing is imported to read it, so that `ldmkit new` can put a protocol into a package's README at once.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ldmkit.registry.class_source import class_node, docstring, tree
from ldmkit.registry.components import KINDS, MULTIPLE

PROTOCOLS = {
    "model": ("ldmkit.protocols:FirstStage", "FirstStageSuite"),
    "loss": ("ldmkit.protocols:FirstStageLoss", "LossSuite"),
    "cond": ("ldmkit.protocols:Conditioner", "ConditionerSuite"),
    "denoiser": ("ldmkit.protocols:Denoiser", "DenoiserSuite"),
    "objective": ("ldmkit.protocols:Objective", "ObjectiveSuite"),
    "guidance": ("ldmkit.protocols:Guidance", "GuidanceSuite"),
    "sampler": ("ldmkit.protocols:Sampler", "SamplerSuite"),
    "data": ("ldmkit.protocols:DataSource", "DataSourceSuite"),
    "metric": ("ldmkit.protocols:Metric", "MetricSuite"),
    "logger": ("ldmkit.registry.hooks:RunSpec", "LoggerSuite"),
    "task": ("ldmkit.run:Task", "TaskSuite"),
}
"""Of each kind, the class that says what a part of it is, and the suite of ``ldmkit.testing`` that checks it."""

OTHERS = {
    "What parts are besides": [
        *(f"ldmkit.protocols:{name}" for name in ("Adversary", "ConditionalDenoise", "DenoiseWithVariance")),
        "ldmkit.run:Run",
    ],
    "What parts say about themselves": [
        f"ldmkit.specs:{name}" for name in ("LatentSpec", "Reach", "CondSpec", "OptimizerSpec", "FieldSpec", "DataSpec")
    ],
    "What parts hand to each other": [
        *(f"ldmkit.values:{name}" for name in ("Batch", "Posterior", "Reconstruction", "Conditioning", "Levels")),
        "ldmkit.artifacts.random:RowRandom",
    ],
}
"""Classes that the protocols name, by heading."""

ALIASED = ("ldmkit.protocols", "ldmkit.specs", "ldmkit.values")

_HEAD = """# The protocols

Made from the docstrings and signatures in the code by `python -m ldmkit.reference > docs/protocols.md`; a test compares
the two. `ldmkit new KIND NAME` puts that of one kind into a package's README.

Shapes: `B` batch, `C` channels, `H W` pixels, `h w` latent grid, `M` tokens, `D` token width, `E` vector width, `K` map
channels, `T` steps. [plugins.md](plugins.md) makes a part from nothing; [testing.md](testing.md) is about the suites.

A part is built as `Part(config, **runtime)`: `config` is an instance of its nested frozen dataclass `Config`, made from
the option file and checked key by key; `runtime` is named below for each kind and is what only other parts know.
"""


@dataclass(frozen=True)
class Method:
    """One method of a class: its ``signature`` without self, what it does, and whether it is a part's to ``write``."""

    signature: str
    says: str
    write: bool


def page() -> str:
    """The whole reference, as Markdown."""
    return "\n".join(["\n\n".join([_HEAD.rstrip(), *_sections()]), ""])


def _sections() -> Iterator[str]:
    for kind, meaning in KINDS.items():
        target, suite = PROTOCOLS[kind]
        module, _, name = target.partition(":")
        several = "; a run takes any number of them" if kind in MULTIPLE else ""
        arguments = ", ".join(["config", *(["*"] if runtime(kind) else []), *runtime(kind)])
        yield f"## {kind}: `{name}`"
        yield f"{meaning[0].upper()}{meaning[1:]}{several}."
        yield (
            f"`{module}.{name}`, built as `Part({arguments})`. Entry points of the group `ldmkit.{kind}`; "
            f"`ldmkit.testing.{suite}` checks it."
        )
        yield protocol(kind)
    yield "## What a package of several parts implements"
    yield describe("ldmkit.registry.hooks:PluginSpec")
    for heading, targets in OTHERS.items():
        yield f"## {heading}"
        for target in targets:
            yield f"### `{target.partition(':')[2]}`"
            yield describe(target)
    yield "## Types by another name"
    yield "\n".join(f"- `{line}`: {_indented(_markdown(says))}" for line, says in _aliases())


def protocol(kind: str) -> str:
    """What a part of ``kind`` has to be, as Markdown without a heading."""
    return describe(PROTOCOLS[kind][0])


def describe(target: str) -> str:
    """The docstring, the attributes and the public methods of the class ``package.module:Class``, as Markdown."""
    node = class_node(target)
    if node is None:
        raise LookupError(f"there is no source of {target}")
    own = methods(node)
    lists = {
        "To write:": [method for method in own if method.write],
        "With a default:": [method for method in own if not method.write],
    }
    if not lists["To write:"]:
        lists = {"": own}
    parts = [_markdown(docstring(target)), "\n".join(f"- `{line}`" for line in attributes(node))]
    for heading, each in lists.items():
        lines = [f"- `{method.signature}`: {_indented(_markdown(method.says))}" for method in each]
        parts += [heading, "\n".join(lines)] if lines else []
    return "\n\n".join(part for part in parts if part)


def runtime(kind: str) -> list[str]:
    """Names of the keyword arguments with which the kernel builds a part of ``kind``, from its protocol's docstring."""
    said = re.search(r"Built with (.*?)\.(?:\s|$)", docstring(PROTOCOLS[kind][0]), re.DOTALL)
    return re.findall(r"``(\w+)``", said[1]) if said else []


def attributes(node: ast.ClassDef) -> list[str]:
    """The public annotated attributes and the properties of a class, as its source has them."""
    annotated = [
        ast.unparse(line)
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and not line.target.id.startswith("_")
    ]
    properties = [each for each in _functions(node) if _is_property(each)]
    return annotated + [f"{each.name}: {ast.unparse(each.returns)}" for each in properties if each.returns is not None]


def methods(node: ast.ClassDef) -> list[Method]:
    """The public methods of a class, as its source has them."""
    return [
        Method(_signature(each), _first_paragraph(each), write="abstractmethod" in _marks(each))
        for each in _functions(node)
        if not _is_property(each)
    ]


def _functions(node: ast.ClassDef) -> list[ast.FunctionDef]:
    found = [line for line in node.body if isinstance(line, ast.FunctionDef)]
    return [each for each in found if not each.name.startswith("_") or each.name == "__call__"]


def _marks(function: ast.FunctionDef) -> set[str]:
    return {ast.unparse(decorator) for decorator in function.decorator_list}


def _is_property(function: ast.FunctionDef) -> bool:
    return bool(_marks(function) & {"property", "cached_property"})


def _signature(function: ast.FunctionDef) -> str:
    arguments = function.args
    if "staticmethod" not in _marks(function):
        arguments = ast.arguments(**{**vars(arguments), "args": arguments.args[1:]})
    result = f" -> {ast.unparse(function.returns)}" if function.returns is not None else ""
    return f"{function.name}({ast.unparse(arguments)}){result}"


def _first_paragraph(function: ast.FunctionDef) -> str:
    return inspect.cleandoc(ast.get_docstring(function) or "").partition("\n\n")[0]


def _aliases() -> Iterator[tuple[str, str]]:
    """The types of ``ALIASED`` modules that have a name and a docstring of their own."""
    for module in ALIASED:
        lines = tree(module).body
        for line, below in pairwise(lines):
            if isinstance(line, ast.Assign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                yield ast.unparse(line), inspect.cleandoc(str(below.value.value))


def _markdown(text: str) -> str:
    """Markdown for what a docstring marks up: ``code``, and roles such as :class:`~package.Class`."""
    text = re.sub(r":\w+:`~[\w.]*?(\w+)`", r"`\1`", text)
    text = re.sub(r":\w+:`([\w.]+)`", r"`\1`", text)
    return text.replace("``", "`")


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


if __name__ == "__main__":
    print(page(), end="")
