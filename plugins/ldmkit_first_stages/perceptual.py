"""LPIPS as a term of a loss."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import generator
from ldmkit.torchvision_operators import declare_torchvision_operators
from ldmkit_first_stages.blocks import at_least_fp32

SMALLEST_SIDE = 16
"""Pixels a side that VGG16 needs: it halves them four times."""


class PerceptualDistance(nn.Module):
    """LPIPS of the package ``lpips``: its network, its calibrated heads, the features of VGG16 (Zhang et al. 2018,
    "The unreasonable effectiveness of deep features as a perceptual metric", equation 1).

    ``features`` are VGG16's weights by torchvision's names (``features.0.weight``); None draws them at random, always
    the same ones. The network only measures: it stays in eval mode (its heads have dropout), its weights get no
    gradient, and they are neither saved with the loss nor averaged.
    """

    def __init__(self, features: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        network = _lpips_without_weights()
        wanted = {name: weight for name, weight in network.state_dict().items() if name.startswith("net.")}
        # net.slice1.0.weight => features.0.weight
        source = {name: f"features.{name.split('.', 2)[2]}" for name in wanted}
        backbone = {
            name: _drawn(source[name], weight.shape) if features is None else features[source[name]]
            for name, weight in wanted.items()
        }
        self.network = _frozen(_filled(network, {**backbone, **_heads()}))

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the module around it does."""
        return super().train(False)

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Pixels in [-1, 1], (B, 1 or 3, H, W) both, H and W 16 or more => distances (B,), in fp32 at least."""
        with torch.autocast(images.device.type, enabled=False):
            pair = (at_least_fp32(each).expand(-1, 3, -1, -1) for each in (images, reconstructions))
            distances: Tensor = self.network(*pair)
        return distances.flatten()


def _lpips() -> Any:
    """The package, imported late: it brings torchvision and scipy along."""
    declare_torchvision_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about image codecs that nobody asks for
        import lpips
    return lpips


def _lpips_without_weights() -> nn.Module:
    """The network on the meta device: VGG16's classifier, nine tenths of it, is never drawn."""
    lpips = _lpips()
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # torchvision's, about how lpips builds VGG16
        network: nn.Module = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    return network


def _heads() -> dict[str, Tensor]:
    """The calibrated weights of the five features' channels, and the scaling of pixels, as the package has them."""
    lpips = _lpips()
    file = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    heads: dict[str, Tensor] = torch.load(file, weights_only=True, map_location="cpu")
    scaling = lpips.lpips.ScalingLayer().state_dict()
    return {**heads, **{f"scaling_layer.{name}": value for name, value in scaling.items()}}


def _drawn(name: str, shape: torch.Size) -> Tensor:
    """He et al. 2015 by the fan-out, as torchvision begins VGG16; biases are 0."""
    if len(shape) == 1:
        return torch.zeros(shape)
    deviation = (2 / (shape[0] * shape[2] * shape[3])) ** 0.5
    return torch.from_numpy(generator("lpips", name).standard_normal(shape, "float32")) * deviation


def _filled(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Put ``weights`` in place; RuntimeError where they do not fit or do not suffice."""
    network.load_state_dict(weights, strict=False, assign=True)
    empty = [name for name, value in network.state_dict().items() if value.is_meta]
    if empty:
        raise RuntimeError(f"LPIPS lacks weights: {', '.join(empty)}")
    return network


def _frozen(network: nn.Module) -> nn.Module:
    """Turn every weight into a buffer that is not saved: it moves with the module; nothing trains or averages it."""
    for module in network.modules():
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            delattr(module, name)
            module.register_buffer(name, value.detach(), persistent=False)
    return network
