"""A stream that never hurts the run, and text that never hurts the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TextIO


class QuietStream:
    """A text stream that falls silent when it is closed, full or gone, instead of ending the run that writes to it."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """Encoding of the stream, by which a progress bar chooses its characters."""
        return getattr(self._stream, "encoding", None) or "ascii"

    def fileno(self) -> int:
        """File number of the stream. Raises OSError when it has none."""
        if self._stream is None:
            raise OSError("no stream")
        return self._stream.fileno()

    def takes_bars(self) -> bool:
        """Whether a line can be drawn over itself here: a terminal, and not one that calls itself dumb."""
        try:
            return self._stream is not None and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        except ValueError:
            return False

    def write(self, text: str) -> None:
        """Write ``text``; characters that the encoding lacks become backslash escapes."""
        self._try(lambda stream: stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding)))

    def flush(self) -> None:
        """Flush what was written."""
        self._try(lambda stream: stream.flush())

    def _try(self, action: Callable[[TextIO], Any]) -> None:
        if self._stream is None:
            return
        try:
            action(self._stream)
        except (OSError, ValueError):
            self._stream = None


def printable(text: str, width: int | None = None) -> str:
    """Return ``text`` with everything that steers a terminal escaped, such as ESC, newlines and right-to-left marks.

    At most ``width`` characters are kept; what is cut ends in three dots.
    """
    shown = text if width is None else text[: width + 1]
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in shown
    )
    return shown if width is None or len(shown) <= width else f"{shown[: width - 3]}..."


def duration(seconds: float) -> str:
    """Write seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
