"""Objectives of ldmkit: what the network predicts, over which noise levels, and how its error counts."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the parts of this package."""
    return [
        Component("objective", "edm", "ldmkit_objectives.edm:EDM", "preconditioned as in EDM (Karras et al. 2022)"),
        Component("objective", "eps", "ldmkit_objectives.eps:Eps", "predict the noise (Ho et al. 2020)"),
        Component("objective", "flow", "ldmkit_objectives.flow:Flow", "rectified flow (Liu et al. 2022)"),
        Component("objective", "v", "ldmkit_objectives.v:V", "predict the velocity (Salimans and Ho 2022)"),
        Component("objective", "x0", "ldmkit_objectives.x0:X0", "predict the clean latent (Salimans and Ho 2022)"),
    ]
