"""One geometry for an image and its map: any rectangle => a square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Square:
    """Scales to ``size`` pixels a side: the central square (``crop``) or the whole image (``squash``).

    The central square of an image of w x h pixels begins at ((w - s) // 2, (h - s) // 2) with s = min(w, h). Pixels are
    scaled by ``filter`` with its support stretched by the scale, so it is antialiased; maps by the nearest pixel.
    """

    size: int
    resize: str
    filter: str

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what is kept, in pixels."""
        if self.resize == "squash":
            return 0, 0, width, height
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side

    def framing(self, width: int, height: int) -> dict[str, float]:
        """Fields of an image of ``width`` x ``height`` pixels that say what it was before it was made a square.

        What the crop takes away at the top and left is in pixels of the scaled image (Podell et al. 2023, section 2.2).
        """
        left, top, right, bottom = self.box(width, height)
        return {
            "original_height": height,
            "original_width": width,
            "crop_top": top * self.size / (bottom - top),
            "crop_left": left * self.size / (right - left),
        }

    def enlarges(self, width: int, height: int) -> bool:
        """Whether a side of what is kept has fewer pixels than it is scaled to."""
        return min(width, height) < self.size

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Image of mode RGB or L => uint8 (C, size, size)."""
        scaled = self._scale(image, Image.Resampling[self.filter.upper()])
        return np.atleast_3d(np.asarray(scaled)).transpose(2, 0, 1)

    def indices(self, image: Image.Image) -> np.ndarray:
        """Map of mode I => uint16 (size, size)."""
        return np.asarray(self._scale(image, Image.Resampling.NEAREST)).astype(np.uint16)

    def _scale(self, image: Image.Image, resampling: Image.Resampling) -> Image.Image:
        return image.resize((self.size, self.size), resampling, box=self.box(*image.size))
