"""The pictures of a run: early grids, and the final samples with what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldmkit import __version__
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.pictures import save_grid, save_png
from ldmkit.run import Run
from ldmkit.values import Fields, to_uint8

BESIDE = 8
"""Pictures that are shown beside what was given."""
GREY = torch.tensor(128, dtype=torch.uint8)


@dataclass(frozen=True)
class Drawn:
    """Pictures of held-out prompts, uint8 (B, C, H, W), with the fields that the model was told.

    ``images`` are ``decoded`` ones with what conditioners know put back; ``originals`` are there where a conditioner
    observed them.
    """

    fields: Fields
    decoded: Tensor
    images: Tensor
    originals: Tensor | None


@dataclass(frozen=True)
class Sample:
    """One sample on disk: what it was asked to be, and whether it is, or how much, by aspect; None: nobody can tell."""

    path: Path
    prompt: str
    seed: int
    verdict: Mapping[str, bool | float] | None


def captions(model: LatentDiffusion, fields: Fields, count: int) -> list[str]:
    """Say for each of ``count`` rows what the model was told, as far as words can: texts, names of labels and boxes."""
    said: list[Any] = []
    for name, kind in model.conditioners.needs.items():
        if kind == "text":
            said.append(fields[name])
        elif kind == "label":
            said.append([model.data.fields[name].names[int(value)] for value in fields[name]])
        elif kind == "boxes":
            names = model.data.fields[name].names
            said.append([", ".join(names[int(label)] for label in boxes[:, 4]) for boxes in fields[name]])
    return [", ".join(row) for row in zip(*said, strict=True)] if said else [""] * count


def held_out(run: Run, model: LatentDiffusion, count: int) -> tuple[Fields, Tensor | None]:
    """What the model is told of ``count`` held-out prompts; and held-out pictures, where it observes some of it."""
    conditioners = model.conditioners
    if not conditioners.observed:
        offered = run.data.prompts(count)
        return {name: offered[name] for name in conditioners.needs}, None
    length = run.data.length("validation")
    batch = run.data.read("validation", [index % length for index in range(count)])
    known = {**batch.fields, **model.observe(batch.images, run.seed)}
    return {name: known[name] for name in conditioners.needs}, batch.images


def sample(run: Run, model: LatentDiffusion, count: int) -> Drawn:
    """Sample ``count`` held-out prompts, seeds run.seed and up."""
    fields, originals = held_out(run, model, count)
    with run.compute.autocast():
        pixels = model.sample(
            fields, count=count, seed=run.seed, batch_size=run.settings.samples.batch_size, paste=False
        ).cpu()
    return Drawn(fields, to_uint8(pixels), to_uint8(model.conditioners.paste(pixels, fields)), originals)


def drawing(run: Run, model: LatentDiffusion) -> dict[str, Any]:
    """How samples are drawn, beside their prompts and seeds."""
    return {
        "sampler": run.config["sampler"]["name"],
        "steps": model.sampler.steps,
        "guidance": run.config["guidance"].get("scale", run.config["guidance"]["name"]),
    }


def draw_grid(run: Run, model: LatentDiffusion, stage: str, step: int) -> None:
    """Sample a small grid and save it as ``samples/preview-<step>.png``."""
    drawn = sample(run, model, run.settings.samples.grid)
    path = save_grid(drawn.images, run.directory / "samples" / f"preview-{step:08d}.png")
    said = captions(model, drawn.fields, len(drawn.images))
    run.loggers.on_sample(stage=stage, step=step, images=drawn.images, captions=said, path=path)


def save_beside(drawn: Drawn, path: Path) -> None:
    """Lay out the first pictures in columns: what was given, enlarged and masked; what was made of it; the original."""
    if drawn.originals is None:
        return
    size = drawn.originals.shape[-2:]
    given = drawn.originals[:BESIDE]
    for value in drawn.fields.values():
        if isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 4:
            given = F.interpolate(value[:BESIDE], size=size, mode="nearest")
    for value in drawn.fields.values():
        if isinstance(value, Tensor) and value.dtype == torch.bool and value.shape[1:] == size:
            given = torch.where(value[:BESIDE, None], GREY, given)
    rows = torch.cat([given, drawn.images[:BESIDE], drawn.originals[:BESIDE]])
    save_grid(rows, path, columns=len(given))


def save_samples(run: Run, model: LatentDiffusion, drawn: Drawn, digest: str) -> list[Sample]:
    """Write each sample as a PNG that says how it was made, and the grid of the first ones.

    Where pictures were observed, ``beside.png`` shows some of them with what was made of them.
    """
    directory, fields, images = run.directory / "samples", drawn.fields, drawn.images
    save_beside(drawn, directory / "beside.png")
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
        obeys = None if verdict is None else {aspect: right[index].item() for aspect, right in verdict.items()}
        written.append(Sample(path, prompt, run.seed + index, obeys))
    shown = images[: run.settings.samples.grid]
    path = save_grid(shown, directory / "grid.png")
    run.loggers.on_sample(stage="samples", step=0, images=shown, captions=prompts[: len(shown)], path=path)
    return written
