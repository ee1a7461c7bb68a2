"""The one training loop: both stages run in it, and resume in it exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ldmkit.artifacts.checkpoint import (
    commit,
    newest,
    prune,
    read_json,
    read_tensors,
    step_directory,
    write_json,
    write_tensors,
)
from ldmkit.artifacts.random import RowRandom, generator
from ldmkit.artifacts.store import differences
from ldmkit.errors import CheckpointError, Interrupted, NumericError
from ldmkit.registry.config import TrainConfig
from ldmkit.specs import OptimizerSpec
from ldmkit.training.batches import Order, read_ahead
from ldmkit.training.device import Compute
from ldmkit.training.ema import EMA, warmed_up
from ldmkit.training.optimizers import make_optimizers, scheduled
from ldmkit.training.power_ema import WIDTHS, power_function

KEPT_CHECKPOINTS = 2
SNAPSHOTS = "snapshots"
"""Folder of the power-function averages that training stores, by step."""


class Trainee(Protocol):
    """What the loop trains.

    ``players`` are the modules that are trained, each by optimisers of its own; the first one is averaged by EMA. Those
    named in ``own_optimizers`` are trained by what that says, the others by what the config says.
    ``losses`` yields (player, scalar loss, parts for the log) for each player in turn, and is resumed after that
    player's update: an adversary sees the updated generator. A player may leave out its turn; a part that is NaN says
    that there was nothing to measure, and is not logged.
    """

    players: Mapping[str, nn.Module]
    own_optimizers: Mapping[str, OptimizerSpec]
    length: int

    def read(self, indices: list[int]) -> Any:
        """Read examples; runs in a thread, ahead of time."""
        ...

    def losses(self, batch: Any, random: RowRandom, step: int) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor]]]:
        """Losses of one step."""
        ...


@dataclass(frozen=True)
class Listeners:
    """What the loop tells, and asks, while it runs."""

    on_step: Callable[[int, dict[str, float]], None] = lambda step, metrics: None
    on_checkpoint: Callable[[int, Path], None] = lambda step, path: None
    stop_asked: Callable[[], bool] = lambda: False
    previews: Mapping[int, Callable[[EMA], None]] = field(default_factory=dict)


class Loop:
    """Trains ``trainee`` for ``config.steps`` steps, saving into ``directory`` and resuming from it.

    ``inputs`` is all that determines the result; a checkpoint that was made from others is refused. Every
    ``snapshot_every`` steps, and at the end, the averages of :data:`WIDTHS` go into ``directory/snapshots``; 0: never.
    """

    def __init__(
        self,
        trainee: Trainee,
        config: TrainConfig,
        *,
        stage: str,
        seed: int,
        compute: Compute,
        directory: Path,
        inputs: Mapping[str, Any] = MappingProxyType({}),
        snapshot_every: int = 0,
    ) -> None:
        self.trainee, self.config, self.stage, self.seed = trainee, config, stage, seed
        self.compute, self.directory, self.inputs = compute, directory, dict(inputs)
        self.optimizers = {name: self._optimizers_of(name, module) for name, module in trainee.players.items()}
        self._seconds = 0.0
        self._updates = dict.fromkeys(trainee.players, 0)
        self.base_lrs = [[group["lr"] for group in o.param_groups] for o in self._all_optimizers()]
        averaged = next(iter(trainee.players.values()))
        self.ema = EMA(averaged, warmed_up(config.ema_decay))
        self.snapshot_every = snapshot_every
        self.profiles = {width: EMA(averaged, power_function(width)) for width in WIDTHS if snapshot_every}

    def run(self, listeners: Listeners) -> EMA:
        """Train to the end and return the averages.

        Raises :class:`Interrupted`, with the state saved, when a stop is asked for, and NumericError when a loss is
        not finite; the last checkpoint is then from before.
        """
        config, start = self.config, self._resume()
        order = Order(self.trainee.length, config.batch_size, seed=self.seed, stage=self.stage)
        batches = read_ahead(
            lambda step: self._read(order, step), range(start, config.steps), device=self.compute.device
        )
        began, seconds = time.perf_counter(), self._seconds
        for module in self.trainee.players.values():
            module.train()
        for step, (indices, batch) in zip(range(start, config.steps), batches, strict=True):
            metrics = self._step(step, batch, RowRandom.of(self.seed, self.stage, step, indices))
            done = step + 1
            self._seconds = seconds + time.perf_counter() - began
            if done % config.log_every == 0 or done in {1, config.steps}:
                listeners.on_step(done, self._summary(done, metrics))
            if self.profiles and (done % self.snapshot_every == 0 or done == config.steps):
                commit(step_directory(self.directory / SNAPSHOTS, done), self._write_profiles)
            if done in listeners.previews:
                listeners.previews[done](self.ema)
            stopping = listeners.stop_asked()
            if done < config.steps and (stopping or done % config.checkpoint_every == 0):
                listeners.on_checkpoint(done, self._save(done))
            if stopping and done < config.steps:
                raise Interrupted(f"stopped in stage {self.stage} after step {done} of {config.steps}; all is saved")
        return self.ema

    def _optimizers_of(self, player: str, module: nn.Module) -> list[Optimizer]:
        config, own = self.config, self.trainee.own_optimizers.get(player)
        if own is not None:
            config = replace(config, optimizer="adamw", lr=own.lr, betas=own.betas, weight_decay=0.0)
        return make_optimizers(
            module,
            kind=config.optimizer,
            lr=config.lr,
            muon_lr=config.muon_lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )

    def _read(self, order: Order, step: int) -> tuple[list[int], Any]:
        indices = order.indices(step)
        return indices, self.trainee.read(indices)

    def _step(self, step: int, batch: Any, random: RowRandom) -> dict[str, Tensor]:
        factor = scheduled(step, self.config.steps, self.config.warmup, self.config.schedule)
        for optimizer, base in zip(self._all_optimizers(), self.base_lrs, strict=True):
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * factor
        metrics: dict[str, Tensor] = {"lr": torch.tensor(self.config.lr * factor)}
        # Layers such as dropout draw from torch's own generator: give them, too, a stream that resume can repeat.
        torch.manual_seed(int(generator(self.seed, self.stage, step, "torch").integers(2**63)))
        losses = self.trainee.losses(batch, random, step)
        while True:
            with self.compute.autocast():
                turn = next(losses, None)
            if turn is None:
                break
            player, loss, parts = turn
            self._update(player, loss, step)
            name = "loss" if player == next(iter(self.trainee.players)) else f"{player}_loss"
            metrics |= {name: loss.detach(), **{key: value.detach() for key, value in parts.items()}}
        for ema in (self.ema, *self.profiles.values()):
            ema.update(step + 1)
        return metrics

    def _update(self, player: str, loss: Tensor, step: int) -> None:
        parameters = [p for p in self.trainee.players[player].parameters() if p.requires_grad]
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip or math.inf)
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            raise NumericError(
                f"stage {self.stage}, step {step + 1}: the loss of {player} is {loss.item():.3g}, its gradient's norm "
                f"{norm.item():.3g}; nothing was updated. Try a smaller learning rate or precision=fp32"
            )
        for optimizer in self.optimizers[player]:
            optimizer.step()
        self._updates[player] += 1

    def _summary(self, done: int, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        values = {name: float(value) for name, value in metrics.items()}
        values = {name: value for name, value in values.items() if not math.isnan(value)}  # nothing was measured
        if len(self._updates) > 1:
            values |= {f"{player}_steps": float(updates) for player, updates in self._updates.items()}
        return values | {"images": float(done * self.config.batch_size), "seconds": self._seconds}

    def _all_optimizers(self) -> list[Optimizer]:
        return [optimizer for optimizers in self.optimizers.values() for optimizer in optimizers]

    def _save(self, step: int) -> Path:
        path = step_directory(self.directory, step)
        commit(path, lambda draft: self._write(draft, step))
        prune(self.directory, KEPT_CHECKPOINTS)
        return path

    def _write(self, directory: Path, step: int) -> None:
        for name, module in self.trainee.players.items():
            write_tensors(directory / f"{name}.safetensors", module.state_dict())
        write_tensors(directory / "ema.safetensors", self.ema.state_dict())
        self._write_profiles(directory)
        write_tensors(directory / "optimizers.safetensors", _optimizer_tensors(self._all_optimizers()))
        counts = {"step": step, "updates": self._updates, "seconds": self._seconds}
        write_json(directory / "state.json", {"stage": self.stage, "inputs": self.inputs, **counts})

    def _write_profiles(self, directory: Path) -> None:
        for width, ema in self.profiles.items():
            write_tensors(directory / profile_file(width), ema.state_dict())

    def _resume(self) -> int:
        """Load the newest checkpoint of the directory, if any, and return the number of steps done."""
        self._seconds = 0.0
        path = newest(self.directory) if self.directory.is_dir() else None
        if path is None:
            return 0
        state = read_json(path / "state.json")
        if differing := differences(state["inputs"], self.inputs):
            raise CheckpointError(
                f"'{path}' was trained from something else: {'; '.join(differing)}. Put it back, or start a new run "
                f"without resume="
            )
        try:
            for name, module in self.trainee.players.items():
                module.load_state_dict(read_tensors(path / f"{name}.safetensors"))
            self.ema.load_state_dict(read_tensors(path / "ema.safetensors"))
            for width, ema in self.profiles.items():
                ema.load_state_dict(read_tensors(path / profile_file(width)))
            _load_optimizer_tensors(self._all_optimizers(), read_tensors(path / "optimizers.safetensors"))
            self._updates = {player: int(state["updates"][player]) for player in self.trainee.players}
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(f"'{path}' is not a checkpoint of these networks: {error}") from error
        self._seconds = float(state["seconds"])
        return int(state["step"])


def profile_file(width: float) -> str:
    """Name of the file with the power-function average of ``width``."""
    return f"ema-{width:.3f}.safetensors"


def _optimizer_tensors(optimizers: list[Optimizer]) -> dict[str, Tensor]:
    return {
        f"{number}.{index}.{name}": value
        for number, optimizer in enumerate(optimizers)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def _load_optimizer_tensors(optimizers: list[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        number, index, name = key.split(".", 2)
        states[int(number)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
