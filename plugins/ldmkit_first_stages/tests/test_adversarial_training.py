"""Training a first stage against its discriminator: turns, counters, exact resume, what becomes of reconstructions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ldmkit
from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import Interrupted
from ldmkit.models import build_data, build_loss
from ldmkit.registry.config import TrainConfig
from ldmkit.stages.first_stage import FirstStageTrainee
from ldmkit.training.device import Compute
from ldmkit.training.loop import Listeners, Loop
from ldmkit.values import to_pixels

START, STEPS = 6, 12
SHORT = {
    "scale": "smoke",
    "loss": "kl",
    "loss.discriminator.start": START,
    "train.first_stage.steps": STEPS,
    "train.first_stage.batch_size": 4,
    "train.first_stage.log_every": 1,
    "train.first_stage.checkpoint_every": 100,
}


def loop_of(directory: Path, changes: Mapping[str, Any] | None = None) -> Loop:
    config = ldmkit.compose([f"{key}={value}" for key, value in {**SHORT, **(changes or {})}.items()])
    train: TrainConfig = ldmkit.check(config).train.first_stage
    data = build_data(config)
    model = ldmkit.build(config, data.spec)
    trainee = FirstStageTrainee(model.first_stage, build_loss(config, model.first_stage, data.spec), data)
    compute = Compute(torch.device("cpu"), bf16=False)
    return Loop(trainee, train, stage="first-stage", seed=0, compute=compute, directory=directory)


def trained(loop: Loop) -> dict[str, Tensor]:
    """All that the training has made: weights, running statistics, averages, and the optimisers' states."""
    players = {f"{name}.{key}": v for name, m in loop.trainee.players.items() for key, v in m.state_dict().items()}
    averages = {f"ema.{name}": value for name, value in loop.ema.state_dict().items()}
    states = {
        f"{player}.{number}.{index}.{name}": value
        for player, optimizers in loop.optimizers.items()
        for number, optimizer in enumerate(optimizers)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    return {**players, **averages, **states}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loop, list[dict[str, float]]]:
    """A training from beginning to end, and what it reported at each step."""
    loop = loop_of(tmp_path_factory.mktemp("whole"))
    reports: list[dict[str, float]] = []
    loop.run(Listeners(on_step=lambda step, metrics: reports.append(metrics)))
    return loop, reports


@pytest.mark.parametrize("stop_at", [3, START, START + 1, 10])
def test_stopping_before_or_after_the_game_begins_changes_no_bit(tmp_path: Path, whole, stop_at: int) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted):
        loop_of(tmp_path).run(
            Listeners(on_step=lambda step, metrics: done.append(step), stop_asked=lambda: done[-1] == stop_at)
        )
    rest: list[dict[str, float]] = []
    again = loop_of(tmp_path)
    again.run(Listeners(on_step=lambda step, metrics: rest.append(metrics)))
    assert len(rest) == STEPS - stop_at
    expected, got = trained(whole[0]), trained(again)
    assert expected.keys() == got.keys()
    assert [name for name, value in expected.items() if not torch.equal(value, got[name])] == []
    assert any(name.startswith("discriminator.0.") for name in got)
    assert any("running_mean" in name for name in got)
    timeless = [{key: value for key, value in report.items() if key != "seconds"} for report in whole[1][stop_at:]]
    assert [{key: value for key, value in report.items() if key != "seconds"} for report in rest] == timeless


def test_steps_of_both_players_and_images_are_counted_apart(whole) -> None:
    _, reports = whole
    counted = [(r["generator_steps"], r["discriminator_steps"], r["images"]) for r in reports]
    assert counted == [(step, max(0, step - START), 4 * step) for step in range(1, STEPS + 1)]


def test_the_log_has_the_games_figures_from_its_start_on(whole) -> None:
    _, reports = whole
    game = {"d_weight", "generator", "logits_real", "logits_fake", "discriminator_loss"}
    always = {
        "loss",
        "lr",
        "reconstruction",
        "kl",
        "logvar",
        "images",
        "seconds",
        "generator_steps",
        "discriminator_steps",
    }
    assert [set(report) for report in reports] == [always] * START + [always | game] * (STEPS - START)


