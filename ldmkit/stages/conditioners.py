"""Fit: what conditioners learn once from the training fields, such as a tokenizer."""

from __future__ import annotations

from pathlib import Path

from ldmkit.artifacts.store import Artifact
from ldmkit.diffusion.conditioners import Conditioners
from ldmkit.models import restore_conditioners
from ldmkit.run import Run


def fit_conditioners(run: Run, conditioners: Conditioners) -> Artifact:
    """Let each conditioner fit on all training fields, and read back what it wrote."""
    inputs = {"cond": run.identity("cond"), "data": run.data.digest()}

    def make(directory: Path) -> None:
        fields = run.data.fields("train", range(run.data.length("train")))
        for name, part in conditioners.items():
            (directory / name).mkdir()
            part.fit(fields, directory / name)

    artifact = run.stage("conditioners", inputs, make)
    restore_conditioners(conditioners, artifact.path)
    return artifact
