"""Samplers of ldmkit: how to walk from noise to a latent."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the parts of this package."""
    return [
        Component("sampler", "ddim", "ldmkit_samplers.ddim:DDIM", "first order, eta adds noise (Song et al. 2021)"),
        Component("sampler", "ddpm", "ldmkit_samplers.ddpm:DDPM", "ancestral sampling (Ho et al. 2020)"),
        Component("sampler", "deis", "ldmkit_samplers.deis:DEIS", "multistep in eps (Zhang and Chen 2023)"),
        Component(
            "sampler", "dpmpp-2m", "ldmkit_samplers.dpmpp_2m:DPMpp2M", "second order, multistep (Lu et al. 2022)"
        ),
        Component(
            "sampler",
            "dpmpp-2s",
            "ldmkit_samplers.dpmpp_2s:DPMpp2S",
            "second order, two evaluations a step (Lu et al. 2022)",
        ),
        Component("sampler", "dpmpp-3m", "ldmkit_samplers.dpmpp_3m:DPMpp3M", "third order, multistep (Lu et al. 2022)"),
        Component(
            "sampler", "dpmpp-sde", "ldmkit_samplers.dpmpp_sde:DPMppSDE", "fresh noise, multistep (Lu et al. 2022)"
        ),
        Component(
            "sampler", "heun", "ldmkit_samplers.heun:Heun", "second order, two evaluations a step (Karras et al. 2022)"
        ),
        Component("sampler", "ode", "ldmkit_samplers.ode:ODE", "adaptive steps by torchdiffeq"),
        Component("sampler", "plms", "ldmkit_samplers.plms:PLMS", "pseudo linear multistep (Liu et al. 2022)"),
        Component("sampler", "unipc", "ldmkit_samplers.unipc:UniPC", "predictor and corrector (Zhao et al. 2023)"),
    ]
