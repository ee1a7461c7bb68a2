"""The joined model: what it draws depends on the seed of each picture and on nothing else."""

from __future__ import annotations

import copy
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from torch import Tensor

import ldmkit
from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.editing import Original
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.errors import ConfigError
from ldmkit.models import build_part
from ldmkit.protocols import Sampler
from ldmkit.registry.discovery import registry
from ldmkit.values import Conditioning


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    """Untrained, with all weights random, so that no zero-initialised layer hides a path."""
    model = ldmkit.build(ldmkit.compose(["scale=smoke", "cond=[text,class]"]))
    tokenizer(model)
    noise = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=noise) * 0.1
    return model


def tokenizer(model: LatentDiffusion) -> None:
    import tempfile
    from pathlib import Path

    for name, part in model.conditioners.items():
        if name == "text":
            with tempfile.TemporaryDirectory() as directory:
                part.fit({"caption": ["a red circle", "a small blue square"]}, Path(directory))
                part.restore(Path(directory))


FIELDS = {"caption": ["a red circle", "a blue square", "a red square"], "class": torch.tensor([0, 5, 9])}


def test_a_picture_is_the_same_alone_and_in_any_batch(model: LatentDiffusion) -> None:
    together = model.sample(FIELDS, steps=4, seed=7)
    alone = model.sample({"caption": ["a red square"], "class": torch.tensor([9])}, steps=4, seed=9)
    in_ones = model.sample(FIELDS, steps=4, seed=7, batch_size=1)
    torch.testing.assert_close(together[2:], alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(together, in_ones, atol=1e-4, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_the_seed_and_the_condition_both_matter(model: LatentDiffusion) -> None:
    one = model.sample(FIELDS, steps=2, seed=0)
    assert not torch.equal(one, model.sample(FIELDS, steps=2, seed=1))
    other = {"caption": ["a blue square"] * 3, "class": FIELDS["class"]}
    assert not torch.equal(one, model.sample(other, steps=2, seed=0))
    assert torch.equal(one, model.sample(FIELDS, steps=2, seeds=[0, 1, 2]))


def test_pictures_are_pixels_of_the_trained_size_or_of_the_size_asked_for(model: LatentDiffusion) -> None:
    assert model.sample(FIELDS, steps=1).shape == (3, 3, 32, 32)
    wide = model.sample(FIELDS, steps=1, size=(32, 48))
    assert wide.shape == (3, 3, 32, 48)
    assert wide.abs().max() <= 1
    with pytest.raises(ConfigError, match=r"33x32 pixels cannot be: .* the nearest that can is 32x32"):
        model.sample(FIELDS, size=(33, 32))
    with pytest.raises(ConfigError, match="0x32 has no pixels"):
        model.sample(FIELDS, size=(0, 32))


def test_each_step_is_told_with_its_level(model: LatentDiffusion) -> None:
    told = []
    model.sample(FIELDS, steps=3, batch_size=2, on_step=lambda *step: told.append(step))
    assert [step for step, *_ in told] == [0, 1, 2, 0, 1, 2]
    assert [level.t.item() for _, level, _, _ in told[:3]] == [999, 666, 332]
    assert [(z.shape[0], x0.shape[0]) for _, _, z, x0 in told] == [(2, 2)] * 3 + [(1, 1)] * 3


@pytest.fixture(scope="module")
def samplers() -> dict[str, Sampler]:
    files = [
        plugin.config_dir / kind / f"{name}.yaml" for kind, name, plugin in registry().options() if kind == "sampler"
    ]
    nodes = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}
    nodes["ode"].update(rtol=0.3, atol=0.3)
    return {name: build_part("sampler", node) for name, node in nodes.items()}


@pytest.mark.parametrize("objective", [option for kind, option, _ in registry().options() if kind == "objective"])
def test_every_sampler_goes_with_every_objective(
    model: LatentDiffusion, samplers: dict[str, Sampler], objective: str
) -> None:
    part = build_part("objective", ldmkit.compose(["scale=smoke", f"objective={objective}"])["objective"])
    for name, sampler in samplers.items():
        other = copy.deepcopy(model)
        other.objective, other.sampler = part, sampler
        told: list[Tensor] = []
        other.sample(
            {"caption": ["a red circle"], "class": torch.tensor([3])},
            steps=3,
            on_step=lambda *step, told=told: told.extend(step[2:]),
        )  # type: ignore[misc]
        assert len(told) == 6, name
        assert all(each.isfinite().all() for each in told), name


def test_steps_that_a_spacing_cannot_make_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match="spacing=compvis cannot make 300 steps"):
        ldmkit.build(ldmkit.compose(["scale=smoke", "sampler.steps=300", "sampler.spacing=compvis"]))


