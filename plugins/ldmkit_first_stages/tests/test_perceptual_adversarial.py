"""The paper's loss: each term against its formula, when it plays, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ldmkit_first_stages.adversarial import DiscriminatorConfig
from ldmkit_first_stages.perceptual_adversarial import PerceptualAdversarial
from torch import Tensor

from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.pretrained.lpips import PerceptualDistance
from ldmkit.values import Posterior, Reconstruction

SIDE, LATENT = 32, 4 * 4 * 4
IMAGE = 3 * SIDE * SIDE
START = 100
DISCRIMINATOR = DiscriminatorConfig(game="hinge", weight=0.5, start=START, layers=2, width=8, lr=1e-4, betas=(0.5, 0.9))
CONFIG = PerceptualAdversarial.Config(
    name="kl",
    reconstruction="l1",
    perceptual="none",
    perceptual_weight=0.7,
    perceptual_file=None,
    reduction="mean",
    learned_variance=True,
    kl_weight=0.01,
    codebook_weight=2.0,
    discriminator=DISCRIMINATOR,
)


def build(*, channels: int = 3, side: int = SIDE, **changes: Any) -> PerceptualAdversarial:
    torch.manual_seed(0)
    return PerceptualAdversarial(
        replace(CONFIG, **changes), image_numel=channels * side**2, latent_numel=LATENT, channels=channels
    )


class Example:
    """Images, and reconstructions that a last layer makes of features; all in double precision."""

    def __init__(self, *, std: float = 0.5, penalty: float | None = None) -> None:
        numbers = torch.Generator().manual_seed(0)
        self.images = torch.rand(4, 3, SIDE, SIDE, generator=numbers, dtype=torch.float64) * 2 - 1
        self.features = torch.randn(4, 5, SIDE, SIDE, generator=numbers, dtype=torch.float64)
        self.layer = torch.randn(3, 5, 1, 1, generator=numbers, dtype=torch.float64).requires_grad_()
        self.mean = torch.randn(4, 4, 4, 4, generator=numbers, dtype=torch.float64).requires_grad_()
        self.std = torch.full_like(self.mean, std, requires_grad=True)
        self.penalty = None if penalty is None else torch.tensor(penalty, dtype=torch.float64)

    @property
    def made(self) -> Tensor:
        return torch.nn.functional.conv2d(self.features, self.layer)

    def reconstruction(self) -> Reconstruction:
        return Reconstruction(self.made, Posterior(self.mean, self.std), self.penalty)

    def judged(self, loss: PerceptualAdversarial, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss.double()
        if loss.adversary is not None:
            loss.adversary.double()
        total, parts = loss(self.images, self.reconstruction(), step, self.layer)
        return total, parts


def gradient(scalar: Tensor, weight: Tensor) -> Tensor:
    return torch.autograd.grad(scalar, weight, retain_graph=True)[0]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(("reconstruction", "power"), [("l1", 1), ("l2", 2)])
def test_before_the_game_the_loss_is_its_formula(reduction: str, reconstruction: str, power: int) -> None:
    example, loss = Example(penalty=0.3), build(reduction=reduction, reconstruction=reconstruction, perceptual="random")
    with torch.no_grad():
        loss.logvar.fill_(-0.4)
    total, parts = example.judged(loss, START - 1)

    lpips = PerceptualDistance("vgg", None).double()(example.images, example.made)  # (B,)
    # every element of the image: its own error, and 0.7 times the distance of its picture
    element = (example.images - example.made).abs() ** power + 0.7 * lpips[:, None, None, None]
    likelihood = element / math.exp(-0.4) - 0.4
    kl = 0.5 * (example.mean**2 + example.std**2 - 1 - example.std.log() * 2)
    if reduction == "sum":
        expected = (likelihood.sum() + 0.01 * kl.sum()) / 4 + 2.0 * 0.3 * LATENT
    else:
        expected = likelihood.mean() + 0.01 * kl.mean() + 2.0 * 0.3
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)  # the scaling of LPIPS's pixels is fp32
    assert parts.keys() == {"reconstruction", "perceptual", "logvar", "kl", "penalty"}
    assert parts["perceptual"].item() == pytest.approx(lpips.mean().item())
    assert not any(part.requires_grad for part in parts.values())


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("game", ["hinge", "vanilla"])
def test_in_the_game_the_loss_adds_the_generators_term_by_its_adaptive_weight(game: str, learned: bool) -> None:
    example, loss = Example(), build(learned_variance=learned, discriminator=replace(DISCRIMINATOR, game=game))
    if learned:
        with torch.no_grad():
            loss.logvar.fill_(-1.0)
    total, parts = example.judged(loss, START)

    error = (example.images - example.made).abs().mean()
    likelihood = error * math.e - 1.0 if learned else error
    logits = loss.adversary.discriminator(example.made)
    generator = -logits.mean() if game == "hinge" else torch.log1p((-logits).exp()).mean()
    ratio = gradient(likelihood, example.layer).norm() / (gradient(generator, example.layer).norm() + 1e-4)
    kl = 0.5 * (example.mean**2 + example.std**2 - 1 - example.std.log() * 2).mean()
    expected = likelihood + 0.01 * kl + 0.5 * ratio.detach() * generator
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(parts["d_weight"], 0.5 * ratio.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(parts["generator"], generator.detach(), rtol=1e-9, atol=0)
    for weight in (example.layer, example.mean, example.std):
        torch.testing.assert_close(gradient(total, weight), gradient(expected, weight), rtol=1e-7, atol=1e-12)


def test_the_two_gradients_at_the_last_layer_are_as_one_to_the_weight() -> None:
    example, loss = Example(), build(kl_weight=0.0)
    without, _ = example.judged(loss, START - 1)
    total, _ = example.judged(loss, START)
    before, after = (gradient(each, example.layer) for each in (without, total))
    assert ((after - before).norm() / before.norm()).item() == pytest.approx(0.5, rel=0.01)


def test_before_its_start_the_game_changes_nothing() -> None:
    example = Example()
    early, parts = example.judged(build(), START - 1)
    without, _ = example.judged(build(discriminator=replace(DISCRIMINATOR, weight=0.0)), START - 1)
    assert torch.equal(early, without)
    assert "d_weight" not in parts


def test_a_weight_of_zero_leaves_the_discriminator_out() -> None:
    loss = build(discriminator=replace(DISCRIMINATOR, weight=0.0))
    assert loss.adversary is None
    assert "generator" not in Example().judged(loss, START)[1]


def test_the_discriminator_is_no_part_of_the_losses_own_weights() -> None:
    loss = build(perceptual="random")
    assert [name for name, _ in loss.named_parameters()] == ["logvar"]
    assert list(loss.state_dict()) == ["logvar"]
    assert sum(weight.numel() for weight in loss.adversary.parameters()) > 1000


def test_without_a_learned_variance_there_is_nothing_to_train() -> None:
    assert list(build(learned_variance=False).parameters()) == []


def test_a_posterior_without_spread_has_no_kl() -> None:
    total, parts = Example(std=0.0, penalty=0.25).judged(build(), 0)
    assert total.isfinite()
    assert "kl" not in parts
    assert parts["penalty"].item() == 0.25


def test_the_log_variance_falls_to_the_logarithm_of_the_error() -> None:
    example, loss = Example(), build()
    error = (example.images - example.made).abs().mean().item()
    loss.double()
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(300):
        total, _ = example.judged(loss, 0)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    # the minimum of error / exp(logvar) + logvar
    assert loss.logvar.item() == pytest.approx(math.log(error), abs=1e-3)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_its_weight_of_the_kl_in_the_other_reduction_is_told(reduction: str) -> None:
    ratio = LATENT / IMAGE if reduction == "sum" else IMAGE / LATENT
    constants = build(reduction=reduction).constants()
    assert constants == {"equivalent_kl_weight": pytest.approx(0.01 * ratio)}
    assert build(reduction=reduction, kl_weight=0.0).constants() == {}
    other = build(
        reduction={"sum": "mean", "mean": "sum"}[reduction],
        kl_weight=constants["equivalent_kl_weight"],
        codebook_weight=2.0 * ratio,
    )
    example = Example(penalty=0.3)
    here, there = (example.judged(each, 0)[0] for each in (build(reduction=reduction), other))
    torch.testing.assert_close(here, there * (IMAGE if reduction == "sum" else 1 / IMAGE))


@pytest.mark.parametrize(
    ("sizes", "changes", "says"),
    [
        ({"channels": 4}, {"perceptual": "random"}, "takes images of 1 or 3 channels, got 4"),
        ({"side": 12}, {"perceptual": "random"}, "takes images of 16 pixels or more, got 12"),
        ({"side": 8}, {}, "a discriminator of 2 layers takes images of 12 pixels or more, got 8"),
        ({}, {"perceptual": "lpips", "perceptual_file": Path(__file__)}, "does not hold the weights"),
    ],
    ids=["channels", "too small for LPIPS", "too small for the discriminator", "not VGG16"],
)
def test_what_it_cannot_take_is_refused_when_it_is_built(
    sizes: dict[str, int], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=says):
        build(**sizes, **changes)


def test_missing_weights_of_lpips_are_one_line_with_their_name_checksum_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        build(perceptual="lpips")
    for text in (
        "vgg16-397923af.pth (sha256 397923af...) from https://download.pytorch.org/models/vgg16-397923af.pth",
        f"'{tmp_path}/checkpoints/vgg16-397923af.pth'",
        "type loss.perceptual_file=FILE, or type loss.perceptual=random or loss.perceptual=none",
    ):
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_of_four_channels_train_without_lpips() -> None:
    loss = build(channels=4)
    images = torch.zeros(2, 4, SIDE, SIDE)
    posterior = Posterior(torch.zeros(2, 4, 4, 4), torch.ones(2, 4, 4, 4))
    assert loss(images, Reconstruction(images + 0.1, posterior), START)[0].isfinite()


def test_negative_weights_are_refused_by_name() -> None:
    for key in ("perceptual_weight", "kl_weight", "codebook_weight"):
        with pytest.raises(ValueError, match=f"^{key} is -1.0 but must be 0 or more$"):
            replace(CONFIG, **{key: -1.0})
