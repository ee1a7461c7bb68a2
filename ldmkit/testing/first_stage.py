"""Checks of first stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from ldmkit.protocols import FirstStage
from ldmkit.testing.outputs import ModuleSuite, normal


class FirstStageSuite(ModuleSuite):
    """Checks of a part of the group ``model``, for images with 3 channels."""

    kind = "model"
    protocol = FirstStage

    def runtime(self) -> dict[str, Any]:
        return {"channels": 3}

    def inputs(self, rows: Sequence[int]) -> Any:
        return normal("pixels", 3, 3, 32, 64)[list(rows)].clamp(-1, 1)

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        posterior = part.encode(inputs)
        decoded = part.decode(posterior.mode())
        return {"mean": posterior.mean, "std": posterior.std, "pixels": decoded}

    def test_latents_have_the_channels_and_the_factor_that_it_declares(self) -> None:
        part = self.ready()
        channels, factor = part.spec.channels, part.spec.factor
        for height, width in ((32, 32), (32, 64), (2 * factor, factor)):
            posterior = part.encode(normal("pixels", 2, 3, height, width))
            expected = (2, channels, height // factor, width // factor)
            for name, value in {"mean": posterior.mean, "std": posterior.std}.items():
                got = tuple(value.shape)
                assert got == expected, f"expected {name} {expected} of {height} x {width} pixels, got {got}"
                assert value.dtype == torch.float32, f"expected {name} in float32, got {value.dtype}"

    def test_decoding_gives_pictures_of_the_size_encoded(self) -> None:
        part = self.ready()
        for height, width in ((32, 32), (32, 64)):
            images = normal("pixels", 2, 3, height, width)
            got, expected = tuple(part.decode(part.encode(images).mode()).shape), (2, 3, height, width)
            assert got == expected, f"expected pictures {expected}, got {got}"

    def test_nothing_beyond_its_declared_reach_has_an_influence(self) -> None:
        part = self.ready()
        if part.reach is None:
            raise SkipTest("it declares no reach")
        for way, reach, channels, places in (
            ("encode", part.reach.encode, 3, part.spec.factor),
            ("decode", part.reach.decode, part.spec.channels, 1),
        ):
            side = (2 * reach + 3) * places  # one position more than it may see, on each side of the one that changes
            before = normal(way, 1, channels, side, side).clamp(-1, 1)
            middle = slice((reach + 1) * places, (reach + 2) * places)
            after = before.clone()
            after[..., middle, middle] *= -1
            one, other = (part.encode(x).mean if way == "encode" else part.decode(x) for x in (before, after))
            edge = one.shape[2] // (2 * reach + 3)
            apart = (one - other).detach()
            apart[..., edge:-edge, edge:-edge] = 0
            got = float(apart.abs().max())
            assert got <= 1e-4, (
                f"expected {way} to look {reach} positions far, got {got:.2g} apart for one further away"
            )

    def test_the_deviation_is_not_negative(self) -> None:
        lowest = self.outputs(self.ready(), self.inputs(range(3)))["std"].min().item()
        assert lowest >= 0, f"expected a std of 0 or more, got {lowest}"

    def test_other_pictures_have_other_latents(self) -> None:
        mean = self.outputs(self.ready(), self.inputs(range(2)))["mean"]
        assert not torch.equal(mean[0], mean[1]), "expected other latents for another picture, got the same"
