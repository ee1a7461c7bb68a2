"""Where a run computes, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from ldmkit.errors import ConfigError


@dataclass(frozen=True)
class Compute:
    """A device and whether the forward pass runs under bfloat16 autocast; weights are always float32."""

    device: torch.device
    bf16: bool

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which a stage computes its loss."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def choose(device: str, precision: str, threads: int) -> Compute:
    """Resolve the config's ``device``, ``precision`` and ``threads``; ConfigError names the devices there are.

    Also lets this process treat denormal floats as zero. In a half-trained denoiser vanishing softmax weights make
    gradients denormal, for which a CPU needs microcode: the backward pass took 232 ms with them and 90 ms without.
    """
    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    name = device if device != "auto" else next((d for d in ("cuda", "mps") if d in there), "cpu")
    if name not in there:
        raise ConfigError(f"device={device} is not here. There is: auto, {', '.join(there)}")
    if precision not in {"auto", "fp32", "bf16"}:
        raise ConfigError(f"precision={precision} is unknown. There is: auto, fp32, bf16")
    chosen = torch.device(name)
    return Compute(chosen, precision == "bf16" or (precision == "auto" and _fast_in_bf16(chosen)))


def _fast_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or _is_amd_with_bf16())


def _is_amd_with_bf16() -> bool:
    """Without AMX, Intel's AVX512-BF16 runs at half the rate of fp32; AMD's, from Zen 4 on, at twice the rate."""
    if not torch.cpu._is_avx512_bf16_supported():
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text()
