"""The training loop inside a run: its checkpoints, its loggers, its request to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ldmkit.registry.config import TrainConfig
from ldmkit.run import Run
from ldmkit.training.ema import EMA
from ldmkit.training.loop import Listeners, Loop, Trainee

NO_SNAPSHOTS = ("snapshot_every", 0)


def train(
    run: Run,
    trainee: Trainee,
    config: TrainConfig,
    *,
    stage: str,
    inputs: Mapping[str, Any],
    previews: Mapping[int, Callable[[EMA], None]] | None = None,
    snapshot_every: int = 0,
) -> None:
    """Train ``trainee`` to the end and leave it with its averaged weights; go on from the run's checkpoints, if any."""

    def on_checkpoint(step: int, path: Path) -> None:
        run.loggers.on_checkpoint(stage=stage, step=step, path=path)

    def on_step(step: int, metrics: dict[str, float]) -> None:
        run.loggers.on_step(stage=stage, step=step, metrics=metrics)

    for module in trainee.players.values():
        module.to(run.compute.device)
    loop = Loop(
        trainee,
        config,
        stage=stage,
        seed=run.seed,
        compute=run.compute,
        directory=run.checkpoints(stage),
        inputs=inputs,
        snapshot_every=snapshot_every,
    )
    ema = loop.run(Listeners(on_step, on_checkpoint, run.stop.asked, previews or {}))
    ema.store_in(ema.module)


def determining(config: TrainConfig) -> dict[str, Any]:
    """The numbers of ``config`` that determine what is trained: all but how often it is logged and saved.

    Snapshots are part of the result where there are any.
    """
    never = {"log_every", "checkpoint_every"}
    return {key: value for key, value in asdict(config).items() if key not in never and (key, value) != NO_SNAPSHOTS}
