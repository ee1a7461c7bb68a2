"""What the kernel itself reads from a run's config, typed. The parts' nodes are checked against their own classes.

The keys stand in the same order, with their meaning and units, in ``conf/config.yaml`` and ``conf/scale/*.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ldmkit.registry.ranges import above, at_least, below_one


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training of one network. ``steps``, ``warmup`` and ``*_every`` count optimizer steps."""

    steps: int
    batch_size: int
    optimizer: Literal["muon", "adamw"]
    lr: float
    muon_lr: float
    betas: tuple[float, float]
    weight_decay: float
    warmup: int
    schedule: Literal["cosine", "constant"]
    clip: float
    ema_decay: float
    checkpoint_every: int
    log_every: int

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, batch_size=self.batch_size)
        at_least(0, lr=self.lr, muon_lr=self.muon_lr)
        below_one(betas=self.betas)
        at_least(0, weight_decay=self.weight_decay, warmup=self.warmup, clip=self.clip)
        below_one(ema_decay=self.ema_decay)
        at_least(1, checkpoint_every=self.checkpoint_every, log_every=self.log_every)


@dataclass(frozen=True, kw_only=True)
class DenoiserTrainConfig(TrainConfig):
    """Training of the denoiser: also how often it stores averages of its weights for `ldmkit ema`; 0: never."""

    snapshot_every: int

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, snapshot_every=self.snapshot_every)


@dataclass(frozen=True, kw_only=True)
class StagesConfig:
    """One loop trains both stages; these are its numbers for each."""

    first_stage: TrainConfig
    denoiser: DenoiserTrainConfig


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """How the posteriors of the training images are made and stored, and what gives their latents unit variance."""

    statistics: Literal["channel", "scalar"]
    scale: float | None
    dtype: Literal["float32", "float16"]
    tile: int

    def __post_init__(self) -> None:
        above(0, scale=self.scale)
        at_least(1, tile=self.tile)


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """The pictures made at the end, and the training steps after which an early grid is made."""

    count: int
    batch_size: int
    grid: int
    previews: list[int]

    def __post_init__(self) -> None:
        at_least(1, count=self.count, batch_size=self.batch_size, grid=self.grid, previews=self.previews)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The top level of a run's config without its parts and without ``scale``, whose numbers option files read."""

    seed: int
    device: str
    precision: Literal["auto", "fp32", "bf16"]
    threads: int
    outputs: str
    resume: str | None
    returns: str | None
    train: StagesConfig
    latents: LatentsConfig
    samples: SamplesConfig

    def __post_init__(self) -> None:
        at_least(0, threads=self.threads)
