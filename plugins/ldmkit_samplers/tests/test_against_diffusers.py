"""Where the definitions agree, each sampler walks the same path as the scheduler of diffusers.

Both walk over the same levels with the same network, an arbitrary smooth eps-predictor. Agreed: trailing steps, a last
step to alpha = 1, the midpoint form of 2M, first order at its last step.
"""

import numpy as np
import pytest
import torch
from ldmkit_samplers.ddim import DDIM
from ldmkit_samplers.dpmpp_2m import DPMpp2M
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.values import Levels

diffusers = pytest.importorskip("diffusers")

BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def eps_network(z: Tensor, t: Tensor) -> Tensor:
    t = t.double()
    return torch.tanh(z * (1 + t / 1000) + 0.3 * torch.sin(t / 50))


def denoise(z: Tensor, level: Levels) -> Tensor:
    return (z - level.sigma * eps_network(z, level.t)) / level.alpha


def abar() -> Tensor:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    return (1 - betas).cumprod(0)


def levels_of(scheduler: object) -> Levels:
    t = scheduler.timesteps  # type: ignore[attr-defined]
    signal = torch.cat([abar()[t], torch.ones(1, dtype=torch.float64)])
    return Levels(signal.sqrt(), (1 - signal).sqrt(), torch.cat([t, torch.zeros(1)]).double())


def random_rows() -> RowRandom:
    return RowRandom.of(0, "samples", 0, range(3))


def noise() -> Tensor:
    return random_rows().normal("noise", (4, 8, 8), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim(steps: int, eta: float) -> None:
    scheduler = diffusers.DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=True, prediction_type="epsilon", timestep_spacing="trailing"
    )
    scheduler.alphas_cumprod = abar()
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(steps)
    z = noise()
    for i, t in enumerate(scheduler.timesteps):
        fresh = random_rows().normal(f"ddim-{i}", (4, 8, 8), dtype=torch.float64)
        z = scheduler.step(eps_network(z, t), t, z, eta=eta, variance_noise=fresh if eta else None).prev_sample
    ours = DDIM(DDIM.Config(name="ddim", steps=steps, eta=eta))
    walked = ours.sample(denoise, noise(), levels_of(scheduler), random_rows())
    torch.testing.assert_close(walked, z, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside set_timesteps
@pytest.mark.parametrize("steps", [1, 2, 4, 20, 50])
def test_dpmpp_2m(steps: int) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **BETAS, solver_order=2, prediction_type="epsilon", algorithm_type="dpmsolver++", solver_type="midpoint",
        timestep_spacing="trailing", final_sigmas_type="zero",
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    signal = abar()[scheduler.timesteps].numpy()
    scheduler.sigmas = torch.from_numpy(np.append(np.sqrt((1 - signal) / signal), 0.0))
    z = noise()
    for t in scheduler.timesteps:
        z = scheduler.step(eps_network(z, t), t, z).prev_sample
    ours = DPMpp2M(DPMpp2M.Config(name="dpmpp-2m", steps=steps))
    walked = ours.sample(denoise, noise(), levels_of(scheduler), random_rows())
    torch.testing.assert_close(walked, z.double(), rtol=0, atol=1e-4)  # theirs is rounded to single precision each step
