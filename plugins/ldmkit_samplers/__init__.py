"""Samplers of ldmkit: how to walk from noise to a latent."""

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
    ]
