"""Denoisers: the networks that remove noise in the latent grid."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the denoisers of this package."""
    return [
        Component(
            "denoiser", "dit", "ldmkit_denoisers.dit:DiT", "diffusion transformer (DiT), or two of them joined (MMDiT)"
        ),
        Component(
            "denoiser",
            "unet",
            "ldmkit_denoisers.unet:UNet",
            "ADM UNet with spatial transformers (LDM, Stable Diffusion)",
        ),
        Component("denoiser", "uvit", "ldmkit_denoisers.uvit:UViT", "transformer with long skip connections (U-ViT)"),
    ]
