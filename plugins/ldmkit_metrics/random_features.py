"""Features of a small network with fixed random weights: no file needed, comparable among themselves only."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ldmkit.artifacts.random import generator
from ldmkit.values import to_pixels
from ldmkit_metrics.features import FeatureExtractor

VERSION = 1  # of the features; to be raised with every change of them
WIDTHS = (32, 64, 128)


class RandomFeatures(FeatureExtractor):
    """Random convolutions rank how close sets of pictures are much as trained ones do, on another scale.

    Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", section 3, have compared them.
    """

    mark: ClassVar[str] = "_random"

    def network(self) -> nn.Module:
        """Draw the weights, which are the same on every machine."""
        return RandomConvolutions().eval().requires_grad_(False)

    def protocol(self) -> dict[str, Any]:
        return {"extractor": "random", "weights": f"random, version {VERSION}", "resize": "none"}


class RandomConvolutions(nn.Module):
    """Three convolutions of 3x3 and stride 2, each with a ReLU: uint8 (B, 3, H, W) => (B, 32 + 64 + 128).

    The features are the mean of each channel of each layer over its places. Weights are normal with variance 2 / fan-in
    (He et al. 2015, equation 10), so that activations keep their scale.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for level, (width, wider) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
            draw = generator("ldmkit_metrics.random_features", VERSION, level)
            layer = nn.utils.skip_init(nn.Conv2d, width, wider, 3, stride=2, padding=1)
            weight = draw.standard_normal((wider, width, 3, 3), "float32") * math.sqrt(2 / (9 * width))
            layer.weight = nn.Parameter(torch.from_numpy(weight.astype("float32")))
            layer.bias = nn.Parameter(torch.from_numpy(0.1 * draw.standard_normal(wider).astype("float32")))
            self.layers.append(layer)

    def forward(self, images: Tensor) -> Tensor:
        x, features = to_pixels(images), []
        for layer in self.layers:
            x = F.relu(layer(x))
            features.append(x.mean((2, 3)))
        return torch.cat(features, 1)
