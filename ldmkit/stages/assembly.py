"""The run's checkpoint: every part's weights and files, its config and its statistics, in one directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ldmkit.artifacts.checkpoint import commit, write_json
from ldmkit.artifacts.store import Artifact
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.models import CONFIG, SPEC, STATISTICS, spec_as_json
from ldmkit.run import Run


def assemble(
    run: Run, model: LatentDiffusion, *, fitted: Artifact, first_stage: Artifact, cached: Artifact, denoiser: Artifact
) -> str:
    """Put the results of the stages together in the run's ``model/`` and return its digest.

    Files are linked from the store where the file system can, so that a sweep over samplers stores weights once.
    """

    def write(directory: Path) -> None:
        for artifact in (first_stage, denoiser):
            for weights in artifact.path.glob("*.safetensors"):
                _link(weights, directory / weights.name)
        _link(cached.path / STATISTICS, directory / STATISTICS)
        for name, _ in model.conditioners.items():
            for file in sorted((fitted.path / name).rglob("*")):
                if file.is_file():
                    _link(file, directory / "conditioners" / file.relative_to(fitted.path))
        write_json(directory / CONFIG, run.config)
        write_json(directory / SPEC, spec_as_json(model.data))

    return commit(run.directory / "model", write)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
