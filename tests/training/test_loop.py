"""The training loop: it learns, it resumes exactly, and it stops when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import CheckpointError, Interrupted, NumericError
from ldmkit.registry.config import TrainConfig
from ldmkit.specs import OptimizerSpec
from ldmkit.training.device import Compute
from ldmkit.training.ema import EMA
from ldmkit.training.loop import Listeners, Loop
from ldmkit.training.power_ema import WIDTHS, Profile, combination, power_function

CPU = Compute(torch.device("cpu"), bf16=False)
CONFIG = TrainConfig(
    steps=24,
    batch_size=4,
    optimizer="muon",
    lr=1e-2,
    muon_lr=1e-2,
    betas=(0.9, 0.99),
    weight_decay=0.01,
    warmup=3,
    schedule="cosine",
    clip=1.0,
    ema_decay=0.9,
    checkpoint_every=5,
    log_every=1,
)


class Denoise(nn.Module):
    """Learns to recover a point of a circle from a noisy one; dropout makes it depend on torch's own generator."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(2, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 2))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class Points:
    """Trains :class:`Denoise`, and an adversary that must see the network after its update."""

    length = 10

    def __init__(self, *, adversary: bool = True, poison: int | None = None) -> None:
        self.network = Denoise()
        self.players: Mapping[str, nn.Module] = {"network": self.network}
        if adversary:
            self.players = {**self.players, "adversary": nn.Linear(2, 1)}
            nn.init.constant_(self.players["adversary"].weight, 0.1)
            nn.init.zeros_(self.players["adversary"].bias)
        self.own_optimizers: Mapping[str, OptimizerSpec] = {}
        self.poison = poison
        self.seen: list[list[int]] = []

    def read(self, indices: list[int]) -> Tensor:
        angles = torch.tensor(indices) * 2 * torch.pi / self.length
        return torch.stack([angles.cos(), angles.sin()], 1)

    def losses(self, batch: Tensor, random: RowRandom, step: int) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor]]]:
        self.seen.append([int(key[-1]) for key in random.keys])
        noisy = batch + 0.1 * random.normal("noise", (2,))
        before = self.network.net[0].weight.detach().clone()
        loss = (self.network(noisy) - batch).square().mean()
        if step == self.poison:
            loss = loss * float("nan")
        yield "network", loss, {"noise": noisy.std(), "not measured": torch.tensor(torch.nan)}
        assert step == self.poison or not torch.equal(before, self.network.net[0].weight)
        if "adversary" in self.players:
            yield "adversary", self.players["adversary"](self.network(noisy).detach()).square().mean(), {}


def run(directory: Path, trainee: Points | None = None, config: TrainConfig = CONFIG, **listeners: object) -> Points:
    trainee = trainee or Points()
    loop = Loop(trainee, config, stage="toy", seed=3, compute=CPU, directory=directory)
    loop.run(Listeners(**listeners)).store_in(loop.ema.module)  # type: ignore[arg-type]
    return trainee


def state(trainee: Points) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, m in trainee.players.items() for key, value in m.state_dict().items()}


def assert_equal(one: Points, other: Points) -> None:
    for (name, a), b in zip(state(one).items(), state(other).values(), strict=True):
        assert torch.equal(a, b), name


def test_the_loss_falls(tmp_path: Path) -> None:
    losses: list[float] = []
    run(tmp_path, config=replace(CONFIG, steps=200), on_step=lambda step, metrics: losses.append(metrics["loss"]))
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])


def test_a_step_reports_its_loss_its_parts_and_its_counts(tmp_path: Path) -> None:
    reports: dict[int, dict[str, float]] = {}
    run(tmp_path, on_step=reports.__setitem__)
    assert sorted(reports) == list(range(1, 25))
    counts = {"network_steps", "adversary_steps", "images"}
    assert reports[24].keys() == {"loss", "noise", "adversary_loss", "lr", "seconds", *counts}
    assert reports[24]["images"] == 24 * 4
    assert (reports[24]["network_steps"], reports[24]["adversary_steps"]) == (24, 24)
    assert reports[3]["lr"] == pytest.approx(1e-2, rel=0.05)
    assert reports[1]["lr"] == pytest.approx(1e-2 / 3)


