"""Which image sizes a first stage takes."""

from __future__ import annotations

from torch import Tensor

from ldmkit.errors import ConfigError


def check_image_size(name: str, images: Tensor, factor: int) -> None:
    """Raise :class:`ConfigError` with the nearest sizes that work, unless ``factor`` divides both sides."""
    height, width = images.shape[2:]
    if height % factor == 0 and width % factor == 0:
        return
    smaller = [max(side // factor, 1) * factor for side in (height, width)]
    larger = [-(-side // factor) * factor for side in (height, width)]
    sizes = " and ".join(dict.fromkeys("x".join(map(str, size)) for size in (smaller, larger)))
    raise ConfigError(
        f"model '{name}' cannot encode images of {height}x{width} pixels (height x width): both sides must be "
        f"multiples of its factor, {factor}; the nearest that work: {sizes}"
    )
