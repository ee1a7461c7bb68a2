"""docs/protocols.md is what the code says, and what the code promises to packages is what it was."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from ldmkit import reference
from ldmkit.registry.class_source import class_node
from ldmkit.registry.components import KINDS
from ldmkit.registry.discovery import registry
from ldmkit.registry.hooks import API_VERSION, PluginSpec, RunSpec
from ldmkit.testing import SUITES

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "protocols.md"

BUILT_WITH = {
    "model": ["channels"],
    "loss": ["image_numel", "latent_numel", "channels"],
    "cond": ["data"],
    "denoiser": ["latent", "cond"],
    "objective": [],
    "guidance": [],
    "sampler": [],
    "data": [],
    "metric": ["data"],
    "logger": [],
    "task": [],
}
"""Keyword arguments of parts, under plugin API 1."""

TO_WRITE = {
    "model": {"encode": ["images"], "decode": ["latents"]},
    "loss": {"forward": ["images", "reconstruction", "step", "last_layer"]},
    "cond": {"forward": ["fields", "latent_size"], "null": ["batch", "latent_size"]},
    "denoiser": {"forward": ["z", "t", "conditioning"]},
    "objective": {
        "levels": ["steps", "spacing"],
        "training_levels": ["random"],
        "denoiser_to_x0": ["raw", "z_t", "level"],
        "loss": ["denoiser", "z0", "conditioning", "random"],
    },
    "guidance": {"guide": ["denoise", "conditioning", "null"]},
    "sampler": {"sample": ["denoise", "z", "levels", "random", "on_step"]},
    "data": {"digest": [], "length": ["split"], "read": ["split", "indices"]},
    "metric": {"update": ["images", "references", "fields"], "compute": []},
    "logger": {},
    "task": {"run": ["run"]},
}
"""Methods that parts have to write, with their arguments, under plugin API 1."""

HOOKS = {
    "components": [],
    "on_start": ["config", "directory"],
    "on_stage": ["stage", "steps", "reused"],
    "on_step": ["stage", "step", "metrics"],
    "on_sample": ["stage", "step", "images", "captions", "path"],
    "on_metrics": ["section", "metrics"],
    "on_checkpoint": ["stage", "step", "path"],
    "on_end": ["error"],
}
"""Hooks with the arguments that an implementation may take, under plugin API 1; later ones may be added."""

BREAKS = "this breaks packages that are installed: raise API_VERSION, say so in CHANGELOG.md, and change this table"


def test_the_document_is_what_the_code_says() -> None:
    same = DOCUMENT.read_text(encoding="utf-8") == reference.page()
    assert same, "type: python -m ldmkit.reference > docs/protocols.md"


def test_every_kind_has_its_protocol_and_its_suite() -> None:
    assert list(reference.PROTOCOLS) == list(KINDS)
    assert {kind: suite for kind, (_, suite) in reference.PROTOCOLS.items()} == {
        kind: suite.__name__ for kind, suite in SUITES.items()
    }
    for kind, (target, _) in reference.PROTOCOLS.items():
        assert SUITES[kind].protocol.__name__ == target.partition(":")[2] or kind == "logger"


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_built_with_what_its_protocol_says(kind: str) -> None:
    component = next(part.name for part, _ in registry().components(kind))
    suite = type("Registered", (SUITES[kind],), {"component": component, "overrides": ["data=shapes"]})
    passed = set() if kind == "logger" else set(suite().runtime())
    assert set(reference.runtime(kind)) == passed


def test_the_number_of_the_plugin_api_is_that_of_these_tables() -> None:
    assert API_VERSION == 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_part_is_built_with_is_as_promised(kind: str) -> None:
    assert reference.runtime(kind) == BUILT_WITH[kind], BREAKS


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_part_has_to_write_is_as_promised(kind: str) -> None:
    node = class_node(reference.PROTOCOLS[kind][0])
    assert node is not None
    found = {
        line.name: [argument.arg for argument in line.args.args[1:]]
        for line in node.body
        if isinstance(line, ast.FunctionDef) and "abstractmethod" in map(ast.unparse, line.decorator_list)
    }
    assert found == TO_WRITE[kind], BREAKS


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_the_arguments_that_it_had(name: str) -> None:
    hook = getattr(PluginSpec if name == "components" else RunSpec, name)
    assert set(HOOKS[name]) <= set(inspect.signature(hook).parameters), BREAKS


def test_the_reference_names_every_hook() -> None:
    hooks = [name for spec in (PluginSpec, RunSpec) for name in vars(spec) if not name.startswith("_")]
    assert set(HOOKS) <= set(hooks)
    text = reference.page()
    assert [name for name in hooks if f"- `{name}(" not in text] == []
