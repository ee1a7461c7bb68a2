"""Learned perceptual distance of reconstructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.models import seeded
from ldmkit.protocols import DataSource, Metric
from ldmkit.values import Fields, to_pixels
from ldmkit_metrics import weights
from ldmkit_metrics.extras import importing

HOST = "https://download.pytorch.org/models"
PUBLISHED = {
    network: weights.Published(file, f"{HOST}/{file}")
    for network, file in {
        "vgg": "vgg16-397923af.pth",
        "alex": "alexnet-owt-7be5be79.pth",
        "squeeze": "squeezenet1_1-b8a52dc0.pth",
    }.items()
}
"""The backbones of torchvision on which the heads of the lpips package were trained."""
SMALLEST = {"vgg": 16, "alex": 31, "squeeze": 17}
"""Pixels of a side below which the deepest features of a backbone have no places."""
VERSION = 1  # of the random weights; to be raised with every change of them


class LPIPS(Metric):
    """Distance of deep features of a reconstruction and its original, averaged over the pictures; 0 is equal.

    Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric", equation 1, by the
    lpips package with its heads of version 0.1. The backbone has the weights of torchvision, or fixed random ones,
    which need no file; the number is then called ``lpips_random``, and is on another scale.
    """

    on: ClassVar[str] = "reconstructions"
    section: ClassVar[str] = "first_stage"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        network: Literal["vgg", "alex", "squeeze"]
        backbone: Literal["pretrained", "random"]
        weights: str | None

    def __init__(self, config: Config, data: DataSource) -> None:
        where = f"metric '{config.name}'"
        if data.spec.channels not in (1, 3):
            raise ConfigError(f"{where} takes pictures of 1 or 3 channels, and the data's have {data.spec.channels}")
        if data.spec.size < SMALLEST[config.network]:
            raise ConfigError(
                f"{where} with network={config.network} needs pictures of {SMALLEST[config.network]} pixels or more, "
                f"and the data's have {data.spec.size}; leave it out: metric=[psnr]"
            )
        self.config, self.file = config, None
        if config.backbone == "pretrained":
            key = f"metric.{config.name}"
            self.file = weights.find(
                PUBLISHED[config.network],
                config.weights,
                for_what=where,
                key=f"{key}.weights",
                instead=f"{key}.backbone=random",
            )
        self.device = torch.device("cpu")
        self.total, self.count = 0.0, 0

    def to(self, device: torch.device) -> None:
        self.device = device

    @torch.no_grad()
    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Compare uint8 ``images`` with ``references``, both (B, 1 or 3, H, W); grey is taken as RGB."""
        assert references is not None
        network = perceptual_network(self.config.network, self.file).to(self.device)
        pair = [to_pixels(each.to(self.device)).expand(-1, 3, -1, -1) for each in (images, references)]
        self.total += network(*pair).double().sum().item()
        self.count += len(images)

    def compute(self) -> dict[str, float]:
        """Return ``lpips`` or ``lpips_random``, and the number of pictures; nothing when there was none."""
        name = "lpips_random" if self.file is None else "lpips"
        return {name: self.total / self.count, f"{name}_count": self.count} if self.count else {}

    def protocol(self) -> Mapping[str, Any]:
        """Network and weights."""
        backbone = f"random, version {VERSION}" if self.file is None else f"sha256 {weights.sha256(self.file)}"
        return {"reference": "originals", "network": self.config.network, "weights": backbone, "heads": "lpips 0.1"}


@cache
def perceptual_network(network: str, file: Path | None) -> nn.Module:
    """Make the lpips package's network on a backbone with the weights of ``file``, random ones where it is None.

    It takes pixels in [-1, 1], twice (B, 3, H, W), and gives (B, 1, 1, 1). It is frozen, and in eval mode, since its
    heads have dropout.
    """
    with importing(), seeded(VERSION, "ldmkit_metrics.lpips", network):
        import lpips

        made: nn.Module = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
    if file is not None:
        _load_backbone(made.get_submodule("net"), file)
    return made.eval().requires_grad_(False)


def _load_backbone(backbone: nn.Module, file: Path) -> None:
    """Put torchvision's weights ``features.7.weight`` where lpips has them: ``slice2.7.weight``."""
    found = weights.read(file)
    wanted = {name: f"features.{name.partition('.')[2]}" for name in backbone.state_dict()}
    missing = sorted(set(wanted.values()) - set(found))
    if missing:
        raise CheckpointError(f"'{file}' lacks {missing[0]}: it does not hold the weights of the network asked for")
    try:
        backbone.load_state_dict({name: found[there] for name, there in wanted.items()})
    except RuntimeError as error:
        raise CheckpointError(f"'{file}' does not hold the weights of the network asked for") from error