def test_fields_that_are_missing_or_of_different_lengths_are_named(model: LatentDiffusion) -> None:
    with pytest.raises(ConfigError, match=r"conditioned on caption, class, but class is missing"):
        model.sample({"caption": ["a red circle"]})
    with pytest.raises(ConfigError, match="different lengths: caption 1, class 2"):
        model.sample({"caption": ["a red circle"], "class": torch.tensor([0, 1])})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"fields": {"caption": "a red circle"}}, r"field 'caption' is one value; give a list.*\['a red circle'\]"),
        ({"fields": {"class": torch.tensor(3)}}, "field 'class' is one value; give a list"),
        ({"fields": {"captoin": ["a red circle"]}}, "no field 'captoin'; did you mean 'caption'"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"steps": -1}, "steps must be 1 or more, got -1"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"count": -1}, "count must be 0 or more, got -1"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], message: str, model: LatentDiffusion) -> None:
    with pytest.raises(ConfigError, match=message):
        model.sample(**{"fields": FIELDS, **asked})


def guided(model: LatentDiffusion, *overrides: str) -> Any:
    """A context in which ``model`` has the guidance that ``overrides`` name."""
    config = ldmkit.compose(["scale=smoke", "cond=[text,class]", *overrides])
    return mock.patch.object(model, "guidance", build_part("guidance", config["guidance"]))


def test_a_negative_prompt_stands_where_guidance_would_tell_nothing(model: LatentDiffusion) -> None:
    negative = {"caption": ["a red square", "a red square", ""]}
    plain, other = model.sample(FIELDS, steps=2), model.sample(FIELDS, negative=negative, steps=2)
    assert (plain - other)[:2].abs().flatten(1).amax(1).min() > 1e-4
    with guided(model, "guidance=none"):
        torch.testing.assert_close(
            model.sample(FIELDS, negative=negative, steps=2), model.sample(FIELDS, steps=2), rtol=0, atol=0
        )
    with guided(model, "guidance.scale=0"):  # the null estimate, which the negative prompt is in the place of
        shown = {"caption": negative["caption"], "class": FIELDS["class"]}
        with guided(model, "guidance.scale={class:1,text:0}"):
            by_name = model.sample(FIELDS, negative=negative, steps=2)
        with guided(model, "guidance=none"):
            torch.testing.assert_close(by_name, model.sample(shown, steps=2), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("negative", "message"),
    [
        ({"captoin": ["x"] * 3}, "no field 'captoin'; did you mean 'caption'"),
        ({"caption": ["x"]}, "different lengths: caption 3, class 3, negative caption 1"),
    ],
)
def test_negative_fields_are_checked_as_fields_are(
    negative: dict[str, Any], message: str, model: LatentDiffusion
) -> None:
    with pytest.raises(ConfigError, match=message):
        model.sample(FIELDS, negative=negative)


def test_scales_by_conditioner_need_the_conditioners_of_the_run() -> None:
    config = ldmkit.compose(["scale=smoke", "cond=[text,class]", "guidance.scale={text:4,semantic:2}"])
    with pytest.raises(ConfigError, match=r"'cfg' has scales for text, semantic, but the run's cond is \[text,class\]"):
        ldmkit.build(config)


def test_perturbing_guidance_needs_a_denoiser_that_can_be_perturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ldmkit.compose(["scale=smoke", "guidance=pag"])
    monkeypatch.setattr(type(ldmkit.build(config).denoiser), "perturbable", False)
    with pytest.raises(ConfigError, match="'pag' perturbs self-attention, which denoiser 'unet' cannot"):
        ldmkit.build(config)


@pytest.mark.parametrize("where", ["middle", "all"])
def test_perturbed_attention_guidance_changes_the_picture(where: str, model: LatentDiffusion) -> None:
    with guided(model, "guidance=none"):
        plain = model.sample(FIELDS, steps=2)
    with guided(model, "guidance=pag", f"guidance.where={where}", "guidance.scale=30"):
        assert (model.sample(FIELDS, steps=2) - plain).abs().max() > 1e-3
    with guided(model, "guidance=pag", f"guidance.where={where}", "guidance.scale=0"):
        torch.testing.assert_close(model.sample(FIELDS, steps=2), plain)


def test_a_little_strength_leaves_a_picture_nearly_as_it_was(model: LatentDiffusion) -> None:
    images = model.sample(FIELDS, steps=2, seed=5)
    near, far = (model.sample(FIELDS, original=Original(images, s), steps=10) for s in (0.1, 1.0))
    back = model.decode(model.encode(images))
    assert (near - back).square().mean() < 0.5 * (far - back).square().mean()


