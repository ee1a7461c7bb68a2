"""Any conditioner goes with any denoiser and any first stage, alone and beside any other, without an edit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.errors import ConfigError
from ldmkit.models import build
from ldmkit.registry.composing import Composer
from ldmkit.registry.discovery import registry
from ldmkit.specs import DataSpec
from ldmkit.testing.fields import DATA, made_up, pictures
from ldmkit.testing.outputs import normal, randomise
from ldmkit.values import Conditioning, to_pixels

ROWS = 2
NEEDED = {"hf-text": {"path": "{clip}"}, "scalar": {"field": "weight"}}
"""Keys without which a conditioner cannot be built; ``{clip}`` is a text encoder."""

MODELS, DENOISERS, CONDS = (
    sorted(option for kind, option, _ in registry().options() if kind == group)
    for group in ("model", "denoiser", "cond")
)

pytestmark = pytest.mark.slow


@cache
def node(group: str, option: str) -> dict[str, Any]:
    """What the option puts into a run at scale=smoke."""
    choice = f"{group}=[{option}]" if group == "cond" else f"{group}={option}"
    return composer().compose(["scale=smoke", choice])[group]


@cache
def composer() -> Composer:
    return Composer()


@cache
def base() -> dict[str, Any]:
    return composer().compose(["scale=smoke", "cond=[]"])


def together(model: str, denoiser: str, conds: Sequence[str], clip: Path) -> LatentDiffusion:
    """The untrained model of these options."""
    config = {
        **copy.deepcopy(base()),
        "model": node("model", model),
        "denoiser": node("denoiser", denoiser),
        "cond": {},
    }
    for name in conds:
        keys = {key: value.format(clip=clip) for key, value in NEEDED.get(name, {}).items()}
        config["cond"][name] = {**node("cond", name)[name], **keys}
    size = 64 if model.endswith("f32") else 32
    return build(config, DataSpec(size=size, channels=3, fields=DATA.fields))


def trains_and_samples(model: LatentDiffusion, directory: Path) -> None:
    """Fit, take one step of training, draw pictures."""
    size = model.data.size
    images = pictures(ROWS, 3, size, size)
    fields = {**made_up(model.data, ROWS), **model.observe(images)}
    needed = {name: fields[name] for name in model.conditioners.needs}
    fit(model, directory)
    z0 = model.encode(to_pixels(images))
    trained = [weight for part in (model.denoiser, model.conditioners) for weight in part.parameters()]
    optimizer = torch.optim.SGD([weight for weight in trained if weight.requires_grad], lr=1e-3)
    loss = model.loss(z0, needed, RowRandom.of(0, "denoiser", 0, range(ROWS))).mean()
    loss.backward()
    optimizer.step()
    drawn = model.sample(needed, count=ROWS, steps=2)
    assert loss.isfinite()
    assert drawn.shape == images.shape
    assert drawn.isfinite().all()


def fit(model: LatentDiffusion, directory: Path) -> None:
    """Let every conditioner learn what it learns from data, in ``directory``."""
    for name, part in model.conditioners.items():
        (directory / name).mkdir()
        part.fit(made_up(model.data, 16), directory / name)
        part.restore(directory / name)


def check(model: str, denoiser: str, conds: Sequence[str], clip: Path, directory: Path) -> None:
    """They work together, or the denoiser says that it does not take what they yield."""
    if registry().part("denoiser", node("denoiser", denoiser)["name"]).accepts < {"tokens", "vector", "map"}:
        try:
            built = together(model, denoiser, conds, clip)
        except ConfigError as refused:
            pytest.skip(str(refused))
    else:
        built = together(model, denoiser, conds, clip)
    trains_and_samples(built, directory)


@pytest.mark.parametrize("cond", CONDS)
@pytest.mark.parametrize("denoiser", DENOISERS)
@pytest.mark.parametrize("model", MODELS)
def test_a_conditioner_a_denoiser_and_a_first_stage_go_together(
    model: str, denoiser: str, cond: str, clip: Path, tmp_path: Path
) -> None:
    check(model, denoiser, [cond], clip, tmp_path)


@pytest.mark.parametrize("pair", [*combinations(CONDS, 2)], ids="+".join)
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_two_conditioners_go_together(denoiser: str, pair: tuple[str, str], clip: Path, tmp_path: Path) -> None:
    check("kl-f8", denoiser, pair, clip, tmp_path)


@pytest.mark.parametrize("denoiser", DENOISERS)
def test_all_conditioners_go_together_and_none_is_one_of_them(denoiser: str, clip: Path, tmp_path: Path) -> None:
    check("kl-f8", denoiser, CONDS, clip, tmp_path)
    check("kl-f8", denoiser, [], clip, tmp_path)


@pytest.mark.parametrize("cond", CONDS)
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_of_a_row_that_is_dropped_nothing_is_heard(denoiser: str, cond: str, clip: Path, tmp_path: Path) -> None:
    """The denoiser then answers what it answers to the null, bit for bit, whatever the row's fields are."""
    model = together("kl-f8", denoiser, [cond], clip)
    fit(model, tmp_path)
    randomise(model.denoiser)
    part, images = model.conditioners.items()[0][1], pictures(2 * ROWS, 3, 32, 32)
    part.dropout = 1.0
    told = {**made_up(model.data, 2 * ROWS), **model.observe(images)}
    random, z, t = RowRandom.of(0, "denoiser", 0, range(ROWS)), normal("z", ROWS, 4, 4, 4), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        expected = model.denoiser(z, t, model.conditioners.null(ROWS, (4, 4)))
        for rows in (slice(0, ROWS), slice(ROWS, None)):
            fields = {name: told[name][rows] for name in model.conditioners.needs}
            assert torch.equal(model.denoiser(z, t, model.conditioners.with_dropout(fields, (4, 4), random)), expected)
        part.dropout = 0.0
        heard = model.denoiser(z, t, model.conditioners.with_dropout(fields, (4, 4), random))
    assert not torch.equal(heard, expected)


@pytest.mark.parametrize(("cond", "keys"), [("semantic", {}), ("low-res", {"noise": 0.0})])
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_a_silent_map_leaves_what_the_unconditional_model_computes(
    denoiser: str, cond: str, keys: dict[str, Any], clip: Path
) -> None:
    """Bit for bit, by the same weights less those of the map's channels: their null is zeros, and gives no more."""
    config = {**copy.deepcopy(base()), "denoiser": node("denoiser", denoiser)}
    data = DataSpec(size=32, channels=3, fields=DATA.fields)
    alone = build(config, data).denoiser
    model = build({**config, "cond": {cond: {**node("cond", cond)[cond], **keys}}}, data)
    randomise(model.denoiser)
    weights = model.denoiser.state_dict()
    same = {name: weights[name][tuple(map(slice, value.shape))] for name, value in alone.state_dict().items()}
    assert sum(value.shape != weights[name].shape for name, value in same.items()) == 1  # of the first layer
    alone.load_state_dict(same)
    z, t = normal("z", ROWS, 4, 4, 4), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        assert torch.equal(model.denoiser(z, t, model.conditioners.null(ROWS, (4, 4))), alone(z, t, Conditioning()))
