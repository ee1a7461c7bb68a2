"""LPIPS: the distance of deep features, as a term of a loss and as a metric."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import generator
from ldmkit.errors import CheckpointError
from ldmkit.pretrained.torchvision_operators import importing
from ldmkit.pretrained.weights import Published, find, read

Backbone = Literal["vgg", "alex", "squeeze"]

HOST = "https://download.pytorch.org/models"
PUBLISHED = {
    backbone: Published(file, f"{HOST}/{file}")
    for backbone, file in {
        "vgg": "vgg16-397923af.pth",
        "alex": "alexnet-owt-7be5be79.pth",
        "squeeze": "squeezenet1_1-b8a52dc0.pth",
    }.items()
}
"""The networks of torchvision on which the heads of the lpips package were trained."""
SMALLEST = {"vgg": 16, "alex": 31, "squeeze": 17}
"""Pixels of a side below which the deepest features of a backbone have no places."""
RANDOM_VERSION = 2
"""Of the random weights; to be raised with every change of them."""


class PerceptualDistance(nn.Module):
    """LPIPS of the package ``lpips``: its network, its calibrated heads of version 0.1 (Zhang et al. 2018,
    "The unreasonable effectiveness of deep features as a perceptual metric", equation 1).

    ``features`` are the backbone's weights by torchvision's names (``features.0.weight``); None draws them at random,
    always the same ones. The network only measures: it stays in eval mode (its heads have dropout), its weights get no
    gradient, and they are neither saved with what holds it nor averaged. Raises CheckpointError where ``features`` are
    not those of the backbone.
    """

    def __init__(self, backbone: Backbone, features: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        network = _lpips_without_weights(backbone)
        # net.slice1.0.weight => features.0.weight
        names = {name: f"features.{name.split('.', 2)[2]}" for name in network.state_dict() if name.startswith("net.")}
        shapes = {name: network.state_dict()[name].shape for name in names}
        if features is None:
            weights = {name: _drawn(backbone, names[name], shape) for name, shape in shapes.items()}
        else:
            weights = {name: _taken(features, names[name], shape) for name, shape in shapes.items()}
        network.load_state_dict({**weights, **_heads(backbone)}, assign=True)
        self.network = _frozen(network)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the module around it does."""
        return super().train(False)

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Pixels in [-1, 1], (B, 1 or 3, H, W) both, H and W :data:`SMALLEST` or more => (B,), in fp32 at least."""
        with torch.autocast(images.device.type, enabled=False):
            exact = torch.promote_types(images.dtype, torch.float32)
            distances: Tensor = self.network(
                *(each.to(exact).expand(-1, 3, -1, -1) for each in (images, reconstructions))
            )
        return distances.flatten()


def find_backbone(backbone: Backbone, given: str | Path | None, *, for_what: str, key: str, instead: str) -> Path:
    """The file of torchvision's weights of ``backbone``; arguments and errors are those of :func:`weights.find`."""
    return find(PUBLISHED[backbone], given, for_what=for_what, key=key, instead=instead)


def pretrained(backbone: Backbone, file: Path) -> PerceptualDistance:
    """LPIPS on the weights in ``file``; CheckpointError where it does not hold those of ``backbone``."""
    try:
        return PerceptualDistance(backbone, read(file))
    except CheckpointError as error:
        raise CheckpointError(f"'{file}' does not hold the weights of the network asked for: {error}") from error


def _lpips() -> Any:
    """The package, imported late: it brings torchvision and scipy along."""
    with importing():
        import lpips
    return lpips


def _lpips_without_weights(backbone: Backbone) -> nn.Module:
    """The network on the meta device: VGG16's classifier, nine tenths of it, is never drawn."""
    lpips = _lpips()
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # torchvision's, about how lpips builds the backbone
        network: nn.Module = lpips.LPIPS(net=backbone, pretrained=False, pnet_rand=True, verbose=False)
    return network


def _heads(backbone: Backbone) -> dict[str, Tensor]:
    """The calibrated weights of the features' channels, and the scaling of pixels, as the package has them."""
    lpips = _lpips()
    file = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{backbone}.pth"
    lin: dict[str, Tensor] = read(file)
    listed = {
        f"lins.{name.removeprefix('lin')}": weight for name, weight in lin.items()
    }  # the package names them twice
    scaling = lpips.lpips.ScalingLayer().state_dict()
    return {**lin, **listed, **{f"scaling_layer.{name}": value for name, value in scaling.items()}}


def _drawn(backbone: Backbone, name: str, shape: torch.Size) -> Tensor:
    """He et al. 2015 by the fan-out, as torchvision begins VGG16; biases are 0."""
    if len(shape) == 1:
        return torch.zeros(shape)
    deviation = (2 / (shape[0] * shape[2] * shape[3])) ** 0.5
    drawn = generator("lpips", RANDOM_VERSION, backbone, name).standard_normal(shape, "float32")
    return torch.from_numpy(drawn) * deviation


def _taken(features: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    if name not in features:
        raise CheckpointError(f"there is no '{name}'")
    if features[name].shape != shape:
        raise CheckpointError(f"'{name}' is {tuple(features[name].shape)} but expected {tuple(shape)}")
    return features[name]


def _frozen(network: nn.Module) -> nn.Module:
    """Turn every weight into a buffer that is not saved: it moves with the module; nothing trains or averages it."""
    for module in network.modules():
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            delattr(module, name)
            module.register_buffer(name, value.detach(), persistent=False)
    return network
