"""A block of the UNet: layers in a row, between two places where the features are kept."""

from __future__ import annotations

from torch import Tensor, nn

from ldmkit_denoisers.prepared import Prepared
from ldmkit_denoisers.residual import ResBlock
from ldmkit_denoisers.transformer import SpatialTransformer


class Block(nn.ModuleList):
    """Layers in a row; each takes the features, and what it needs of the time and of the tokens."""

    def forward(self, features: Tensor, time: Tensor, prepared: Prepared) -> Tensor:
        """(B, C, h, w) => (B, C', h', w')."""
        for layer in self:
            match layer:
                case ResBlock():
                    features = layer(features, time)
                case SpatialTransformer():
                    features = layer(features, prepared.keys_values[layer.index], prepared.bias)
                case _:
                    features = layer(features)
        return features
