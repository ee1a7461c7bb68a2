"""Files that are the old one or the whole new one, never a part."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> Path:
    """Write ``data``, text as UTF-8, to ``path`` in one step, making its directory; return ``path``.

    A reader, and a crash or a full disk at any moment, meets the file that was there before or all of the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(data.encode() if isinstance(data, str) else data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