def test_only_what_the_mask_says_is_drawn_anew(model: LatentDiffusion) -> None:
    images, redraw = model.sample(FIELDS, steps=2, seed=5), torch.zeros(3, 32, 32, dtype=torch.bool)
    redraw[:, :16] = True
    drawn = model.sample(FIELDS, original=Original(images, 1.0, redraw), steps=3)
    assert torch.equal(drawn[:, :, 16:], images[:, :, 16:])
    assert (drawn[:, :, :16] - images[:, :, :16]).abs().max() > 0.01


def test_a_picture_is_sampled_again_from_the_noise_that_it_is_inverted_to(model: LatentDiffusion) -> None:
    images = model.sample(FIELDS, steps=2, seed=5)
    noise = model.invert(images, FIELDS, steps=60)
    with guided(model, "guidance=none"):
        again, other = model.sample(FIELDS, noise=noise, steps=60), model.sample(FIELDS, steps=60)
    back = model.decode(model.encode(images))
    assert (again - back).square().mean() < 0.3 * (other - back).square().mean()


def test_an_original_and_noise_have_as_many_rows_as_the_fields(model: LatentDiffusion) -> None:
    with pytest.raises(ConfigError, match="different lengths: caption 3, class 3, original pictures 1"):
        model.sample(FIELDS, original=Original(torch.zeros(1, 3, 32, 32)))


def test_no_pictures_are_no_pictures(model: LatentDiffusion) -> None:
    assert model.sample({"caption": [], "class": torch.tensor([], dtype=torch.int64)}).shape == (0, 3, 32, 32)


def test_sampling_leaves_training_mode_and_weights_as_they_were(model: LatentDiffusion) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model.sample(FIELDS, steps=1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_drawing_and_decoding_are_in_evaluation_mode_and_each_module_gets_its_own_back(
    model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(latents: torch.Tensor) -> torch.Tensor:
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError

    model.train()
    model.first_stage.eval()
    before = [module.training for module in model.modules()]
    monkeypatch.setattr(model.first_stage, "decode", decode)
    with pytest.raises(ZeroDivisionError):
        model.sample(FIELDS, steps=1)
    assert [module.training for module in model.modules()] == before


def test_latents_are_normalised_between_first_stage_and_denoiser(model: LatentDiffusion) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain = model.encode(images)
    model.statistics = LatentStatistics(torch.full((4,), 2.0), torch.full((4,), 0.5), 1, "digest")
    try:
        torch.testing.assert_close(model.encode(images), (plain - 2) * 0.5)
        torch.testing.assert_close(model.decode(model.encode(images)), model.first_stage.decode(plain).clamp(-1, 1))
    finally:
        model.statistics = None


def test_the_loss_is_one_number_a_row_and_a_row_does_not_depend_on_its_batch(model: LatentDiffusion) -> None:
    z0 = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    config = ldmkit.compose(["scale=smoke", "cond=[]", "objective.times.stratified=false"])
    unconditional = ldmkit.build(config)
    whole = unconditional.loss(z0, {}, RowRandom.of(0, "test", 0, [0, 1, 2]))
    alone = unconditional.loss(z0[2:], {}, RowRandom.of(0, "test", 0, [2]))
    assert whole.shape == (3,)
    torch.testing.assert_close(whole[2:], alone)


@pytest.mark.parametrize("objective", ["edm", "eps", "flow", "v", "x0"])
def test_a_denoiser_gives_as_many_channels_as_the_objective_wants(objective: str) -> None:
    config = ldmkit.compose(["scale=smoke", "cond=[]", f"objective={objective}", "objective.variance=learned"])
    model = ldmkit.build(config)
    z0 = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert model.denoiser(z0, torch.zeros(2), Conditioning()).shape == (2, 8, 4, 4)
    assert model.loss(z0, {}, RowRandom.of(0, "test", 0, [0, 1])).isfinite().all()
    assert model.sample(count=2, steps=2).isfinite().all()


def test_initial_weights_are_a_function_of_the_seed_and_of_each_part_alone() -> None:
    one = ldmkit.build(ldmkit.compose(["scale=smoke"]))
    two = ldmkit.build(ldmkit.compose(["scale=smoke", "denoiser.channels=64", "cond=[text,class]"]))
    three = ldmkit.build(ldmkit.compose(["scale=smoke", "seed=1"]))
    for name, value in one.first_stage.state_dict().items():
        assert torch.equal(value, two.first_stage.state_dict()[name])
    assert any(not torch.equal(v, three.first_stage.state_dict()[k]) for k, v in one.first_stage.state_dict().items())
    text = one.conditioners.parts["text"].state_dict()
    assert all(torch.equal(value, two.conditioners.parts["text"].state_dict()[name]) for name, value in text.items())
