"""A block of the UNet: layers in a row, between two places where the features are kept."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ldmkit_denoisers.attention import PlainAttention
from ldmkit_denoisers.checkpointing import run
from ldmkit_denoisers.prepared import Prepared
from ldmkit_denoisers.residual import ResBlock
from ldmkit_denoisers.transformer import SpatialTransformer


class Block(nn.ModuleList):
    """Layers in a row; each takes the features, and what it needs of the time and of the tokens.

    With ``checkpointing`` nothing inside is kept for the backward pass, which computes it again (Chen et al. 2016),
    with the same random numbers where there is dropout.
    """

    def __init__(self, layers: Iterable[nn.Module], checkpointing: bool) -> None:
        super().__init__(layers)
        self.checkpointing = checkpointing

    def forward(self, features: Tensor, time: Tensor, prepared: Prepared) -> Tensor:
        """(B, C, h, w) => (B, C', h', w')."""
        computed: Tensor = run(self.compute, features, time, prepared, checkpointing=self.checkpointing)
        return computed

    def compute(self, features: Tensor, time: Tensor, prepared: Prepared) -> Tensor:
        """(B, C, h, w) => (B, C', h', w'), keeping all that a backward pass needs."""
        perturbed = prepared.perturbed is not None
        for layer in self:
            match layer:
                case ResBlock():
                    features = layer(features, time)
                case SpatialTransformer():
                    features = layer(features, prepared.keys_values[layer.index], prepared.bias, perturbed)
                case PlainAttention():
                    features = layer(features, perturbed)
                case _:
                    features = layer(features)
        return features
