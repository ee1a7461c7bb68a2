"""The shape of the project, kept by machine: directions of imports, what is light, and YAML beside its dataclass."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp
import networkx
import pytest
import yaml

import ldmkit
from ldmkit.registry.components import KINDS, MULTIPLE
from ldmkit.registry.config import RunConfig
from ldmkit.registry.discovery import discover, kernel_conf, registry
from ldmkit.registry.schema import field_types

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = [
    pytest.param(group, option, plugin.config_dir / group / f"{option}.yaml", id=f"{group}-{option}")
    for group, option, plugin in registry().options()
    if plugin.distribution == "ldmkit" and plugin.config_dir is not None
]
SCALES = [pytest.param(path, id=path.stem) for path in sorted((kernel_conf() / "scale").glob("*.yaml"))]

# Imports


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("ldmkit", exclude_type_checking_imports=True)


def test_no_modules_of_the_kernel_import_each_other_in_a_ring(graph: grimp.ImportGraph) -> None:
    edges = [(name, found) for name in graph.modules for found in graph.find_modules_directly_imported_by(name)]
    rings = [ring for ring in networkx.strongly_connected_components(networkx.DiGraph(edges)) if len(ring) > 1]
    assert rings == []


def test_the_contracts_of_imports_hold() -> None:
    command = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    checked = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_plugin_of_the_repository_is_under_the_contracts() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    folders = {path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").is_file()}
    assert set(settings["root_packages"]) == {"ldmkit", *folders}
    by_id = {contract["id"]: contract for contract in settings["contracts"]}
    assert set(by_id["kernel"]["forbidden_modules"]) == folders
    assert set(by_id["plugins"]["modules"]) == folders
    assert set(by_id["parts"]["source_modules"]) == folders


# What is light


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        ("[]", {"torch", "hydra", "omegaconf", "numpy", "pluggy"}),
        ("['--version']", {"torch", "hydra", "omegaconf", "numpy", "pluggy"}),
        ("['plugins']", {"torch", "hydra", "omegaconf", "numpy"}),
        ("['ls']", {"torch", "hydra", "omegaconf", "numpy"}),
        ("['show', 'denoiser', 'unet']", {"torch", "hydra", "omegaconf", "numpy"}),
        ("['runs']", {"torch", "hydra", "omegaconf", "numpy"}),
        ("['run', '--help']", {"torch"}),
        ("['run', '--cfg', 'job', 'cond=[text,class]']", {"torch"}),
    ],
)
def test_what_only_tells_imports_nothing_heavy(arguments: str, forbidden: set[str]) -> None:
    code = f"import sys; from ldmkit.cli import main; main({arguments}); print('\\n::', *sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert forbidden & set(done.stdout.rpartition("::")[2].split()) == set()


def test_importing_ldmkit_imports_no_other_package() -> None:
    code = "import sys; before = set(sys.modules); import ldmkit; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} <= {"ldmkit", *sys.stdlib_module_names}


def test_finding_the_plugins_imports_none_of_their_parts() -> None:
    code = (
        "import sys; from ldmkit.registry.discovery import registry\n"
        "targets = {part.target.partition(':')[0] for part, _ in registry().components()}\n"
        "assert targets; print(*(targets & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# Names


def test_all_is_sorted_and_every_name_of_it_is_there() -> None:
    assert list(ldmkit.__all__) == sorted(ldmkit.__all__)
    assert len(set(ldmkit.__all__)) == len(ldmkit.__all__)
    missing = [name for name in ldmkit.__all__ if getattr(ldmkit, name, None) is None]
    assert missing == []


def test_nothing_public_is_left_out_of_all() -> None:
    assert set(ldmkit._HOMES) | {"__version__"} == set(ldmkit.__all__)


def test_a_submodule_never_hides_the_function_of_its_name() -> None:
    code = "import ldmkit, ldmkit.run, ldmkit.models; print(callable(ldmkit.build), callable(ldmkit.load))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ldmkit' has no attribute 'compoze'"):
        _ = ldmkit.compoze


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ldmkit.__version__ == importlib.metadata.version("ldmkit") == project["version"]


def test_kinds_are_frozen() -> None:
    assert list(KINDS) == [
        "model",
        "loss",
        "cond",
        "denoiser",
        "objective",
        "guidance",
        "sampler",
        "data",
        "metric",
        "logger",
        "task",
    ]
    assert set(KINDS) >= MULTIPLE


def test_groups_are_the_kinds_two_of_the_kernels_and_hydras_own() -> None:
    groups = {group for group, _, _ in registry().options()}
    kernel = {path.name for path in kernel_conf().iterdir() if path.is_dir()}
    assert groups <= set(KINDS)
    assert kernel <= {"scale", "experiment", "hydra"}
    assert [path.name for path in (kernel_conf() / "hydra").iterdir()] == ["launcher"]


def test_the_installed_entry_points_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {
        entry.name: entry.value
        for entry in importlib.metadata.distribution("ldmkit").entry_points
        if entry.group == "ldmkit"
    }
    assert installed == project["entry-points"]["ldmkit"], "type: pip install -e ."


def test_every_plugin_folder_has_its_entry_point() -> None:
    folders = {path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").is_file()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["entry-points"]["ldmkit"].values()) == folders


def test_no_python_file_lies_in_a_conf_folder() -> None:
    places = [ROOT / "conf", *(ROOT / "plugins").glob("*/conf")]
    assert [path for place in places for path in place.rglob("*.py")] == []


# Names of parts

FIELD = {
    "class",
    "first-stage",
    "image",
    "lpips",
    "none",
    "prompt",
    "scalar",
    "semantic",
    "size",
    "text",
    "train",
    "x0",
}
"""Words of the field that are names of parts too: kinds and names of fields, a split, a stage, a package, a network."""

EXAMPLES = {"cli.py", "models.py", "registry/overrides.py", "runs.py"}
"""Modules whose messages show a choice such as model=kl-f8, as something to type."""


def kernel_texts() -> Iterator[tuple[str, str]]:
    """Yield each text in the kernel's code, with its module: not what documents it."""
    for path in sorted((ROOT / "ldmkit").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                yield path.relative_to(ROOT / "ldmkit").as_posix(), node.value


def names_of_parts() -> set[str]:
    own = [plugin for plugin in registry().plugins if plugin.distribution == "ldmkit"]
    parts = {part.name for plugin in own for part in plugin.components}
    return parts | {option for _, option, plugin in registry().options() if plugin in own}


def test_the_kernel_knows_no_part_by_its_name() -> None:
    names = names_of_parts()
    assert names >= FIELD
    assert [(module, text) for module, text in kernel_texts() if text in names - FIELD] == []


def test_the_kernel_chooses_no_part() -> None:
    names = "|".join(sorted(map(re.escape, names_of_parts()), key=len, reverse=True))
    choice = re.compile(rf"\b(?:{'|'.join(KINDS)})=\[?(?:{names})(?![\w-])")
    found = [(module, chosen[0]) for module, text in kernel_texts() if (chosen := choice.search(text))]
    assert [(module, chosen) for module, chosen in found if module not in EXAMPLES] == []
    assert {module for module, _ in found} == EXAMPLES


# Options


def keys_of(text: str) -> list[str]:
    """The top-level keys of a YAML text, in their order."""
    return re.findall(r"^([A-Za-z_]\w*):", text, re.MULTILINE)


def test_plugins_load_without_failures_or_clashes() -> None:
    assert [plugin for plugin in discover().plugins if plugin.distribution == "ldmkit" and plugin.error] == []
    assert registry().clashes() == []


@pytest.mark.parametrize(("group", "option", "path"), OPTIONS)
def test_an_option_has_exactly_the_keys_of_its_dataclass_in_order(group: str, option: str, path: Path) -> None:
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    part = registry().part(group, node["name"])
    assert list(node) == list(field_types(part.Config))
    assert next(iter(node)) == "name"


@pytest.mark.parametrize(("group", "option", "path"), OPTIONS)
def test_an_option_says_what_every_key_means(group: str, option: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if re.match(r"\s*[A-Za-z_]\w*:", line) and not line.startswith("name:")]
    assert [line for line in lines if " # " not in line and not line.rstrip().endswith(":")] == []
    package = re.findall(r"^# @package (.+)$", text, re.MULTILINE)
    assert package == ([f"{group}.{option}"] if group in MULTIPLE else [])
    assert re.search(r"^(# (?!@package)|name: .* # )\S", text, re.MULTILINE), "a line that says what the option is"


@pytest.mark.parametrize(("group", "option", "path"), OPTIONS)
def test_an_option_names_no_python(group: str, option: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "_target_" not in text
    assert "oc.env" not in text


def test_every_registered_part_has_an_option() -> None:
    named = {
        (group, yaml.safe_load((plugin.config_dir / group / f"{option}.yaml").read_text())["name"])
        for group, option, plugin in registry().options()
        if plugin.config_dir is not None
    }
    assert {(part.kind, part.name) for part, _ in registry().components()} - named == set()


def test_configs_are_frozen_dataclasses_without_defaults() -> None:
    for component, _ in registry().components():
        config: Any = registry().part(component.kind, component.name).Config
        assert config.__dataclass_params__.frozen, component
        fields = dataclasses.fields(config)
        unset = [f for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
        assert unset == list(fields), component


def test_the_runs_own_keys_are_those_of_its_dataclass_in_order() -> None:
    node = yaml.safe_load((kernel_conf() / "config.yaml").read_text(encoding="utf-8"))
    own = [key for key in node if key not in {*KINDS, "defaults", "hydra"}]
    assert own == list(field_types(RunConfig))

    def compare(config_class: Any, inner: dict[str, Any]) -> None:
        for name, kind in field_types(config_class).items():
            if dataclasses.is_dataclass(kind):
                assert list(inner[name]) == list(field_types(kind)), name
                compare(kind, inner[name])

    compare(RunConfig, node)


def test_the_runs_own_keys_say_what_they_mean() -> None:
    text = (kernel_conf() / "config.yaml").read_text(encoding="utf-8").partition("seed:")[2].partition("hydra:")[0]
    lines = [line for line in text.splitlines() if re.match(r"\s*\w+: .", line) and not re.fullmatch(r"\w+: {}", line)]
    assert lines
    assert [line for line in lines if " # " not in line] == []


@pytest.mark.parametrize("path", SCALES)
def test_every_scale_has_the_same_keys(path: Path) -> None:
    def shape(node: Any) -> Any:
        return {key: shape(value) for key, value in node.items()} if isinstance(node, dict) else None

    scale, demo = (yaml.safe_load(place.read_text()) for place in (path, path.with_name("demo.yaml")))
    assert scale["name"] == path.stem
    assert shape(scale) == shape(demo)