def test_every_epoch_shows_every_example_once(tmp_path: Path) -> None:
    trainee = run(tmp_path)
    flat = [index for batch in trainee.seen for index in batch]
    epochs = [flat[start : start + 10] for start in range(0, 90, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


@pytest.mark.parametrize("stop_at", [1, 5, 7, 23])
def test_stopping_and_going_on_gives_bit_for_bit_the_uninterrupted_result(tmp_path: Path, stop_at: int) -> None:
    whole = run(tmp_path / "whole")
    done: list[int] = []
    with pytest.raises(Interrupted, match=f"after step {stop_at} of 24"):
        run(tmp_path / "cut", on_step=lambda step, metrics: done.append(step), stop_asked=lambda: done[-1] == stop_at)
    rest: list[int] = []
    again = run(tmp_path / "cut", on_step=lambda step, metrics: rest.append(step))
    assert rest == list(range(stop_at + 1, 25))
    assert_equal(whole, again)


def test_a_killed_process_loses_at_most_one_interval_and_nothing_else(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        sys.path.insert(0, sys.argv[1])
        from test_loop import Path, run
        kill = lambda step, _: step == int(sys.argv[3]) and os.kill(os.getpid(), signal.SIGKILL)
        run(Path(sys.argv[2]), on_step=kill)
        """
    )
    for kill_at in ("8", "14"):
        arguments = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "cut"), kill_at]
        killed = subprocess.run(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        assert killed.returncode == -signal.SIGKILL
    rest: list[int] = []
    again = run(tmp_path / "cut", on_step=lambda step, metrics: rest.append(step))
    assert rest[0] == 11
    assert_equal(run(tmp_path / "whole"), again)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", on_step=lambda step, metrics: done.append(step), stop_asked=lambda: done[-1] == 12)
    file = tmp_path / "cut" / "step-00000012" / "network.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    rest: list[int] = []
    again = run(tmp_path / "cut", on_step=lambda step, metrics: rest.append(step))
    assert rest[0] == 11
    assert "network.safetensors" in caplog.text
    assert_equal(run(tmp_path / "whole"), again)


def test_checkpoints_of_another_network_are_refused(tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted):
        run(tmp_path, on_step=lambda step, metrics: done.append(step), stop_asked=lambda: done[-1] == 6)
    other = Points()
    other.network.net[0] = nn.Linear(2, 8)
    with pytest.raises(CheckpointError, match="not a checkpoint of these networks"):
        run(tmp_path, other)


def test_checkpoints_made_from_other_inputs_are_refused(tmp_path: Path) -> None:
    def loop(version: str) -> Loop:
        inputs = {"denoiser": {"toy": {"package": f"ldmkit-toys {version}"}}, "betas": (0.9, 0.99)}
        return Loop(Points(), CONFIG, stage="toy", seed=3, compute=CPU, directory=tmp_path, inputs=inputs)

    done: list[int] = []
    with pytest.raises(Interrupted):
        loop("1.0").run(Listeners(on_step=lambda step, m: done.append(step), stop_asked=lambda: done[-1] == 6))
    with pytest.raises(CheckpointError) as error:
        loop("2.0").run(Listeners())
    assert "denoiser.toy.package was 'ldmkit-toys 1.0' and is 'ldmkit-toys 2.0'. Put it back" in str(error.value)
    assert "betas" not in str(error.value)
    loop("1.0").run(Listeners())


def test_a_loss_that_is_not_finite_stops_the_run_and_updates_nothing(tmp_path: Path) -> None:
    trainee = Points(adversary=False, poison=6)
    before: list[dict[str, Tensor]] = []
    with pytest.raises(NumericError, match=r"stage toy, step 7: the loss of network is nan"):
        run(tmp_path, trainee, on_step=lambda step, m: before.append({k: v.clone() for k, v in state(trainee).items()}))
    assert all(torch.equal(value, before[-1][name]) for name, value in state(trainee).items())


def test_the_averages_follow_the_recurrence(tmp_path: Path) -> None:
    trainee, weights = Points(adversary=False), []
    loop = Loop(trainee, CONFIG, stage="toy", seed=3, compute=CPU, directory=tmp_path)
    expected = trainee.network.net[0].weight.detach().clone()
    loop.run(Listeners(on_step=lambda step, m: weights.append(trainee.network.net[0].weight.detach().clone())))
    for n, weight in enumerate(weights, start=1):
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(loop.ema.averages["net.0.weight"], expected)


def test_a_preview_sees_the_averages_and_leaves_the_weights_alone(tmp_path: Path) -> None:
    trainee, seen = Points(), []

    def preview(ema: object) -> None:
        kept = {name: value.clone() for name, value in trainee.network.state_dict().items()}
        with ema.applied():  # type: ignore[attr-defined]
            seen.append(not torch.equal(trainee.network.net[0].weight, kept["net.0.weight"]))
            seen.append(not trainee.network.training)
        seen.append(trainee.network.training)
        seen.append(all(torch.equal(v, kept[k]) for k, v in trainee.network.state_dict().items()))

    run(tmp_path / "with", trainee, previews={4: preview})
    assert seen == [True] * 4
    assert_equal(trainee, run(tmp_path / "without"))


class LatePoints(Points):
    """The adversary begins at step 8, by an optimiser of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.own_optimizers = {"adversary": OptimizerSpec(lr=3e-3, betas=(0.5, 0.9))}

    def losses(self, batch: Tensor, random: RowRandom, step: int) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor]]]:
        turns = super().losses(batch, random, step)
        yield next(turns)
        if step >= 8:
            yield from turns


