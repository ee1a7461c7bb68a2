"""The VQ autoencoder: what diffusion sees, what the decoder sees, and that it trains and resumes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ldmkit_first_stages.vq import VQAutoencoder
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError, Interrupted
from ldmkit.registry.config import TrainConfig
from ldmkit.registry.schema import typed
from ldmkit.specs import OptimizerSpec
from ldmkit.training.device import Compute
from ldmkit.training.loop import Listeners, Loop

QUANTISER = {
    "quantiser": "vq",
    "codes": 32,
    "commitment": 0.25,
    "placing": "commitment",
    "revive_after": 0,
    "codebooks": 2,
    "levels": [5, 3],
    "entropy_weight": 0.1,
}
SMALL = {
    "name": "vq",
    "factor": 4,
    "width": 32,
    "multipliers": [1, 2, 2],
    "patch": 1,
    "norm": "group",
    "middle": "attention",
    "attention_factors": [4],
    "encoder_blocks": 2,
    "decoder_blocks": 3,
    "z_channels": 4,
    "dropout": 0.0,
} | QUANTISER

DEMO = SMALL | {
    "factor": 8,
    "width": 16,
    "multipliers": [1, 2, 2, 4],
    "patch": 4,
    "norm": "none",
    "middle": "none",
    "attention_factors": [8],
    "encoder_blocks": 1,
    "decoder_blocks": 2,
}


def build(base: dict[str, Any] = SMALL, channels: int = 3, **changes: Any) -> VQAutoencoder:
    """Build with weights drawn from a fixed seed, none of them zero, and codes far enough apart to be told apart."""
    torch.manual_seed(0)
    model = VQAutoencoder(VQAutoencoder.Config(**base | changes), channels=channels)
    for name, parameter in model.named_parameters():
        parameter.data += (0.3 if "embedding" in name else 0.05) * torch.randn_like(parameter)
    return model


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def rows(*indices: int) -> RowRandom:
    return RowRandom.of(0, "test", 0, indices)


both = pytest.mark.parametrize("base", [SMALL, DEMO], ids=["paper-like", "demo-like"])


@both
def test_the_latent_is_what_the_encoder_says_before_quantisation(base: dict[str, Any]) -> None:
    model, batch = build(base), images(2, 3, 32, 32)
    posterior = model.encode(batch)
    assert torch.equal(posterior.mean, model.quant_conv(model.encoder(batch)))
    assert torch.equal(posterior.std, torch.zeros_like(posterior.mean))
    assert not torch.isin(posterior.mean, model.quantize.embedding.weight).any()


@both
def test_the_decoder_sees_codes_whatever_the_latents_are(base: dict[str, Any]) -> None:
    model, batch = build(base), images(2, 3, 32, 32)
    latents = model.encode(batch).mean
    quantised = model.quantize(latents)
    assert torch.equal(model.decode(latents), model.decoder(model.post_quant_conv(quantised)))
    assert torch.equal(model.decode(latents), model.decode(quantised))
    assert torch.equal(model.reconstruct(batch, rows(0, 1)).images, model.decode(latents))


@both
@pytest.mark.parametrize("size", [(8, 8), (16, 40), (24, 8)])
def test_any_size_that_the_factor_divides_comes_back(base: dict[str, Any], size: tuple[int, int]) -> None:
    model = build(base)
    height, width = size
    posterior = model.encode(images(2, 3, height, width))
    grid = (2, model.spec.channels, height // model.spec.factor, width // model.spec.factor)
    assert posterior.mean.shape == posterior.std.shape == grid
    assert model.decode(posterior.mode()).shape == (2, 3, height, width)


@pytest.mark.parametrize("channels", [1, 4])
def test_the_number_of_image_channels_is_given_at_run_time(channels: int) -> None:
    model = build(DEMO, channels)
    made = model.reconstruct(images(1, channels, 16, 16), rows(0))
    assert made.images.shape == (1, channels, 16, 16)


@both
def test_a_row_of_a_batch_is_what_the_row_is_alone(base: dict[str, Any]) -> None:
    model, batch = build(base), images(3, 3, 16, 16)
    whole, alone = model.encode(batch).mean, model.encode(batch[1:2]).mean
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.decode(whole)[1:2], model.decode(whole[1:2].contiguous()), rtol=1e-4, atol=1e-5)


@both
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_pictures_of_one_colour_are_finite(base: dict[str, Any], value: float) -> None:
    made = build(base).reconstruct(torch.full((2, 3, 16, 16), value), rows(0, 1))
    assert made.images.isfinite().all()
    assert made.posterior.mean.isfinite().all()
    assert made.penalty.isfinite()
    assert all(part.isfinite() for part in made.parts.values())


@both
def test_bf16_autocast_is_finite_and_reaches_every_weight(base: dict[str, Any]) -> None:
    model, batch = build(base), images(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        made = model.reconstruct(batch, rows(0, 1))
        loss = (made.images.float() - batch).square().mean() + made.penalty
    loss.backward()
    assert made.posterior.mean.dtype == made.penalty.dtype == torch.float32
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_encoder_learns_from_the_pictures_through_the_codes() -> None:
    model, batch = build(DEMO), images(2, 3, 32, 32)
    model.reconstruct(batch, rows(0, 1)).images.square().mean().backward()
    assert all(parameter.grad.any() for name, parameter in model.encoder.named_parameters() if "k.bias" not in name)
    assert model.quantize.embedding.weight.grad is None


def test_a_published_checkpoint_loads_with_no_renaming() -> None:
    published = {key: value for key, value in build(DEMO).state_dict().items() if not key.endswith("idle")}
    model = build(DEMO, revive_after=5)
    model.load_state_dict(published)
    assert "quantize.embedding.weight" in published
    assert set(model.state_dict()) - set(published) == {"quantize.idle"}


def test_an_image_that_the_factor_does_not_divide_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^model 'vq' cannot encode images of 60x64 pixels.*factor, 8") as refusal:
        build(DEMO).encode(images(1, 3, 60, 64))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"codes": 1}, r"^model\.codes is 1 but must be 2 or more$"),
        ({"commitment": -0.1}, r"^model\.commitment is -0\.1 but must be 0 or more$"),
        ({"revive_after": -1}, r"^model\.revive_after is -1 but must be 0 or more$"),
        ({"codebooks": 0}, r"^model\.codebooks is 0 but must be 1 or more$"),
        ({"levels": [5, 2]}, r"^model\.levels\.1 is 2 but must be 3 or more$"),
        ({"levels": []}, r"^model\.levels is \[\] but must have one number for each channel"),
        ({"placing": "codebook"}, r"^model\.placing: 'codebook' is not one of its values.*commitment, legacy$"),
        ({"quantiser": "fsk"}, r"^model\.quantiser: 'fsk' is not one of its values; did you mean 'fsq'\?"),
        ({"attention_factors": [16]}, r"^model 'vq': attention_factors has 16"),
        ({"dropout": 1.0}, r"^model\.dropout is 1\.0"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refusal:
        typed(VQAutoencoder.Config, SMALL | changes, "model")
    assert "\n" not in str(refusal.value)


class Pictures:
    """Trains a VQ autoencoder on smooth pictures with two colours each, by squared error and its own penalty."""

    length = 64

    def __init__(self, **changes: Any) -> None:
        torch.manual_seed(0)
        self.model = VQAutoencoder(VQAutoencoder.Config(**DEMO | {"attention_factors": []} | changes), channels=3)
        self.players: Mapping[str, nn.Module] = {"first_stage": self.model}
        self.own_optimizers: dict[str, OptimizerSpec] = {}

    def read(self, indices: list[int]) -> Tensor:
        return torch.stack([self.picture(index) for index in indices])

    @staticmethod
    def picture(index: int) -> Tensor:
        one, other = images(2, 3, 1, 1, seed=index)
        slope = torch.linspace(0, 1, 32).view(1, 32, 1) if index % 2 else torch.linspace(0, 1, 32).view(1, 1, 32)
        return (one * slope + other * (1 - slope)).expand(3, 32, 32)

    def losses(self, batch: Tensor, random: RowRandom, step: int) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor]]]:
        made = self.model.reconstruct(batch, random)
        error = (made.images - batch).square().mean()
        yield "first_stage", error + made.penalty, {"error": error.detach(), **made.parts}


CONFIG = TrainConfig(
    steps=12,
    batch_size=8,
    optimizer="muon",
    lr=3e-3,
    muon_lr=1.5e-2,
    betas=(0.9, 0.99),
    weight_decay=0.0,
    warmup=2,
    schedule="cosine",
    clip=1.0,
    ema_decay=0.9,
    checkpoint_every=5,
    log_every=1,
)


def train(directory: Path, trainee: Pictures, steps: int = 12, **listeners: Callable[..., Any]) -> Pictures:
    config = replace(CONFIG, steps=steps)
    compute = Compute(torch.device("cpu"), bf16=False)
    loop = Loop(trainee, config, stage="first-stage", seed=1, compute=compute, directory=directory)
    loop.run(Listeners(**listeners)).store_in(trainee.model)
    return trainee


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_training_with_revival_resumes_bit_for_bit(tmp_path: Path, stop: int) -> None:
    changes = {"revive_after": 2, "codes": 64}
    whole = train(tmp_path / "whole", Pictures(**changes)).model.state_dict()
    done: list[int] = []
    with pytest.raises(Interrupted):
        train(
            tmp_path / "parts",
            Pictures(**changes),
            on_step=lambda step, metrics: done.append(step),
            stop_asked=lambda: done[-1] == stop,
        )
    resumed = train(tmp_path / "parts", Pictures(**changes)).model.state_dict()
    assert whole["quantize.idle"].any()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.slow
def test_revival_keeps_the_codebook_in_use_where_it_collapses_without(tmp_path: Path) -> None:
    seen: dict[int, dict[str, float]] = {}
    for revive_after in (0, 10):
        train(
            tmp_path / str(revive_after),
            Pictures(revive_after=revive_after, codes=64),
            steps=120,
            on_step=lambda step, metrics, key=revive_after: seen.update({key: metrics}),
        )
    assert seen[10]["usage"] > 0.5
    assert seen[10]["perplexity"] > 2 * seen[0]["perplexity"]
    assert seen[10]["error"] < seen[0]["error"]
