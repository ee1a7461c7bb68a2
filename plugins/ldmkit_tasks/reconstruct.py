"""Images through a trained first stage and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from torch import Tensor

from ldmkit.artifacts.checkpoint import write_json
from ldmkit.errors import ConfigError
from ldmkit.models import check_size, load_first_stage
from ldmkit.pictures import save_png
from ldmkit.protocols import FirstStage
from ldmkit.registry.ranges import at_least
from ldmkit.run import Run, Task
from ldmkit.specs import DataSpec
from ldmkit_tasks.measure import (
    RECONSTRUCTIONS,
    SHOWN,
    Measurement,
    build_metrics,
    reconstruct,
    show_reconstructions,
)
from ldmkit_tasks.tables import write_csv


class Reconstruct(Task):
    """Encodes and decodes the images of the data with the first stage of an earlier run.

    Writes into the run's directory: ``reconstructions/`` with a PNG for each image, under the image's own path,
    ``table.csv`` and ``table.json`` with what each metric finds in each image alone, ``metrics.json`` with what it
    finds in all of them, and ``reconstructions.png``, the first originals above what became of them.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        run: str | None
        split: Literal["train", "validation", "all"]
        count: int | None

        def __post_init__(self) -> None:
            at_least(1, count=self.count)

    def __init__(self, config: Config) -> None:
        self.config = config

    def run(self, run: Run) -> None:
        """Do all of it. Raises ConfigError and CheckpointError before any image is encoded."""
        if self.config.run is None:
            raise ConfigError("task=reconstruct needs task.run=RUN, the id or directory of a run with a first stage")
        first_stage, trained, data = load_first_stage(self.config.run, run.compute.device, runs=run.directory.parent)
        _check_fits(run.data.spec, data, first_stage, trained["model"]["name"])
        measurement = Measurement(run, on=[RECONSTRUCTIONS])
        with run.timed(RECONSTRUCTIONS):
            rows = self._reconstruct(run, first_stage, measurement)
        write_json(run.directory / "metrics.json", measurement.results())
        write_json(run.directory / "table.json", rows)
        write_csv(run.directory / "table.csv", rows)

    def _reconstruct(self, run: Run, first_stage: FirstStage, measurement: Measurement) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        shown: list[tuple[Tensor, Tensor]] = []
        files = self._files(run)
        for split, count in self._counts(run).items():
            for _, batch, reconstructions in reconstruct(run, first_stage, measurement, split, count):
                for row, (image, made) in enumerate(zip(batch.images, reconstructions, strict=True)):
                    name, file = next(files)
                    save_png(made, run.directory / RECONSTRUCTIONS / file)
                    alone = {key: value[row : row + 1] for key, value in batch.fields.items()}
                    rows.append({"image": name, "reconstruction": str(file), **_numbers(run, made, image, alone)})
                    if len(shown) < SHOWN:
                        shown.append((image, made))
        conditions = {"run": self.config.run, "split": self.config.split, "count": len(rows)}
        measurement.conclude(RECONSTRUCTIONS, conditions)
        show_reconstructions(run, shown)
        return rows

    def _counts(self, run: Run) -> dict[str, int]:
        """How many images of which splits are reconstructed."""
        splits = ["train", "validation"] if self.config.split == "all" else [self.config.split]
        lengths = {split: run.data.length(split) for split in splits}
        return {split: min(length, self.config.count or length) for split, length in lengths.items()}

    def _files(self, run: Run) -> Iterator[tuple[str, PurePosixPath]]:
        """Each image's name, and the PNG it becomes: with the ending replaced, or kept where two would be one."""
        names = [name for split, count in self._counts(run).items() for name in run.data.names(split, range(count))]
        paths = [PurePosixPath(name) for name in names]
        replaced = Counter(path.with_suffix(".png") for path in paths)
        for name, path in zip(names, paths, strict=True):
            png = path.with_suffix(".png")
            yield name, png if replaced[png] == 1 else path.with_name(f"{path.name}.png")


def _check_fits(images: DataSpec, trained: DataSpec, first_stage: FirstStage, name: str) -> None:
    check_size(images.size, first_stage, name)
    if images.channels != trained.channels:
        raise ConfigError(
            f"the first stage was trained on images of {trained.channels} channels, and the data's have "
            f"{images.channels}; type data.channels={trained.channels}"
        )


def _numbers(run: Run, image: Tensor, original: Tensor, fields: Mapping[str, Any]) -> dict[str, float]:
    """What each metric finds in one reconstruction; those that need several find nothing."""
    found: dict[str, float] = {}
    for metric in build_metrics(run, [RECONSTRUCTIONS]).values():
        metric.update(image[None], original[None], fields)
        found |= {name: value for name, value in metric.compute().items() if not name.endswith("count")}
    return found
