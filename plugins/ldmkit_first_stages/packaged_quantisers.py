"""The quantisers of the package vector-quantize-pytorch, which is imported only where one of them is built."""

from __future__ import annotations

from typing import Any

from einops import rearrange
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.values import code_usage
from ldmkit_first_stages.blocks import at_least_fp32
from ldmkit_first_stages.quantiser import Quantised, Quantiser, counts

CLASSES = {"fsq": "FSQ", "lfq": "LFQ", "residual": "ResidualVQ"}


class Packaged(Quantiser):
    """``quantiser`` of the package, with codebooks of ``size`` entries; in training mode it learns in its own ways.

    fsq: finite scalar quantisation (Mentzer et al. 2023), nothing to learn; lfq: lookup-free quantisation (Yu et al.
    2023), whose penalty is its entropy and commitment terms; residual: a chain of codebooks, each for what those before
    left over (Zeghidour et al. 2021, algorithm 1), which are moving averages and whose penalty is commitment.
    """

    def __init__(self, quantiser: nn.Module, size: int) -> None:
        super().__init__()
        self.quantiser, self.size = quantiser, size

    def forward(self, latents: Tensor) -> Tensor:
        """See :meth:`Quantiser.forward`."""
        return self._apply_to(latents)[0]

    def codes(self, latents: Tensor) -> Tensor:
        """See :meth:`Quantiser.codes`."""
        return self._apply_to(latents)[1]

    def learn(self, latents: Tensor, random: RowRandom) -> Quantised:
        """See :meth:`Quantiser.learn`."""
        quantised, codes, penalty = self._apply_to(latents)
        return Quantised(quantised, penalty, code_usage(counts(codes, self.size)))

    def _apply_to(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Quantised latents, codes (B, h, w, q), and what the package calls its loss."""
        height = latents.shape[2]
        rows, codes, *losses = self.quantiser(rearrange(at_least_fp32(latents), "b c h w -> b (h w) c"))
        quantised = rearrange(rows, "b (h w) c -> b c h w", h=height).to(latents.dtype)
        codes = codes if codes.ndim == 3 else codes.unsqueeze(-1)
        penalty = losses[0].sum() if losses else None
        return quantised, rearrange(codes, "b (h w) q -> b h w q", h=height).long(), penalty


def packaged(
    kind: str,
    *,
    name: str,
    channels: int,
    codes: int,
    codebooks: int,
    levels: list[int],
    commitment: float,
    entropy_weight: float,
) -> Packaged:
    """Build ``kind`` for model ``name``; raises :class:`ConfigError` where the package or a power of two is missing."""
    try:
        import vector_quantize_pytorch as package
    except ImportError as error:
        raise ConfigError(
            f"model '{name}': quantiser '{kind}' needs the package vector-quantize-pytorch ({error}); "
            f"type: pip install 'ldmkit[quantisers]'"
        ) from error
    quantiser: Any = getattr(package, CLASSES[kind])
    if kind == "fsq":
        built = quantiser(levels=levels, dim=channels)
        return Packaged(built, built.codebook_size)
    if kind == "lfq":
        if codes & (codes - 1):
            raise ConfigError(f"model '{name}': codes is {codes} but quantiser 'lfq' needs a power of two")
        weights = {"commitment_loss_weight": commitment, "entropy_loss_weight": entropy_weight}
        return Packaged(quantiser(dim=channels, codebook_size=codes, **weights), codes)
    built = quantiser(
        dim=channels,
        num_quantizers=codebooks,
        codebook_size=codes,
        commitment_weight=commitment,
        threshold_ema_dead_code=2,
    )
    return Packaged(built, codes)
