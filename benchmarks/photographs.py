"""Cut the photographs that scikit-image and scikit-learn install with their packages into tiles for `data=folder`.

    python -m pip install scikit-image scikit-learn
    python benchmarks/photographs.py photographs

writes PNGs of 64 x 64 pixels. Tiles of a photograph do not overlap, so no held-out pixel was trained on; held-out
tiles do come from the same ten photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

SKIMAGE = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "immunohistochemistry", "retina")
SKLEARN = ("china", "flower")
TILE = 64  # pixels


def photographs() -> dict[str, np.ndarray]:
    """Ten photographs by name, uint8 (H, W, 3)."""
    found = {name: getattr(data, name)() for name in SKIMAGE}
    found["motorcycle"] = data.stereo_motorcycle()[0]
    return found | {name: load_sample_image(f"{name}.jpg") for name in SKLEARN}


def main() -> None:
    """Write all tiles into the directory that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, photograph in photographs().items():
        large = min(photograph.shape[:2]) > 800  # so that two of them do not outnumber the others
        pixels = np.asarray(Image.fromarray(photograph).reduce(2 if large else 1))
        rows, columns = (side // TILE for side in pixels.shape[:2])
        for row in range(rows):
            for column in range(columns):
                tile = pixels[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                if tile.std() > 4:  # black sky around the retina teaches nothing
                    Image.fromarray(tile).save(directory / f"{name}-{row:02d}-{column:02d}.png")
    print(f"{len(list(directory.glob('*.png')))} tiles in {directory}")


if __name__ == "__main__":
    main()
