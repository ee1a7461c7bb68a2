"""The convolutional blocks of the UNet: residual blocks and changes of resolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit_denoisers.layers import Norm, Pointwise, zeroed


def halve(features: Tensor) -> Tensor:
    """Mean of each 2x2 square: (B, C, h, w) => (B, C, h / 2, w / 2)."""
    return F.avg_pool2d(features, 2)


def double(features: Tensor) -> Tensor:
    """Nearest neighbour: (B, C, h, w) => (B, C, 2h, 2w)."""
    return F.interpolate(features, scale_factor=2, mode="nearest")


RESAMPLE = {"down": halve, "up": double}


class ResBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice, beside a skip connection; the time goes in between (ADM, appendix A).

    With ``scale_shift`` the time scales and shifts behind the second norm, otherwise it is added in front of it.
    ``resample`` is ``"down"``, ``"up"`` or None, and changes the resolution in front of the first convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        time_width: int,
        norm: str,
        dropout: float,
        scale_shift: bool,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.in_layers = nn.Sequential(Norm(norm, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, (2 if scale_shift else 1) * outputs))
        last = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.out_layers = nn.Sequential(Norm(norm, outputs), nn.SiLU(), nn.Dropout(dropout), last)
        self.skip_connection = nn.Identity() if inputs == outputs else Pointwise(inputs, outputs)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """Features (B, inputs, h, w) and the embedded time (B, time_width) => (B, outputs, h', w')."""
        norm, silu, convolution = self.in_layers
        hidden = silu(norm(features))
        if self.resample:
            hidden, features = RESAMPLE[self.resample](hidden), RESAMPLE[self.resample](features)
        hidden = self.timed(convolution(hidden), self.emb_layers(time)[:, :, None, None])
        return self.skip(features) + hidden

    def timed(self, hidden: Tensor, time: Tensor) -> Tensor:
        """The second half, with the projected ``time`` (B, outputs or 2 * outputs, 1, 1)."""
        if not self.scale_shift:
            return self.out_layers(hidden + time)
        norm, *rest = self.out_layers
        scale, shift = time.chunk(2, dim=1)
        hidden = norm(hidden) * (1 + scale) + shift
        for layer in rest:
            hidden = layer(hidden)
        return hidden

    def skip(self, features: Tensor) -> Tensor:
        """The features, projected where the width changes."""
        if isinstance(self.skip_connection, nn.Identity):
            return features
        return self.skip_connection(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) => (B, C, h / 2, w / 2)."""
        return self.op(features)


class Upsample(nn.Module):
    """Nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) => (B, C, 2h, 2w)."""
        return self.conv(double(features))
