"""Noise schedules are those that diffusers trains with, where it has them."""

from typing import Any

import pytest
import torch
from ldmkit_objectives.flow import Flow
from ldmkit_objectives.v import V

diffusers = pytest.importorskip("diffusers")


@pytest.mark.parametrize(
    ("kind", "theirs", "ends"),
    [
        ("linear", "scaled_linear", (0.00085, 0.012)),
        ("linear", "scaled_linear", (0.0015, 0.0205)),
        ("linear-beta", "linear", (0.0001, 0.02)),
        ("cosine", "squaredcos_cap_v2", (0.0001, 0.02)),
    ],
)
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_schedules_of_betas_are_those_of_diffusers(
    kind: str, theirs: str, ends: tuple[float, float], zero_terminal_snr: bool, build: Any
) -> None:
    start, end = ends
    keys = {"kind": kind, "start": start, "end": end, "zero_terminal_snr": zero_terminal_snr}
    ours = build(V, {f"schedule.{key}": value for key, value in keys.items()}).schedule
    scheduler = diffusers.DDPMScheduler(
        beta_schedule=theirs, beta_start=start, beta_end=end, rescale_betas_zero_snr=zero_terminal_snr
    )
    torch.testing.assert_close(ours.alpha.square(), scheduler.alphas_cumprod, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_walks_from_noise_as_in_diffusers(shift: float, build: Any) -> None:
    ours = build(Flow, {"schedule.kind": "flow", "schedule.shift": shift}).levels(1000)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
    torch.testing.assert_close(ours.sigma[:-1], scheduler.sigmas, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.alpha[:-1], 1 - scheduler.sigmas, rtol=1e-5, atol=1e-6)
