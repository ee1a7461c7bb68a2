"""Features of the Inception network in which papers report FID."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import nn

from ldmkit.errors import CheckpointError
from ldmkit.pretrained import weights
from ldmkit.pretrained.torchvision_operators import importing
from ldmkit_metrics.extras import need
from ldmkit_metrics.features import FeatureExtractor

PUBLISHED = weights.Published(
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)


class InceptionFeatures(FeatureExtractor):
    """The 2048 features behind the last pooling of the Inception-v3 of 2015-12-05, which Heusel et al. 2017 used.

    torch-fidelity's network, with its resize to 299 x 299, bilinear as TensorFlow 1 does it: the numbers are those of
    the original FID code. ``path`` names a file of its weights, safetensors or .pth; None means torch's cache.
    """

    def __init__(self, path: str | None, metric: str) -> None:
        super().__init__()
        key = f"metric.{metric}.features"
        need("torch_fidelity", f"metric '{metric}' with {key}.extractor=inception")
        self.file = weights.find(
            PUBLISHED, path, for_what=f"metric '{metric}'", key=f"{key}.weights", instead=f"{key}.extractor=random"
        )

    def network(self) -> nn.Module:
        """Make torch-fidelity's network with the weights of the file."""
        with importing():
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        found = weights.read(self.file)
        buffer = io.BytesIO()  # torch-fidelity takes no tensors, only what torch.load reads
        torch.save(found, buffer)
        buffer.seek(0)
        try:
            inner = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=buffer)
        except RuntimeError as error:
            raise CheckpointError(
                f"'{self.file}' does not hold the weights of torch-fidelity's Inception-v3"
            ) from error
        return First(inner).eval().requires_grad_(False)

    def protocol(self) -> dict[str, Any]:
        return {
            "extractor": "inception-v3-compat, 2048",
            "weights": f"sha256 {weights.sha256(self.file)}",
            "resize": "299x299, bilinear of TensorFlow 1",
        }


class First(nn.Module):
    """The first of the outputs of ``inner``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first: torch.Tensor = self.inner(images)[0]
        return first
