"""Where the weights of VGG16 come from: a file that is named, or torch's cache. Nothing is downloaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from ldmkit.errors import ConfigError

FILE = "vgg16-397923af.pth"
SHA256 = "397923af"
"""The first digits of the file's SHA-256, which its name repeats."""

SOURCE = f"https://download.pytorch.org/models/{FILE}"


def vgg16_features(named: Path | None, *, loss: str) -> dict[str, Tensor]:
    """The convolutions of torchvision's VGG16 for ImageNet, from the file ``named`` or from torch's cache.

    ``loss`` is the name in messages. Raises ConfigError that says which file is missing, where it comes from and what
    else to type; or that a file is not the one it should be.
    """
    path = named or Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file():
        raise ConfigError(
            f"loss '{loss}': perceptual=lpips needs the weights of VGG16, and there is no '{path}'. Put {SOURCE} "
            f"(528 MB, SHA-256 {SHA256}...) there or name it by loss.perceptual_file=FILE; without it: "
            f"loss.perceptual=random or loss.perceptual=none"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(SHA256):
        raise ConfigError(
            f"loss '{loss}': '{path}' is not {FILE}: its SHA-256 is {digest[:8]}... in place of {SHA256}...; "
            f"get it from {SOURCE}"
        )
    weights: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    return {name: weight for name, weight in weights.items() if name.startswith("features.")}
