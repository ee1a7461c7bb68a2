"""A conditioner that reads captions by a frozen text encoder of Hugging Face's transformers."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the parts of this package."""
    return [Component("cond", "hf-text", "ldmkit_hf_text.hf_text:HFText", "a caption, read by a frozen CLIP or T5")]
