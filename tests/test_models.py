"""What a model is told while it is built."""

from __future__ import annotations

import pytest
import torch

import ldmkit
from ldmkit.errors import ConfigError
from ldmkit.testing.outputs import randomise

LEARNED = ["scale=smoke", "cond=[class]", "sampler=ddpm", "sampler.steps=4", "objective.variance=learned"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["guidance.scale=2"], ["text"]),
        (["guidance.scale=2", "cond=[text,class]", "cond.class.dropout=0"], ["text", "class"]),
        (["guidance.scale={text: 1, class: 3}", "cond=[text,class]"], []),
        (["guidance.scale={text: 3, class: 1}", "cond=[text,class]"], ["text"]),
        (["guidance.scale=1"], []),
        (["guidance=none"], []),
    ],
)
def test_guidance_by_a_null_that_is_never_trained_is_said_in_one_line(
    overrides: list[str], named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    ldmkit.build(ldmkit.compose(["scale=smoke", "cond.text.dropout=0", *overrides]))
    said = [record.message for record in caplog.records if record.name == "ldmkit"]
    assert len(said) == bool(named)
    for line in said:
        assert f"compares with the null conditioning of {', '.join(named)}, which is not trained" in line
        assert line.endswith(" ".join(f"cond.{name}.dropout=0.1" for name in named) + ", or guidance=none")


@pytest.mark.parametrize("window", [None, 16])
def test_a_learned_variance_reaches_the_sampler_through_guidance_and_windows(window: int | None) -> None:
    """A network that says the end of its range draws what that end draws, and in between something else."""
    drawn = {}
    for variance, raw in (("small", 0.0), ("large", 0.0), ("learned", -1.0), ("learned", 1.0), ("learned", 0.0)):
        model = ldmkit.build(ldmkit.compose([*LEARNED, f"sampler.variance={variance}"]))
        randomise(model.denoiser)
        model.denoiser.out[2].weight.data[4:] = 0
        model.denoiser.out[2].bias.data[4:] = raw
        drawn[variance, raw] = model.sample({"class": torch.tensor([3, 5])}, window=window)
    torch.testing.assert_close(drawn["learned", -1.0], drawn["small", 0.0])
    torch.testing.assert_close(drawn["learned", 1.0], drawn["large", 0.0])
    for end in ("small", "large"):
        assert (drawn["learned", 0.0] - drawn[end, 0.0]).abs().max() > 1e-3


def test_a_sampler_that_wants_a_learned_variance_refuses_an_objective_without() -> None:
    with pytest.raises(ConfigError, match=r"'ddpm' asks for a learned variance, but objective 'v' learns none; train"):
        ldmkit.build(ldmkit.compose(["scale=smoke", "sampler=ddpm", "sampler.variance=learned"]))
