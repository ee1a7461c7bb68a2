"""PatchGAN: the shapes of the published discriminators, what a logit sees, how it begins."""

import pytest
import torch
from ldmkit_first_stages.patch_discriminator import PatchDiscriminator, smallest_side


def normalised(index: int, out_channels: int, in_channels: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a convolution without bias at ``index``, and of the batch normalisation behind it."""
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {
        f"main.{index}.weight": (out_channels, in_channels, 4, 4),
        **{f"main.{index + 1}.{name}": (out_channels,) for name in vectors},
        f"main.{index + 1}.num_batches_tracked": (),
    }


FIRST = {"main.0.weight": (64, 3, 4, 4), "main.0.bias": (64,)}
# Keys and shapes below `loss.discriminator` in the published checkpoints of 3 layers (kl-f8) and 2 layers (vq-f8).
PUBLISHED = {
    3: {
        **FIRST,
        **normalised(2, 128, 64),
        **normalised(5, 256, 128),
        **normalised(8, 512, 256),
        "main.11.weight": (1, 512, 4, 4),
        "main.11.bias": (1,),
    },
    2: {
        **FIRST,
        **normalised(2, 128, 64),
        **normalised(5, 256, 128),
        "main.8.weight": (1, 256, 4, 4),
        "main.8.bias": (1,),
    },
}


@pytest.mark.parametrize("layers", PUBLISHED)
def test_it_has_the_keys_and_shapes_of_the_published_discriminators(layers: int) -> None:
    shapes = {
        name: tuple(value.shape) for name, value in PatchDiscriminator(3, width=64, layers=layers).state_dict().items()
    }
    assert shapes == PUBLISHED[layers]


def test_three_layers_have_the_known_number_of_weights() -> None:
    # 16 * (3*64 + 64*128 + 128*256 + 256*512 + 512) in convolutions, 64 + 1 biases, 2 * (128 + 256 + 512) in norms
    network = PatchDiscriminator(3, width=64, layers=3)
    assert sum(weight.numel() for weight in network.parameters()) == 2_765_633


def test_widths_stop_growing_at_eight_times_the_first() -> None:
    widths = [m.out_channels for m in PatchDiscriminator(1, width=4, layers=5).main if isinstance(m, torch.nn.Conv2d)]
    assert widths == [4, 8, 16, 32, 32, 32, 1]


@pytest.mark.parametrize(("layers", "pixels"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_as_many_pixels_as_the_arithmetic_of_convolutions_says(layers: int, pixels: int) -> None:
    network = PatchDiscriminator(1, width=8, layers=layers).eval()
    images = torch.randn(1, 1, 160, 160, requires_grad=True)
    logits = network(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = images.grad[0, 0] != 0
    assert (int(seen.any(1).sum()), int(seen.any(0).sum())) == (pixels, pixels)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_image_yields_one_logit_and_a_smaller_one_none(layers: int) -> None:
    side = smallest_side(layers)
    network = PatchDiscriminator(3, width=8, layers=layers)
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 1, 1, 1)
    with pytest.raises(RuntimeError):
        network(torch.zeros(2, 3, side - 1, side - 1))


def test_it_begins_as_in_the_paper() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(3, width=64, layers=3)
    assert network.main[5].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert network.main[5].weight.mean().item() == pytest.approx(0, abs=2e-4)
    gains = torch.cat([m.weight for m in network.main if isinstance(m, torch.nn.BatchNorm2d)])
    assert gains.mean().item() == pytest.approx(1, abs=5e-3)
    assert gains.std().item() == pytest.approx(0.02, rel=0.1)


def test_it_takes_images_of_any_number_of_channels() -> None:
    for channels in (1, 3, 4):
        assert PatchDiscriminator(channels, width=8, layers=2)(torch.zeros(2, channels, 32, 48)).shape == (2, 1, 6, 10)