def test_the_discriminator_has_an_optimiser_of_its_own_kind(whole) -> None:
    loop, _ = whole
    (own,) = loop.optimizers["discriminator"]
    assert type(own) is torch.optim.AdamW
    assert own.defaults["betas"] == (0.5, 0.9)
    assert own.defaults["weight_decay"] == 0
    assert {type(each).__name__ for each in loop.optimizers["generator"]} == {"Muon", "AdamW"}
    held = {id(weight) for group in own.param_groups for weight in group["params"]}
    assert held == {id(weight) for weight in loop.trainee.players["discriminator"].parameters()}


def test_neither_discriminator_nor_perceptual_network_is_averaged_or_saved_with_the_first_stage(tmp_path: Path) -> None:
    loop = loop_of(tmp_path, {"loss.perceptual": "random"})
    names = {*loop.ema.averages, *loop.trainee.players["generator"].state_dict()}
    assert {name for name in names if name.startswith("loss.")} == {"loss.logvar"}
    assert any(name.startswith("model.decoder.") for name in names)


def test_the_log_variance_is_trained_and_averaged(whole) -> None:
    loop, _ = whole
    logvar = loop.trainee.players["generator"].get_parameter("loss.logvar")
    assert logvar.item() != 0
    assert loop.ema.averages["loss.logvar"].item() not in (0, logvar.item())


def test_the_first_turn_leaves_the_discriminators_weights_alone(tmp_path: Path) -> None:
    loop = loop_of(tmp_path, {"loss.discriminator.start": 0})
    indices = [0, 1, 2, 3]
    turns = loop.trainee.losses(loop.trainee.read(indices), RowRandom.of(0, "first-stage", 0, indices), 0)
    player, loss, _ = next(turns)
    loss.backward()
    assert player == "generator"
    assert all(weight.grad is None for weight in loop.trainee.players["discriminator"].parameters())
    first = {name: weight.grad.clone() for name, weight in loop.trainee.players["generator"].named_parameters()}
    player, loss, _ = next(turns)
    loss.backward()
    assert player == "discriminator"
    assert all(weight.grad is not None for weight in loop.trainee.players["discriminator"].parameters())
    for name, weight in loop.trainee.players["generator"].named_parameters():
        assert torch.equal(weight.grad, first[name]), name
    assert next(turns, None) is None


def psnr(loop: Loop) -> float:
    """Of held-out pictures, from the posterior's mean, with the weights as they are: dB for pixels in [-1, 1]."""
    trainee = loop.trainee
    images = to_pixels(trainee.data.read("validation", range(64)).images)
    with torch.no_grad():
        made = trainee.first_stage.decode(trainee.first_stage.encode(images).mode()).clamp(-1, 1)
    return float(10 * torch.log10(4 / (made - images).square().mean()))


@pytest.mark.slow
def test_the_game_costs_at_most_one_and_a_half_decibels(tmp_path: Path) -> None:
    changes = {
        "scale": "demo",
        "data.size": 32,
        "loss.discriminator.start": 200,
        "train.first_stage.steps": 400,
        "train.first_stage.batch_size": 8,
    }
    loop = loop_of(tmp_path, changes)
    measured: dict[int, float] = {}
    figures: dict[int, dict[str, float]] = {}

    def on_step(step: int, metrics: dict[str, float]) -> None:
        figures[step] = metrics
        if step in (200, 400):
            measured[step] = psnr(loop)

    loop.run(Listeners(on_step=on_step))
    assert measured[200] > 15
    assert measured[400] > measured[200] - 1.5
    assert figures[400]["discriminator_steps"] == 200
    assert figures[400]["d_weight"] > 0
    assert figures[400]["logits_real"] > figures[400]["logits_fake"] + 1  # the game is a real one: it tells them apart
