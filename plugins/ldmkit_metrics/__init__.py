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
        Component("metric", "lpips", "ldmkit_metrics.lpips:LPIPS", "perceptual distance of reconstructions"),
        Component("metric", "rfid", "ldmkit_metrics.rfid:RFID", "Frechet distance of reconstructions and originals"),
        Component("metric", "verified", "ldmkit_metrics.verified:Verified", "share of reconstructions still right"),
        Component("metric", "prompt", "ldmkit_metrics.prompt:Prompt", "share of samples that obey their prompt"),
        Component(
            "metric",
            "super-resolution",
            "ldmkit_metrics.super_resolution:SuperResolution",
            "PSNR and LPIPS of samples against the originals, beside bicubic enlargement",
        ),
        Component(
            "metric", "known-pixels", "ldmkit_metrics.known_pixels:KnownPixels", "error of what was not to change"
        ),
        Component("metric", "fid", "ldmkit_metrics.fid:FID", "Frechet distance of samples and images"),
        Component("metric", "kid", "ldmkit_metrics.kid:KID", "kernel distance of samples and images"),
        Component(
            "metric",
            "precision-recall",
            "ldmkit_metrics.precision_recall:PrecisionRecall",
            "share of samples among the images, and of images among the samples",
        ),
    ]
