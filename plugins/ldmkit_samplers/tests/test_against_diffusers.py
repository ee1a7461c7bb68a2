"""Where the definitions agree, each sampler walks the same path as the scheduler of diffusers.

Both walk over the same levels with the same network, an arbitrary smooth function of z and t, from the same noise and
with the same fresh noise; docs/samplers.md lists where definitions differ. Schedulers round to single precision inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import ldmkit_samplers
import numpy as np
import pytest
import torch
from ldmkit_samplers import dpmpp_3m
from omegaconf import OmegaConf
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.spacing import spaced
from ldmkit.models import build_part
from ldmkit.values import Levels

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # of numpy, about their arrays

BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (4, 8, 8)
CLOSE = {"rtol": 0, "atol": 1e-4}
ONE = torch.ones(1, dtype=torch.float64)


def network(z: Tensor, t: Tensor) -> Tensor:
    t = t.double()
    return torch.tanh(z * (1 + t / 1000) + 0.3 * torch.sin(t / 50))


def denoise(z: Tensor, level: Levels) -> Tensor:
    return (z - level.sigma * network(z, level.t)) / level.alpha


def abar() -> Tensor:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    return (1 - betas).cumprod(0)


def training() -> Levels:
    return Levels(abar().sqrt(), (1 - abar()).sqrt(), torch.arange(1000).double())


def random_rows() -> RowRandom:
    return RowRandom.of(0, "samples", 0, range(3))


def noise() -> Tensor:
    return random_rows().normal("noise", SHAPE, dtype=torch.float64)


def ours(option: str, levels: Levels, denoise: Callable[[Tensor, Levels], Tensor] = denoise, **changes: Any) -> Tensor:
    file = Path(ldmkit_samplers.__file__).parent / "conf" / "sampler" / f"{option}.yaml"
    node: Any = OmegaConf.to_container(OmegaConf.load(file))
    walked: Tensor = build_part("sampler", {**node, **changes}).sample(denoise, noise(), levels, random_rows())
    return walked


def levels_of(scheduler: Any) -> Levels:
    """The levels at the timesteps of a scheduler that counts training steps, and the clean one."""
    t = scheduler.timesteps
    signal = torch.cat([abar()[t], ONE])
    return Levels(signal.sqrt(), (1 - signal).sqrt(), torch.cat([t, 0 * ONE]).double())


def theirs(scheduler: Any, start: Tensor, **arguments: Any) -> Tensor:
    z = start
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(z, t)
        z = scheduler.step(network(seen, t), t, z, **arguments).prev_sample
    return z.double()


def exact(scheduler: Any, steps: int, **arguments: Any) -> Any:
    """A scheduler with its tables in double precision; those that walk over sigma / alpha have it as computed here."""
    if hasattr(scheduler, "final_alpha_cumprod"):
        clean = scheduler.config.get("set_alpha_to_one")
        scheduler.final_alpha_cumprod = ONE[0] if clean else abar()[0]
    if hasattr(scheduler, "one"):
        scheduler.one = ONE[0]
    scheduler.alphas_cumprod = abar()
    scheduler.set_timesteps(steps, **arguments)
    if hasattr(scheduler, "sigmas"):
        signal = abar().numpy()[np.asarray(scheduler.timesteps).astype(int)]
        scheduler.sigmas = torch.from_numpy(np.append(np.sqrt((1 - signal) / signal), 0.0))
    return scheduler


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return ``same_noise(module, name)``: schedulers of ``module`` draw what our sampler ``name`` draws."""

    def patch(module: str, name: str) -> None:
        numbers = count()

        def draw(*shape: Any, **arguments: Any) -> Tensor:
            return random_rows().normal(f"{name}-{next(numbers)}", SHAPE, dtype=torch.float64)

        monkeypatch.setattr(f"diffusers.schedulers.{module}.randn_tensor", draw)

    return patch


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim(steps: int, eta: float, same_noise: Callable[[str, str], None]) -> None:
    same_noise("scheduling_ddim", "ddim")
    scheduler = exact(diffusers.DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing"), steps)
    walked = ours("ddim", levels_of(scheduler), eta=eta)
    torch.testing.assert_close(walked, theirs(scheduler, noise(), eta=eta), rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [4, 20, 50])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_as_in_the_original_code(steps: int, eta: float, same_noise: Callable[[str, str], None]) -> None:
    same_noise("scheduling_ddim", "ddim")
    scheduler = diffusers.DDIMScheduler(
        **BETAS, clip_sample=False, timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False
    )
    walked = ours("ddim", spaced(training(), steps, "compvis"), eta=eta)
    torch.testing.assert_close(walked, theirs(exact(scheduler, steps), noise(), eta=eta), rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [4, 20, 50])
def test_plms_as_in_the_original_code(steps: int) -> None:
    scheduler = diffusers.PNDMScheduler(
        **BETAS, skip_prk_steps=True, timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False
    )
    walked = ours("plms", spaced(training(), steps, "compvis"))
    torch.testing.assert_close(walked, theirs(exact(scheduler, steps), noise()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm(steps: int, variance: str, same_noise: Callable[[str, str], None]) -> None:
    """With their trailing steps the large variance would be added in the last step too."""
    same_noise("scheduling_ddpm", "ddpm")
    scheduler = diffusers.DDPMScheduler(
        **BETAS, clip_sample=False, variance_type=f"fixed_{variance}", timestep_spacing="leading"
    )
    walked = ours("ddpm", levels_of(exact(scheduler, steps)), variance=variance)
    torch.testing.assert_close(walked, theirs(scheduler, noise()), **CLOSE)


@dataclass
class Learned:
    """A network whose second output says where between small and large the variance lies, also beyond them."""

    def __call__(self, z: Tensor, level: Levels) -> Tensor:
        return denoise(z, level)

    def variance(self, z: Tensor, level: Levels) -> Tensor:
        return (self.raw(z) + 1) / 2

    def raw(self, z: Tensor) -> Tensor:
        return 1.5 * torch.sin(3 * z)


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
def test_ddpm_with_a_learned_variance(steps: int, same_noise: Callable[[str, str], None]) -> None:
    same_noise("scheduling_ddpm", "ddpm")
    scheduler = diffusers.DDPMScheduler(
        **BETAS, clip_sample=False, variance_type="learned_range", timestep_spacing="leading"
    )
    model = Learned()
    walked = ours("ddpm", levels_of(exact(scheduler, steps)), model, variance="learned")
    z = noise()
    for t in scheduler.timesteps:
        z = scheduler.step(torch.cat([network(z, t), model.raw(z)], dim=1), t, z).prev_sample
    torch.testing.assert_close(walked, z.double(), **CLOSE)


def multistep(steps: int, **config: Any) -> Any:
    return exact(diffusers.DPMSolverMultistepScheduler(**BETAS, timestep_spacing="trailing", **config), steps)


@pytest.mark.parametrize("steps", [1, 2, 4, 20, 50])
def test_dpmpp_2m(steps: int) -> None:
    scheduler = multistep(steps, solver_order=2)
    torch.testing.assert_close(ours("dpmpp-2m", levels_of(scheduler)), theirs(scheduler, noise()), **CLOSE)


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
def test_dpmpp_3m_but_for_a_factor(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpmpp_3m, "CURVATURE", 1.0)
    scheduler = multistep(steps, solver_order=3, solver_type="heun", lower_order_final=False)
    torch.testing.assert_close(ours("dpmpp-3m", levels_of(scheduler)), theirs(scheduler, noise()), **CLOSE)


@pytest.mark.parametrize("steps", [1, 2, 4, 20, 50])
def test_dpmpp_sde(steps: int, same_noise: Callable[[str, str], None]) -> None:
    same_noise("scheduling_dpmsolver_multistep", "dpmpp-sde")
    scheduler = multistep(steps, solver_order=2, algorithm_type="sde-dpmsolver++")
    torch.testing.assert_close(ours("dpmpp-sde", levels_of(scheduler)), theirs(scheduler, noise()), **CLOSE)


@pytest.mark.parametrize("steps", [1, 3, 21, 51])
def test_dpmpp_2s(steps: int) -> None:
    """Theirs counts evaluations. Evenly in log-SNR every second level is the middle of its neighbours, as r = 1/2."""
    scheduler = diffusers.DPMSolverSinglestepScheduler(**BETAS, solver_order=2)
    levels = spaced(training(), steps, "uniform-log-snr")
    scheduler.set_timesteps(steps)
    scheduler.timesteps, scheduler.sigmas = levels.t[:-1], levels.sigma / levels.alpha
    path = Levels(*(value[:-1].flip(0) for value in (levels.alpha, levels.sigma, levels.t)))
    every_second = [*range(0, steps, 2), steps]
    walk = Levels(levels.alpha[every_second], levels.sigma[every_second], levels.t[every_second], path)
    torch.testing.assert_close(ours("dpmpp-2s", walk), theirs(scheduler, noise()), **CLOSE)


@pytest.mark.parametrize("steps", [1, 2, 4, 20, 50])
@pytest.mark.parametrize("predictor", [1, 2])
def test_unipc(steps: int, predictor: int) -> None:
    scheduler = exact(diffusers.UniPCMultistepScheduler(**BETAS, solver_order=predictor), steps)
    walked = ours("unipc", levels_of(scheduler), predictor=predictor)
    torch.testing.assert_close(walked, theirs(scheduler, noise()), **CLOSE)


@pytest.mark.parametrize("steps", [4, 20, 50])
@pytest.mark.parametrize("estimates", [1, 2, 3])
def test_deis(steps: int, estimates: int) -> None:
    """Theirs ends at the least noise of training."""
    scheduler = diffusers.DEISMultistepScheduler(**BETAS, solver_order=estimates, lower_order_final=False)
    levels = levels_of(exact(scheduler, steps))
    levels.alpha[-1], levels.sigma[-1] = abar()[0].sqrt(), (1 - abar()[0]).sqrt()
    scheduler.sigmas[-1] = levels.sigma[-1] / levels.alpha[-1]
    torch.testing.assert_close(ours("deis", levels, estimates=estimates), theirs(scheduler, noise()), **CLOSE)


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
@pytest.mark.parametrize(
    ("option", "scheduler"),
    [("euler", "EulerDiscrete"), ("euler-a", "EulerAncestralDiscrete"), ("heun", "HeunDiscrete")],
)
def test_over_sigma(option: str, scheduler: str, steps: int, same_noise: Callable[[str, str], None]) -> None:
    """Theirs walks with z / alpha."""
    part = getattr(diffusers, f"{scheduler}Scheduler")(**BETAS, timestep_spacing="trailing")
    if option == "euler-a":
        same_noise("scheduling_euler_ancestral_discrete", "ddim")
    part.set_timesteps(steps)
    once = part.timesteps[[0, *range(1, len(part.timesteps), 2)]] if option == "heun" else part.timesteps
    signal = torch.cat([abar()[once.long()], ONE])
    levels = Levels(signal.sqrt(), (1 - signal).sqrt(), torch.cat([once.double(), 0 * ONE]))
    walked = ours(option, levels)
    torch.testing.assert_close(walked, theirs(part, noise() / levels.alpha[0]), rtol=0, atol=2e-4)


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
def test_rectified_flow(steps: int) -> None:
    """Euler's method on dz / dsigma = eps - z0 is DDIM again, at alpha = 0 too."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    sigma = scheduler.sigmas.double()
    levels = Levels(1 - sigma, sigma, 1000 * sigma)
    assert levels.alpha[0] == 0
    walked = ours("euler", levels, lambda z, level: z - level.sigma * network(z, level.t))
    z = noise()
    for t in scheduler.timesteps:
        z = scheduler.step(network(z, t), t, z).prev_sample
    torch.testing.assert_close(walked, z.double(), **CLOSE)
