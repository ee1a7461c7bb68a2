"""What the package announces is there, and light to look at."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import ldmkit_loggers
import pytest
from omegaconf import OmegaConf

from ldmkit.registry.components import Component

CONF = Path(ldmkit_loggers.__file__).parent / "conf"


@pytest.mark.parametrize("component", ldmkit_loggers.components(), ids=lambda component: component.name)
def test_an_option_file_has_the_keys_of_its_config_in_order(component: Component) -> None:
    module, _, name = component.target.partition(":")
    part = getattr(import_module(module), name)
    option = CONF / component.kind / f"{component.name}.yaml"
    assert option.read_text("utf-8").startswith(f"# @package logger.{component.name}\n")
    values = OmegaConf.load(option)
    assert list(values) == [field.name for field in fields(part.Config)]
    assert values.name == component.name


@pytest.mark.parametrize(
    ("look", "absent"),
    [
        ("import ldmkit_loggers as m; m.components()", "tqdm"),
        ("import ldmkit_loggers.console, ldmkit_loggers.jsonl", "torch"),
    ],
)
def test_what_is_heavy_is_imported_late(look: str, absent: str) -> None:
    code = f"import sys; {look}; sys.exit({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert done.returncode == 0
