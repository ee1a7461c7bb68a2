"""How much memory the run holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def memory_held() -> int | None:
    """Bytes on the GPU, once one is in use, else resident bytes of this process; None where neither is known."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.memory_reserved())
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def bytes_for_people(count: int) -> str:
    """Write ``count`` in MiB, from 1 GiB upwards in GiB."""
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"
