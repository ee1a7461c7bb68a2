"""Pages: single HTML files with all pictures inside, from the templates beside this file.

They need no network and no other file, and what is not theirs (prompts, names, configs) stays inert: Jinja escapes it,
and a page's content security policy forbids everything from elsewhere, and every script but ours, by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ldmkit_tasks.report_numbers import clock, percent, plain

SHOWN_SIZE = 128
"""Pixels of the page to which small pictures are enlarged, by whole factors."""
LARGEST_SIZE = 320
"""Pixels of the page that a single picture takes at most."""


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page: its data URL, and the pixels of the page it takes."""

    url: str
    width: int
    height: int
    enlarged: bool


def picture(path: Path, room: int = SHOWN_SIZE) -> Picture | None:
    """Read a PNG, as it is, into the page; None where there is none.

    Small pictures are enlarged by the largest whole factor with which they stay within ``room`` pixels.
    """
    try:
        data = path.read_bytes()
        with Image.open(path, formats=["PNG"]) as opened:
            width, height = opened.size
    except (OSError, ValueError, SyntaxError):
        return None
    factor: float = max(1, room // max(width, height))
    return Picture(
        f"data:image/png;base64,{base64.b64encode(data).decode()}",
        int(width * factor),
        int(height * factor),
        factor > 1,
    )


def widest(pictures: Sequence[Picture]) -> int:
    """Pixels of the page that the widest picture takes, within ``SHOWN_SIZE`` and ``LARGEST_SIZE``."""
    return min(max([SHOWN_SIZE, *(shown.width for shown in pictures)]), LARGEST_SIZE)


def render(template: str, **values: Any) -> str:
    """Return the page that a template of this folder makes of ``values``."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: files("ldmkit_tasks").joinpath(name).read_text("utf-8")),
    )
    environment.filters.update(clock=clock, plain=plain, percent=percent, digest=digest)
    environment.globals.update(widest=widest)
    return environment.get_template(template).render(**values)


def digest(script: str) -> str:
    """What a content security policy calls an inline ``script``, which it then allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _visible(value: Any) -> Any:
    """Put a mark in place of characters that HTML cannot hold: controls and halves of surrogate pairs."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"} else "\N{REPLACEMENT CHARACTER}" for c in value
    )
