"""The reach that is computed from the layout is the one that gradients show, no shorter and no longer."""

from __future__ import annotations

import pytest
import torch
from ldmkit_first_stages.identity import Identity
from ldmkit_first_stages.kl import KLAutoencoder

from ldmkit.specs import Reach

SMALL = {
    "name": "kl",
    "factor": 8,
    "width": 2,
    "multipliers": [1, 1, 1, 1],
    "patch": 1,
    "norm": "none",
    "middle": "none",
    "attention_factors": [],
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "z_channels": 1,
    "dropout": 0.0,
}


def build(**changes: object) -> KLAutoencoder:
    """All weights positive, so that no influence cancels another."""
    torch.manual_seed(0)
    model = KLAutoencoder(KLAutoencoder.Config(**SMALL | changes), channels=1).double().eval()
    for parameter in model.parameters():
        parameter.data = torch.rand_like(parameter) / max(parameter[0].numel() if parameter.ndim > 1 else 4, 1)
    return model


def seen(model: KLAutoencoder) -> Reach:
    """How far gradients of the middle position's outputs go back, in positions."""
    f, middle, positions = model.spec.factor, 24, 49
    images = torch.rand(1, 1, positions * f, positions * f, dtype=torch.float64, requires_grad=True)
    posterior = model.encode(images)
    (posterior.mean + posterior.std)[..., middle, middle].sum().backward()
    latents = torch.rand(1, 1, positions, positions, dtype=torch.float64, requires_grad=True)
    pixels = slice(middle * f, (middle + 1) * f)
    model.decode(latents)[..., pixels, pixels].sum().backward()
    per_position = images.grad.abs().unfold(2, f, f).unfold(3, f, f).sum((0, 1, 4, 5))
    found = []
    for influence in (per_position, latents.grad.abs().sum((0, 1))):
        places = (influence > 0).nonzero() - middle
        found.append(int(places.abs().max()))
    return Reach(encode=found[0], decode=found[1])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder_blocks": 2, "decoder_blocks": 3},
        {"middle": "residual"},
        {"patch": 2},
        {"patch": 4, "decoder_blocks": 2},
        {"patch": 8},
        {"factor": 4, "multipliers": [1, 1, 1]},
        {"factor": 4, "multipliers": [1, 1, 1], "patch": 4, "decoder_blocks": 2},
        {"factor": 2, "multipliers": [1, 1]},
        {"factor": 1, "multipliers": [1]},
    ],
)
def test_the_reach_is_what_gradients_show(changes: dict[str, object]) -> None:
    model = build(**changes)
    assert model.reach == seen(model)


def test_the_reach_of_the_demo_is_as_counted_by_hand() -> None:
    """Decoder of kl-f8 with patch 4 and two blocks a level, from the two places of a position at level 0, 0 and 1.

    conv_out and two blocks read 5 more on either side, -5 to 6; the upsampling -6 to 7, which are the positions -3 to
    3; two blocks and conv_in read 5 more.
    """
    model = build(patch=4, decoder_blocks=2)
    assert model.reach is not None
    assert model.reach.decode == 3 + 5


@pytest.mark.parametrize(
    "changes",
    [{"norm": "group", "width": 32}, {"middle": "attention"}, {"attention_factors": [8]}],
)
def test_what_looks_at_all_positions_has_no_reach(changes: dict[str, object]) -> None:
    torch.manual_seed(0)
    assert KLAutoencoder(KLAutoencoder.Config(**SMALL | changes), channels=1).reach is None


def test_pixels_look_at_themselves() -> None:
    assert Identity(Identity.Config(name="identity"), channels=3).reach == Reach(encode=0, decode=0)
