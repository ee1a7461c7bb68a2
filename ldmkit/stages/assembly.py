"""The run's checkpoint: every part's weights and files, its config and its statistics, in one directory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ldmkit.artifacts.checkpoint import commit, link, link_all, write_json
from ldmkit.artifacts.store import Artifact
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.models import CONFIG, PARTS, SPEC, STATISTICS, spec_as_json
from ldmkit.registry.origin import origins
from ldmkit.run import Run
from ldmkit.training.loop import SNAPSHOTS

MODEL = "model"
"""The checkpoint's directory in that of the run."""


def assemble(
    run: Run, model: LatentDiffusion, *, fitted: Artifact, first_stage: Artifact, cached: Artifact, denoiser: Artifact
) -> str:
    """Put the results of the stages together in the run's ``model/`` and return its digest.

    Files are linked from the store where the file system can, so that a sweep over samplers stores weights once.
    Snapshots of the training, if any, are put beside it in ``snapshots/``.
    """

    def write(directory: Path) -> None:
        _link_weights(first_stage, directory)
        _link_weights(denoiser, directory)
        link(cached.path / STATISTICS, directory / STATISTICS)
        for name, _ in model.conditioners.items():
            link_all(fitted.path / name, directory / "conditioners" / name)
        _describe(run, directory)

    if (denoiser.path / SNAPSHOTS).is_dir():
        commit(run.directory / SNAPSHOTS, lambda directory: link_all(denoiser.path / SNAPSHOTS, directory))
    return commit(run.directory / MODEL, write)


def assemble_first_stage(run: Run, first_stage: Artifact) -> str:
    """Put a first stage alone in the run's ``model/`` and return its digest; it can encode and decode, not sample."""

    def write(directory: Path) -> None:
        _link_weights(first_stage, directory)
        _describe(run, directory)

    return commit(run.directory / MODEL, write)


def _describe(run: Run, directory: Path) -> None:
    write_json(directory / CONFIG, run.config)
    write_json(directory / SPEC, spec_as_json(run.data.spec))
    write_json(directory / PARTS, [asdict(origin) for origin in origins(run.config)])


def _link_weights(artifact: Artifact, directory: Path) -> None:
    for weights in artifact.path.glob("*.safetensors"):
        link(weights, directory / weights.name)
