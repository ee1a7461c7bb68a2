"""The report: one HTML file that shows what a run did, with all pictures and plots inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmkit.artifacts.whole import write_whole
from ldmkit_tasks import page
from ldmkit_tasks.page import picture
from ldmkit_tasks.report_curves import read_curves, stage_curves
from ldmkit_tasks.report_numbers import headline, is_share, percent, plain, share

if TYPE_CHECKING:
    from ldmkit.run import StageRecord
    from ldmkit_tasks.pictures import Sample

PARTS = ("scale", "data", "model", "cond", "denoiser", "objective", "guidance", "sampler")
"""Groups whose choices stand in the head of the report of a diffusion model."""
GRID_SIZE = 400
"""Pixels of the page to which small grids of pictures are enlarged, by whole factors."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that a report tells. What is empty leaves its section out.

    ``command`` is what to type to do it again, ``config`` the resolved config as plain data, ``metrics`` the measured
    numbers by section, ``protocols`` what each metric depends on. Paths lead to PNG files, those of ``samples`` too;
    relative ones start at the run's directory. ``reconstructions`` are pairs (original, reconstruction), ``previews``
    pairs (step, grid of early samples). ``versions`` is what the numbers depend on beside the config: packages, Python,
    the device. ``what`` says what was made, and ``parts`` are the groups that made it.
    """

    command: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    stages: Sequence[StageRecord]
    samples: Sequence[Sample]
    reconstructions: Sequence[tuple[Path, Path]]
    previews: Sequence[tuple[int, Path]]
    versions: Mapping[str, str]
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    what: str = "A diffusion model"
    parts: Sequence[str] = PARTS


def write_report(run_directory: Path, summary: Summary) -> Path:
    """Write ``report.html`` into ``run_directory``, with the curves of its ``metrics.jsonl``; return its path.

    Pictures that cannot be read are left out. Raises OSError where the report cannot be written.
    """
    return write_whole(run_directory / "report.html", render(run_directory, summary))


def render(run_directory: Path, summary: Summary) -> str:
    """Return the report as HTML."""
    seconds = sum(stage.seconds for stage in summary.stages)
    samples = [(sample, picture(run_directory / sample.path)) for sample in summary.samples]
    pairs = [[picture(run_directory / path) for path in pair] for pair in summary.reconstructions]
    previews = [(step, picture(run_directory / path, GRID_SIZE)) for step, path in summary.previews]
    prompt = summary.metrics.get("prompt", {})
    return page.render(
        "report.html.jinja",
        run=run_directory.resolve().name,
        title=title(summary.what, summary.config),
        summary=summary,
        parts=list(chosen_parts(summary.config, summary.parts)),
        tiles=headline(summary.metrics, seconds),
        shares=[share(name, prompt) for name in prompt if is_share("prompt", name)],
        samples=[(sample, shown) for sample, shown in samples if shown],
        judged=[sample.verdict["all"] for sample, _ in samples if sample.verdict],
        pairs=[pair for pair in pairs if all(pair)],
        previews=[(step, shown) for step, shown in previews if shown],
        curves=stage_curves(read_curves(run_directory / "metrics.jsonl")),
        tables=metric_tables(summary.metrics),
        protocols=settings(summary.protocols),
        slowest=max((stage.seconds for stage in summary.stages), default=0) or 1,
        seconds=seconds,
        settings=settings(summary.config),
    )


def title(what: str, config: Mapping[str, Any]) -> str:
    """Name the run by what was made of which data."""
    data = config.get("data")
    return f"{what} of {data['name']}" if isinstance(data, Mapping) and "name" in data else what


def chosen_parts(config: Mapping[str, Any], groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (group, chosen names) for the head of the page."""
    for group in groups:
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
