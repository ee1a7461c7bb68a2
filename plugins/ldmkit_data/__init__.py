"""Data sources: where images and their fields come from."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the data sources of this package."""
    return [
        Component("data", "folder", "ldmkit_data.folder:Folder", "your own images, captions, classes and maps"),
        Component("data", "shapes", "ldmkit_data.shapes:Shapes", "procedural, captioned, verifiable shapes"),
    ]
