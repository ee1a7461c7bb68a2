"""Guidance of ldmkit: how several estimates become the one that a sampler follows."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the parts of this package."""
    return [
        Component("guidance", "cfg", "ldmkit_guidance.cfg:CFG", "classifier-free guidance (Ho and Salimans 2022)"),
        Component(
            "guidance",
            "cfg-zero-star",
            "ldmkit_guidance.cfg_zero_star:CFGZeroStar",
            "the null estimate fitted to the conditional one (Fan et al. 2025)",
        ),
        Component(
            "guidance",
            "autoguidance",
            "ldmkit_guidance.autoguidance:Autoguidance",
            "away from the estimate of a weaker model (Karras et al. 2024)",
        ),
        Component(
            "guidance",
            "pag",
            "ldmkit_guidance.pag:PAG",
            "away from the estimate without self-attention (Ahn et al. 2024)",
        ),
        Component("guidance", "none", "ldmkit_guidance.unguided:Unguided", "the conditional estimate as it is"),
    ]
