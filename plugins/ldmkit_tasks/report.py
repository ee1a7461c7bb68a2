"""The report: one HTML file that shows what a run did, with all pictures and plots inside.

It needs no network, no script and no other file, and what is not its own (prompts, names, configs) stays inert: Jinja
escapes it, and the page's content security policy forbids scripts and everything from elsewhere.
"""

from __future__ import annotations

import base64
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from ldmkit_tasks.report_curves import read_curves, stage_curves
from ldmkit_tasks.report_numbers import clock, headline, is_share, percent, plain, share

if TYPE_CHECKING:
    from ldmkit.run import StageRecord
    from ldmkit_tasks.pictures import Sample

PARTS = ("scale", "data", "model", "cond", "denoiser", "objective", "guidance", "sampler")
"""Groups whose choices stand in the report's head."""
SHOWN_SIZE = 128
"""Pixels of the page to which small pictures are enlarged, by whole factors."""
GRID_SIZE = 400
"""The same for grids of pictures."""
LARGEST_SIZE = 320
"""Pixels of the page that a single picture takes at most."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that a report tells. What is empty leaves its section out.

    ``command`` is what to type to do it again, ``config`` the resolved config as plain data, ``metrics`` the measured
    numbers by section. Paths lead to PNG files, those of ``samples`` too; relative ones start at the run's directory.
    ``reconstructions`` are pairs (original, reconstruction), ``previews`` pairs (step, grid of early samples).
    ``versions`` is what the numbers depend on beside the config: packages, Python, the device.
    """

    command: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    stages: Sequence[StageRecord]
    samples: Sequence[Sample]
    reconstructions: Sequence[tuple[Path, Path]]
    previews: Sequence[tuple[int, Path]]
    versions: Mapping[str, str]


def write_report(run_directory: Path, summary: Summary) -> Path:
    """Write ``report.html`` into ``run_directory``, with the curves of its ``metrics.jsonl``; return its path.

    Pictures that cannot be read are left out. Raises OSError where the report cannot be written.
    """
    path = run_directory / "report.html"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(render(run_directory, summary), "utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def render(run_directory: Path, summary: Summary) -> str:
    """Return the report as HTML."""
    seconds = sum(stage.seconds for stage in summary.stages)
    samples = [(sample, picture(run_directory / sample.path)) for sample in summary.samples]
    pairs = [[picture(run_directory / path) for path in pair] for pair in summary.reconstructions]
    previews = [(step, picture(run_directory / path, GRID_SIZE)) for step, path in summary.previews]
    prompt = summary.metrics.get("prompt", {})
    return _template().render(
        run=run_directory.resolve().name,
        title=title(summary.config),
        summary=summary,
        parts=list(chosen_parts(summary.config)),
        tiles=headline(summary.metrics, seconds),
        shares=[share(name, prompt) for name in prompt if is_share("prompt", name)],
        samples=[(sample, shown) for sample, shown in samples if shown],
        judged=[sample.verdict["all"] for sample, _ in samples if sample.verdict],
        pairs=[pair for pair in pairs if all(pair)],
        previews=[(step, shown) for step, shown in previews if shown],
        curves=stage_curves(read_curves(run_directory / "metrics.jsonl")),
        tables=metric_tables(summary.metrics),
        slowest=max((stage.seconds for stage in summary.stages), default=0) or 1,
        seconds=seconds,
        settings=settings(summary.config),
    )


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


def title(config: Mapping[str, Any]) -> str:
    """Name the run by its data."""
    data = config.get("data")
    return (
        f"A diffusion model of {data['name']}" if isinstance(data, Mapping) and "name" in data else "A diffusion model"
    )


def chosen_parts(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (group, chosen names) for the head of the page."""
    for group in PARTS:
        node = config.get(group)
        if isinstance(node, Mapping):
            names = [node["name"]] if "name" in node else list(node)
            yield group, ", ".join(map(str, names)) or "none"


def metric_tables(metrics: Mapping[str, Mapping[str, float]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return all measured numbers as rows (name, number) by section."""
    return [
        (
            section,
            [
                (name, f"{percent(value)} %" if is_share(section, name) else plain(value))
                for name, value in values.items()
            ],
        )
        for section, values in metrics.items()
        if values
    ]


def settings(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the config as rows (dotted key, value), just as they can be typed, by top-level key; lone keys first."""
    lone = [(key, _value(value)) for key, value in config.items() if not isinstance(value, Mapping)]
    groups = [(key, list(_flat(value, key))) for key, value in config.items() if isinstance(value, Mapping)]
    return [("run", lone), *[(key, rows) for key, rows in groups if rows]] if lone else groups


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", _value(value)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_visible, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(clock=clock, plain=plain, percent=percent)
    environment.globals.update(widest=widest)
    return environment.from_string(files("ldmkit_tasks").joinpath("report.html.jinja").read_text("utf-8"))


def _visible(value: Any) -> Any:
    """Put a mark in place of characters that HTML cannot hold: controls and halves of surrogate pairs."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"} else "\N{REPLACEMENT CHARACTER}" for c in value
    )
