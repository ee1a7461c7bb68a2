"""Which image sizes a first stage takes."""

from __future__ import annotations

from ldmkit.errors import ConfigError


def check_image_size(name: str, height: int, width: int, factor: int) -> None:
    """Raise :class:`ConfigError` with the nearest sizes that work, unless ``factor`` divides height and width."""
    if height % factor == 0 and width % factor == 0:
        return
    smaller = [max(side // factor, 1) * factor for side in (height, width)]
    larger = [-(-side // factor) * factor for side in (height, width)]
    sizes = " and ".join(dict.fromkeys("x".join(map(str, size)) for size in (smaller, larger)))
    raise ConfigError(
        f"model '{name}' cannot encode images of {height}x{width} pixels (height x width): both sides must be "
        f"multiples of its factor, {factor}; the nearest that work: {sizes}"
    )
