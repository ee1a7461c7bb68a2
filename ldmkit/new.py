"""``ldmkit new KIND NAME``: a package with a working part of any kind, to begin one's own from.

What is written are the files of ``templates/``, filled in; one of each is the same for all kinds. Imports no torch.
"""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.exits import Arguments
from ldmkit.reference import PROTOCOLS, protocol, runtime
from ldmkit.registry.components import KINDS
from ldmkit.registry.discovery import registry

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


def main(argv: Sequence[str]) -> int:
    """Write the package and say what to type next."""
    parser = Arguments(prog="ldmkit new", description="Begin a package with a part of your own, which works.")
    parser.add_argument("kind", help=", ".join(KINDS))
    parser.add_argument("name", help="of the part, as in cond=NAME; the package is called ldmkit-NAME")
    parser.add_argument(
        "--dir", type=Path, default=Path(), help="where the folder of the package is put; default: here"
    )
    asked = parser.parse_args(argv)
    words = placeholders(asked.kind, asked.name)
    texts = package(asked.kind, words)
    _check_free(asked.kind, asked.name, words["package"])
    folder = asked.dir / words["distribution"]
    _write(folder, texts)
    print("\n".join([*(str(folder / path) for path in texts), "", "Next:", "", *_next(folder, words)]))
    return 0


def placeholders(kind: str, name: str) -> dict[str, str]:
    """What stands in a package of ``kind`` and ``name`` for each ``$word`` of the templates but ``summary``.

    Raises ConfigError for an unknown kind and for what cannot be a name.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no kind of part '{kind}'{did_you_mean(kind, KINDS)}")
    class_name = "".join(word.capitalize() for word in re.split("[-_]", name))
    if not _NAME.fullmatch(name) or keyword.iskeyword(class_name):
        raise ConfigError(
            f"'{name}' cannot be the name of a part; take small letters, digits and hyphens, a letter first: my-{kind}"
        )
    target, suite = PROTOCOLS[kind]
    full_name = f"`{target.replace(':', '.')}`"
    module = name.replace("-", "_")
    return {
        "kind": kind,
        "name": name,
        "module": module,
        "package": f"ldmkit_{module}",
        "distribution": f"ldmkit-{module.replace('_', '-')}",
        "class_name": class_name,
        "suite": suite,
        "arguments": ", ".join(["config", *(f"{word}=..." for word in runtime(kind))]),
        "protocol": f"any class with hooks of {full_name}" if kind == "logger" else f"a {full_name}",
        "reference": protocol(kind),
        "run": f"ldmkit run {kind}={name}",
        "range": _versions(),
    }


def _versions() -> str:
    """The versions of ldmkit that a part of today works with by our promise: ``>=0.1,<0.2``."""
    major, minor = map(int, version("ldmkit").split(".")[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"


def package(kind: str, words: Mapping[str, str]) -> dict[str, str]:
    """The texts of a package's files by their path in it.

    Raises ConfigError where the part's class would be called as something else in its module is.
    """
    module = _filled(f"part/{kind}.py", words)
    tree = ast.parse(module)
    imported = {alias.name for line in tree.body if isinstance(line, ast.ImportFrom) for alias in line.names}
    if words["class_name"] in imported:
        taken = words["class_name"]
        raise ConfigError(f"'{words['name']}' would make a class {taken}, which ldmkit has; add a word to it")
    words = {**words, "summary": (ast.get_docstring(tree) or "").rstrip(".")}
    folder = words["package"]
    return {
        "pyproject.toml": _filled("pyproject.toml", words),
        "README.md": _filled("README.md", words),
        f"{folder}/__init__.py": module,
        f"{folder}/conf/{kind}/{words['name']}.yaml": _filled(f"option/{kind}.yaml", words),
        f"tests/test_{words['module']}.py": _filled("test.py", words),
    }


def _filled(template: str, words: Mapping[str, str]) -> str:
    text = (files("ldmkit") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _check_free(kind: str, name: str, package: str) -> None:
    """Raise ConfigError where what is to be made would clash with something installed."""
    owners = [plugin for component, plugin in registry().components(kind) if component.name == name]
    if taken := [*owners, *registry().option_owners(kind, name)]:
        raise ConfigError(f"there is a {kind} '{name}' already, of {taken[0].label}; choose another name")
    if importlib.util.find_spec(package) is not None:
        raise ConfigError(f"there is a package {package} already; choose another name")


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True)
        for path, text in texts.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise ConfigError(f"'{folder}' is there already, and stays as it is; name another place: --dir") from None
    except OSError as error:
        raise ConfigError(f"cannot write '{folder}': {error.strerror}; name another place: --dir") from error


def _next(folder: Path, words: Mapping[str, str]) -> list[str]:
    place = shlex.quote(str(folder))
    lines = {
        f"pip install -e {place}": "",
        "ldmkit plugins": "it is there",
        f"ldmkit show {words['kind']} {words['name']}": "its keys",
        f"pytest {place}": f"what every {words['kind']} must do",
        f"{words['run']} scale=smoke": "a whole run with it",
    }
    width = max(map(len, lines))
    return [f"  {line.ljust(width)}  {what}".rstrip() for line, what in lines.items()]
