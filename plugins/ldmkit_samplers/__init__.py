"""Samplers and guidance of ldmkit: how to walk from noise to a latent, and whose estimate to follow."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the parts of this package."""
    return [
        Component("sampler", "ddim", "ldmkit_samplers.ddim:DDIM", "first order, eta adds noise (Song et al. 2021)"),
        Component(
            "sampler", "dpmpp-2m", "ldmkit_samplers.dpmpp_2m:DPMpp2M", "second order, multistep (Lu et al. 2022)"
        ),
        Component("guidance", "cfg", "ldmkit_samplers.cfg:CFG", "classifier-free guidance (Ho and Salimans 2022)"),
        Component("guidance", "none", "ldmkit_samplers.unguided:Unguided", "the conditional estimate as it is"),
    ]
