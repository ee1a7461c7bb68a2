"""The pictures of a run: early grids, and the final samples with what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ldmkit import __version__
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.pictures import save_grid, save_png
from ldmkit.run import Run
from ldmkit.values import Fields, to_uint8


@dataclass(frozen=True)
class Sample:
    """One sample on disk: what it was asked to be, and whether it is, by aspect (None where the data cannot tell)."""

    path: Path
    prompt: str
    seed: int
    verdict: Mapping[str, bool] | None


def captions(model: LatentDiffusion, fields: Fields, count: int) -> list[str]:
    """Say for each of ``count`` rows what the model was told, as far as words can: texts and the names of labels."""
    said: list[Any] = []
    for name, kind in model.conditioners.needs.items():
        if kind == "text":
            said.append(fields[name])
        elif kind == "label":
            said.append([model.data.fields[name].names[int(value)] for value in fields[name]])
    return [", ".join(row) for row in zip(*said, strict=True)] if said else [""] * count


def sample(run: Run, model: LatentDiffusion, count: int) -> tuple[Fields, Tensor]:
    """Sample ``count`` held-out prompts, seeds run.seed and up: what the model was told, and uint8 (B, C, H, W)."""
    offered = run.data.prompts(count)
    fields = {name: offered[name] for name in model.conditioners.needs}
    with run.compute.autocast():
        pixels = model.sample(fields, count=count, seed=run.seed, batch_size=run.settings.samples.batch_size)
    return fields, to_uint8(pixels.cpu())


def drawing(run: Run, model: LatentDiffusion) -> dict[str, Any]:
    """How samples are drawn, beside their prompts and seeds."""
    guidance = run.config["guidance"]
    name, scale = guidance["name"], guidance.get("scale")
    if name != "cfg" or isinstance(scale, dict):
        scale = name if scale is None else f"{name} {scale}"
    return {"sampler": run.config["sampler"]["name"], "steps": model.sampler.steps, "guidance": scale}


def draw_grid(run: Run, model: LatentDiffusion, stage: str, step: int) -> None:
    """Sample a small grid and save it as ``samples/preview-<step>.png``."""
    fields, images = sample(run, model, run.settings.samples.grid)
    path = save_grid(images, run.directory / "samples" / f"preview-{step:08d}.png")
    said = captions(model, fields, len(images))
    run.loggers.on_sample(stage=stage, step=step, images=images, captions=said, path=path)


def save_samples(run: Run, model: LatentDiffusion, fields: Fields, images: Tensor, digest: str) -> list[Sample]:
    """Write each sample as a PNG that says how it was made, and the grid of the first ones."""
    directory = run.directory / "samples"
    prompts = captions(model, fields, len(images))
    verdict = run.data.verify(images, fields)
    written = []
    for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        record = {
            "prompt": prompt,
            "seed": run.seed + index,
            **drawing(run, model),
            "checkpoint": digest,
            "command": run.command,
            "version": __version__,
        }
        path = save_png(image, directory / f"{index:05d}.png", record)
        obeys = None if verdict is None else {aspect: bool(right[index]) for aspect, right in verdict.items()}
        written.append(Sample(path, prompt, run.seed + index, obeys))
    shown = images[: run.settings.samples.grid]
    path = save_grid(shown, directory / "grid.png")
    run.loggers.on_sample(stage="samples", step=0, images=shown, captions=prompts[: len(shown)], path=path)
    return written
