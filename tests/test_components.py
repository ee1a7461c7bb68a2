"""Every registered part passes the suite of its kind: a new one is covered by being registered."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import torch

from ldmkit.artifacts.random import generator
from ldmkit.pictures import save_png
from ldmkit.registry.components import KINDS
from ldmkit.registry.discovery import registry
from ldmkit.testing import SUITES, Suite, checks

NEEDED = {
    ("data", "folder"): ["data.path='{pictures}'"],
    ("cond", "hf-text"): ["cond.hf-text.path='{clip}'"],
    ("cond", "scalar"): ["cond.scalar.field=weight"],
    ("guidance", "autoguidance"): ["guidance.run=weaker"],
}
"""Overrides without which an option cannot be built: a folder of captioned pictures, a text encoder."""

VARIANTS = [
    ("cond", "class", ["cond.class.form=vector"]),
    ("loss", "kl", ["loss.perceptual=random", "loss.discriminator.game=vanilla", "loss.learned_variance=false"]),
    ("cond", "layout", ["cond.layout.vector=false"]),
    ("cond", "scalar", ["cond.scalar.field=weight", "cond.scalar.form=tokens"]),
    ("cond", "text", ["cond.text.vector=false"]),
    ("model", "vq-f8", ["model.revive_after=0", "model.placing=legacy", "model.dropout=0.1"]),
    ("model", "vq-f8", ["model.quantiser=fsq"]),
    ("model", "vq-f8", ["model.quantiser=lfq", "model.codes=16"]),
    ("model", "vq-f8", ["model.quantiser=residual"]),
    ("denoiser", "unet", ["denoiser.norm=group", "denoiser.scale_shift=true", "denoiser.resample=block"]),
    (
        "denoiser",
        "unet",
        ["denoiser.transformer_depth=[1,2]", "denoiser.projection=linear", "denoiser.checkpointing=true"],
    ),
    ("denoiser", "dit", ["denoiser.tokens=in-context"]),
    ("denoiser", "dit", ["denoiser.tokens=joint", "denoiser.qk_norm=true", "denoiser.patch_size=2"]),
    ("denoiser", "uvit", ["denoiser.learned_positions=4", "denoiser.patch_size=2"]),
    ("objective", "v", ["objective.schedule.kind=linear", "objective.times.distribution=logit-normal"]),
    (
        "guidance",
        "cfg",
        ["guidance.interval=[0.3,5]", "guidance.rescale=0.7", "guidance.threshold=0.99", "guidance.threshold_floor=4"],
    ),
    ("guidance", "cfg", ["guidance.scale={text:4,semantic:1.5}", "guidance.batched=false"]),
    ("guidance", "cfg-zero-star", ["guidance.zero_init=0.04"]),
    ("guidance", "pag", ["guidance.cfg_scale=2", "guidance.where=all"]),
    ("objective", "v", ["objective.weight=learned", "objective.variance=learned", "objective.norm=huber"]),
    ("objective", "v", ["objective.times.distribution=log-normal", "objective.schedule.kind=sigmoid"]),
    ("objective", "x0", ["objective.times.distribution=laplace", "objective.schedule.kind=edm"]),
    ("objective", "x0", ["objective.weight=min-snr", "objective.schedule.zero_terminal_snr=true"]),
    ("objective", "flow", ["objective.variance=learned", "objective.schedule.shift=3.0", "objective.weight=p2"]),
    ("sampler", "ddpm", ["sampler.variance=large"]),
    ("sampler", "deis", ["sampler.estimates=4"]),
    ("sampler", "heun", ["sampler.churn=40"]),
    ("sampler", "unipc", ["sampler.predictor=3"]),
]
"""Keys that make another part of an option, in form or in law."""


BREAKING = {("model.quantiser=residual",): {"one_graph": False}}
"""Overrides with which a library that a part calls branches on numbers: vector_quantize_pytorch's ResidualVQ."""


def cases() -> Iterator[Any]:
    """Yield (kind, option, overrides, check) for every option file of every plugin, and for the variants."""
    found = [
        (kind, option, NEEDED.get((kind, option), [])) for kind, option, _ in registry().options() if kind in KINDS
    ]
    for kind, option, overrides in [*found, *VARIANTS]:
        for check in checks(SUITES[kind]):
            name = "-".join([kind, option, *overrides, check])
            yield pytest.param(kind, option, tuple(overrides), check, id=name)


@cache
def suite(kind: str, option: str, overrides: tuple[str, ...]) -> type[Suite]:
    own = {"component": option, "overrides": overrides}
    return type("Registered", (SUITES[kind],), own | BREAKING.get(overrides, {}))


@pytest.fixture(scope="session")
def files(pictures: Path, clip: Path) -> dict[str, Path]:
    """What ``NEEDED`` and ``VARIANTS`` name."""
    return {"pictures": pictures, "clip": clip}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in two folders, each with its caption and its map."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(12):
        place = folder / ("ant", "bee")[index % 2]
        numbers = generator("pictures", index).integers(256, size=(3, 40, 36)).astype("uint8")
        save_png(torch.from_numpy(numbers), place / f"{index}.png")
        save_png(torch.from_numpy(numbers[:1] % 3), place / f"{index}_map.png")
        (place / f"{index}.txt").write_text(f"picture number {index}", encoding="utf-8")
    return folder


def _with_paths(override: str, files: dict[str, Path]) -> str:
    for name, path in files.items():
        override = override.replace(f"{{{name}}}", str(path))
    return override


@pytest.mark.parametrize(("kind", "option", "overrides", "check"), [*cases()])
def test_a_registered_part_conforms(
    kind: str, option: str, overrides: tuple[str, ...], check: str, files: dict[str, Path]
) -> None:
    filled = tuple(_with_paths(override, files) for override in overrides)
    try:
        getattr(suite(kind, option, filled)(), check)()
    except SkipTest as reason:
        pytest.skip(str(reason))


def test_there_is_a_suite_for_every_kind() -> None:
    assert set(SUITES) == set(KINDS)


def test_every_registered_part_is_the_one_of_some_option() -> None:
    options = [(kind, option) for kind, option, _ in registry().options() if kind in KINDS]
    named = {
        (kind, suite(kind, option, tuple(NEEDED.get((kind, option), []))).node()["name"]) for kind, option in options
    }
    assert {(component.kind, component.name) for component, _ in registry().components()} == named