def test_a_player_that_leaves_out_its_turn_is_not_updated_and_not_counted(tmp_path: Path) -> None:
    reports: dict[int, dict[str, float]] = {}
    trainee, first = LatePoints(), LatePoints().players["adversary"].weight.detach().clone()

    def on_step(step: int, metrics: dict[str, float]) -> None:
        reports[step] = metrics
        assert torch.equal(trainee.players["adversary"].weight, first) == (step <= 8)

    run(tmp_path, trainee, on_step=on_step)
    assert [reports[step]["adversary_steps"] for step in (1, 8, 9, 24)] == [0, 0, 1, 16]
    assert all(report["network_steps"] == step for step, report in reports.items())
    assert "adversary_loss" not in reports[8]


@pytest.mark.parametrize("stop_at", [4, 8, 9, 20])
def test_going_on_is_exact_before_and_after_a_player_begins(tmp_path: Path, stop_at: int) -> None:
    whole = run(tmp_path / "whole", LatePoints())
    done: list[int] = []
    with pytest.raises(Interrupted):
        run(
            tmp_path / "cut",
            LatePoints(),
            on_step=lambda step, metrics: done.append(step),
            stop_asked=lambda: done[-1] == stop_at,
        )
    counts: list[float] = []
    again = run(tmp_path / "cut", LatePoints(), on_step=lambda step, metrics: counts.append(metrics["adversary_steps"]))
    assert_equal(whole, again)
    assert counts[-1] == 16


def test_a_player_with_an_optimiser_of_its_own_is_trained_by_that_one(tmp_path: Path) -> None:
    loop = Loop(LatePoints(), CONFIG, stage="toy", seed=3, compute=CPU, directory=tmp_path)
    (own,) = loop.optimizers["adversary"]
    assert isinstance(own, torch.optim.AdamW)
    group = own.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-3, (0.5, 0.9), 0.0)
    assert [type(each).__name__ for each in loop.optimizers["network"]] == ["Muon", "AdamW"]


