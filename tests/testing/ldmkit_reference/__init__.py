"""The smallest part of every kind that does all that the kit asks. The kit's own tests break them one by one."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl

PARTS = {
    "model": "first_stages:Half",
    "loss": "first_stages:Squared",
    "cond": "conditioners:Words",
    "denoiser": "denoisers:Mixer",
    "objective": "objectives:X0",
    "guidance": "samplers:Halfway",
    "sampler": "samplers:Ancestral",
    "data": "data:Dots",
    "metric": "metrics:Error",
    "logger": "loggers:Diary",
    "task": "tasks:Nothing",
}


@hookimpl
def components() -> list[Component]:
    """Return one part of every kind, each called ``reference``."""
    return [Component(kind, "reference", f"ldmkit_reference.{target}", "small") for kind, target in PARTS.items()]
