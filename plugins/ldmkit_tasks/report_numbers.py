"""How the report writes numbers: shares with their uncertainty, decibels, times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, Mapping[str, float]]
"""Measured numbers by section and name."""

LABELS = {
    ("first_stage", "psnr"): "Reconstruction PSNR",
    ("first_stage", "ssim"): "Reconstruction SSIM",
    ("first_stage", "lpips"): "Reconstruction LPIPS",
    ("first_stage", "lpips_random"): "Reconstruction LPIPS, random backbone",
    ("first_stage", "rfid"): "Reconstruction FID",
    ("first_stage", "rfid_random"): "Reconstruction FID, random features",
    ("first_stage", "verified"): "Reconstructions verified",
    ("first_stage", "codebook_usage"): "Codes used by held-out images",
    ("prompt", "all"): "Prompts obeyed in full",
    ("super_resolution", "psnr"): "Super-resolution PSNR",
    ("super_resolution", "bicubic_psnr"): "PSNR of bicubic enlargement",
    ("super_resolution", "lpips"): "Super-resolution LPIPS",
    ("super_resolution", "bicubic_lpips"): "LPIPS of bicubic enlargement",
    ("super_resolution", "lpips_random"): "Super-resolution LPIPS, random backbone",
    ("super_resolution", "bicubic_lpips_random"): "LPIPS of bicubic enlargement, random backbone",
    ("inpainting", "known_error"): "Error of known pixels as drawn, of 255",
    ("samples", "fid"): "FID",
    ("samples", "fid_random"): "FID, random features",
}
"""Names for the headlines, in their order."""
TILES = 6


@dataclass(frozen=True)
class Figure:
    """A number as it is shown: what it is, the number, its unit, and what is to be known beside it."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Share:
    """A share of ``count`` pictures with its 95% interval, all in 0..1; ``count`` 0 where it is not known."""

    name: str
    value: float
    low: float
    high: float
    count: int


def is_count(name: str) -> bool:
    """Whether a metric only says how many pictures were measured."""
    return name == "count" or name.endswith("_count")


def is_share(section: str, name: str) -> bool:
    """Whether a metric is a share, of pictures or of codes."""
    if is_count(name):
        return False
    if section == "prompt":
        return not name.endswith("_iou")
    return name in {"verified", "codebook_usage"} or name.startswith(("precision", "recall"))


def share(name: str, metrics: Mapping[str, float]) -> Share:
    """Return the share ``name`` with its interval, from the count that stands beside it in ``metrics``."""
    count = int(metrics.get(f"{name}_count", metrics.get("count", 0)))
    return Share(name, metrics[name], *wilson(metrics[name], count), count)


def wilson(value: float, count: int) -> tuple[float, float]:
    """Bounds of a share's 95% interval (Wilson 1927, "Probable inference", equation 1); 0 and 1 without a count."""
    if count <= 0:
        return 0.0, 1.0
    z2 = 1.959964**2
    middle = (value + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (value * (1 - value) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def headline(metrics: Metrics, seconds: float) -> list[Figure]:
    """Choose the numbers for the top: those of ``LABELS``, else whatever was measured, and the time."""
    known = [(section, name) for section, name in LABELS if name in metrics.get(section, {})]
    other = [(section, name) for section, values in metrics.items() for name in values if not is_count(name)]
    chosen = known or other
    tiles = [figure(section, name, metrics[section]) for section, name in chosen[:TILES]]
    return [*tiles, Figure("Time of all stages", *clock_face(seconds))] if seconds else tiles


def figure(section: str, name: str, metrics: Mapping[str, float]) -> Figure:
    """Write one measured number."""
    label = LABELS.get((section, name), f"{section.replace('_', ' ')}: {name}")
    if is_share(section, name):
        found = share(name, metrics)
        note = f"of {found.count}, 95% interval {100 * found.low:.0f} to {100 * found.high:.0f}%" if found.count else ""
        return Figure(label, percent(found.value), "%", note)
    if name.endswith("psnr"):
        return Figure(label, f"{metrics[name]:.1f}", "dB", _over(metrics, name))
    return Figure(label, plain(metrics[name]), "", _over(metrics, name))


def _over(metrics: Mapping[str, float], name: str) -> str:
    count = metrics.get(f"{name}_count")
    return f"mean over {int(count)} pictures" if count else ""


def percent(value: float) -> str:
    """Write a share in percent, with one decimal place, and none where it is exactly 0 or 1."""
    return f"{100 * value:.0f}" if value in (0.0, 1.0) else f"{100 * value:.1f}"


def plain(value: Any) -> str:
    """Write any number with four digits; whole numbers as they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def clock(seconds: float) -> str:
    """Write seconds as ``12.3 s``, ``4:05 min`` or ``2:03 h``."""
    return " ".join(clock_face(seconds))


def clock_face(seconds: float) -> tuple[str, str]:
    """Return what :func:`clock` writes as number and unit."""
    if seconds < 59.95:
        return f"{seconds:.1f}", "s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return (f"{hours}:{minutes_left:02}", "h") if hours else (f"{minutes}:{rest:02}", "min")
