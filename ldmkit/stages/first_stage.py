"""First stage: training the autoencoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from ldmkit.artifacts.checkpoint import read_tensors, write_tensors
from ldmkit.artifacts.random import RowRandom
from ldmkit.artifacts.store import Artifact
from ldmkit.models import build_loss
from ldmkit.protocols import DataSource, FirstStage, FirstStageLoss
from ldmkit.run import Run
from ldmkit.specs import OptimizerSpec
from ldmkit.stages.training import determining, train
from ldmkit.values import Batch, to_pixels

STAGE = "first-stage"
WEIGHTS = "first_stage.safetensors"


class FirstStageTrainee:
    """Encodes, samples the posterior, decodes, and lets the loss judge.

    Where the loss has an adversary, first stage and loss are the player ``generator``, the adversary is the player
    ``discriminator``; its turn is the second, on the reconstructions that the first was about.
    """

    def __init__(self, first_stage: FirstStage, loss: FirstStageLoss, data: DataSource) -> None:
        self.first_stage, self.loss, self.data = first_stage, loss, data
        judged, adversary = nn.ModuleDict({"model": first_stage, "loss": loss}), loss.adversary
        self.players: Mapping[str, nn.Module] = {"first_stage": judged}
        self.own_optimizers: Mapping[str, OptimizerSpec] = {}
        if adversary is not None:
            self.players = {"generator": judged, "discriminator": adversary}
            self.own_optimizers = {"discriminator": adversary.optimizer}
        self.length = data.length("train")

    def read(self, indices: list[int]) -> Batch:
        """Read images."""
        return self.data.read("train", indices)

    def losses(self, batch: Batch, random: RowRandom, step: int) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor]]]:
        """The losses of one step: uint8 => pixels => posterior => latents => pixels."""
        device = next(self.first_stage.parameters()).device
        images = to_pixels(batch.images.to(device))
        reconstruction = self.first_stage.reconstruct(images, random)
        loss, parts = self.loss(images, reconstruction, step, self.first_stage.last_layer)
        yield next(iter(self.players)), loss, {**reconstruction.parts, **parts}
        if self.loss.adversary is None:
            return
        turn = self.loss.adversary(images, reconstruction.images.detach(), step)
        if turn is not None:
            yield "discriminator", *turn


def train_first_stage(run: Run, first_stage: FirstStage) -> Artifact:
    """Train ``first_stage``, or take its weights from the store; afterwards it is in eval mode, frozen."""
    config = run.settings.train.first_stage
    trainable = any(True for _ in first_stage.parameters())
    inputs = {"model": run.identity("model"), "data": run.data.digest(), "seed": run.seed}
    if trainable:
        inputs |= {"loss": run.identity("loss"), "train": determining(config), "bf16": run.compute.bf16}

    def make(directory: Path) -> None:
        if trainable:
            loss = build_loss(run.config, first_stage, run.data.spec)
            run.loggers.on_metrics(section="loss", metrics=loss.constants())
            train(run, FirstStageTrainee(first_stage, loss, run.data), config, stage=STAGE, inputs=inputs)
        write_tensors(directory / WEIGHTS, first_stage.state_dict())

    artifact = run.stage(STAGE, inputs, make, steps=config.steps if trainable else 0)
    first_stage.load_state_dict(read_tensors(artifact.path / WEIGHTS))
    first_stage.to(run.compute.device).eval().requires_grad_(False)
    return artifact
