"""Conditioners of ldmkit: what the denoiser is told about a picture."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the parts of this package."""
    return [
        Component("cond", "class", "ldmkit_conditioners.class_label:ClassLabel", "a label, as one token or a vector"),
        Component("cond", "image", "ldmkit_conditioners.image:Image", "a reference picture, as tokens or a vector"),
        Component("cond", "inpaint", "ldmkit_conditioners.inpaint:Inpaint", "the known part of a picture, and a mask"),
        Component(
            "cond", "layout", "ldmkit_conditioners.layout:Layout", "boxes with labels, as tokens of a transformer"
        ),
        Component("cond", "low-res", "ldmkit_conditioners.low_res:LowRes", "the picture at a lower resolution"),
        Component("cond", "scalar", "ldmkit_conditioners.scalar:Scalar", "any number, as a vector or one token"),
        Component("cond", "semantic", "ldmkit_conditioners.semantic:Semantic", "a map of classes, at latent size"),
        Component("cond", "size", "ldmkit_conditioners.size:Size", "original size and crop, as a vector"),
        Component("cond", "text", "ldmkit_conditioners.text:Text", "a caption, as tokens of a transformer"),
    ]