class Normalised(nn.Module):
    """A network with what must not be averaged: running statistics, and a counter of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2, affine=False))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, points: Tensor) -> Tensor:
        self.seen += len(points)
        return self.net(points)


def test_averaging_leaves_running_statistics_and_counters_as_they_are(tmp_path: Path) -> None:
    trainee = Points(adversary=False)
    trainee.network = Normalised()  # type: ignore[assignment]
    trainee.players = {"network": trainee.network}
    trainee.losses = lambda batch, random, step: iter([("network", trainee.network(batch).pow(3).sum(), {})])  # type: ignore[method-assign]
    loop = Loop(trainee, CONFIG, stage="toy", seed=3, compute=CPU, directory=tmp_path)
    ema = loop.run(Listeners())
    assert list(ema.averages) == ["net.0.weight"]
    live = {name: value.clone() for name, value in trainee.network.state_dict().items()}
    with ema.applied():
        pass
    ema.store_in(trainee.network)
    kept = trainee.network.state_dict()
    assert kept["seen"].item() == live["seen"].item() == 24 * 4
    assert kept["net.1.num_batches_tracked"].item() == 24
    for name in ("net.1.running_mean", "net.1.running_var"):
        assert torch.equal(kept[name], live[name])
    assert not torch.equal(kept["net.0.weight"], live["net.0.weight"])


def snapshots(directory: Path) -> dict[str, dict[str, Tensor]]:
    files = sorted((directory / "snapshots").rglob("*.safetensors"))
    return {file.relative_to(directory / "snapshots").as_posix(): load_file(file) for file in files}


def run_with_snapshots(directory: Path, **listeners: object) -> None:
    loop = Loop(Points(), CONFIG, stage="toy", seed=3, compute=CPU, directory=directory, snapshot_every=10)
    loop.run(Listeners(**listeners))  # type: ignore[arg-type]


def test_snapshots_are_averages_of_two_widths_at_their_steps_and_at_the_end(tmp_path: Path) -> None:
    run_with_snapshots(tmp_path)
    steps = ("step-00000010", "step-00000020", "step-00000024")
    assert list(snapshots(tmp_path)) == [f"{s}/ema-{w}.safetensors" for s in steps for w in ("0.050", "0.100")]


def test_snapshots_change_nothing_else(tmp_path: Path) -> None:
    with_them, without = Points(), Points()
    Loop(with_them, CONFIG, stage="toy", seed=3, compute=CPU, directory=tmp_path, snapshot_every=10).run(Listeners())
    Loop(without, CONFIG, stage="toy", seed=3, compute=CPU, directory=tmp_path / "other").run(Listeners())
    assert_equal(with_them, without)


def test_snapshots_are_the_same_after_a_resume(tmp_path: Path) -> None:
    run_with_snapshots(tmp_path / "whole")
    steps: list[int] = []
    with pytest.raises(Interrupted):
        run_with_snapshots(
            tmp_path / "parts", on_step=lambda step, metrics: steps.append(step), stop_asked=lambda: len(steps) == 13
        )
    run_with_snapshots(tmp_path / "parts")
    whole, parts = snapshots(tmp_path / "whole"), snapshots(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[file][name]) for file in whole for name, value in whole[file].items())


def test_any_width_can_be_made_of_the_snapshots_of_a_training(tmp_path: Path) -> None:
    trainee = Points(adversary=False)
    config = replace(CONFIG, steps=200)
    loop = Loop(trainee, config, stage="toy", seed=3, compute=CPU, directory=tmp_path, snapshot_every=20)
    kept = EMA(trainee.network, power_function(0.15))
    loop.run(Listeners(on_step=lambda step, metrics: kept.update(step)))
    stored = {Profile(w, s): f"step-{s:08d}/ema-{w:.3f}.safetensors" for s in range(20, 201, 20) for w in WIDTHS}
    weights, _ = combination(list(stored), Profile(0.15, 200))
    files = snapshots(tmp_path)
    for name, expected in kept.averages.items():
        made = sum(float(x) * files[file][name].double() for x, file in zip(weights, stored.values(), strict=True))
        nearest = min((averages[name] - expected).norm() for averages in files.values())
        assert (made - expected).norm() < 0.3 * nearest
        assert (made - expected).norm() < 0.003 * expected.norm()
