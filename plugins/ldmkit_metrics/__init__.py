"""What measures reconstructions and samples."""

from __future__ import annotations

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Announce the metrics."""
    return [
        Component("metric", "psnr", "ldmkit_metrics.psnr:PSNR", "peak signal-to-noise ratio of reconstructions, dB"),
        Component("metric", "ssim", "ldmkit_metrics.ssim:SSIM", "structural similarity of reconstructions"),
        Component("metric", "verified", "ldmkit_metrics.verified:Verified", "share of reconstructions still right"),
        Component("metric", "prompt", "ldmkit_metrics.prompt:Prompt", "share of samples that obey their prompt"),
    ]
