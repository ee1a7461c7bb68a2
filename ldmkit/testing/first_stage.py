"""Checks of first stages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any
from unittest import SkipTest

import torch
import torch.nn.functional as F
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import FirstStage
from ldmkit.testing.networks import NetworkSuite
from ldmkit.testing.outputs import ROWS, largest_difference, normal
from ldmkit.testing.process import untouched
from ldmkit.values import Reconstruction


class FirstStageSuite(NetworkSuite):
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

    def learned_from(self, part: Any) -> dict[str, Tensor]:
        """What the loss sees: the pixels decoded, the posterior, and what the first stage itself wants small."""
        made = self.reconstruct(part, ROWS)
        learned = {"pixels": made.images, "mean": made.posterior.mean, "std": made.posterior.std}
        return learned if made.penalty is None else {**learned, "penalty": made.penalty[None]}

    def lesson(self, part: Any) -> Callable[[], Tensor]:
        """To reconstruct smooth pictures."""
        images = F.interpolate(normal("smooth", 3, 3, 2, 4), (32, 64), mode="bilinear").clamp(-1, 1)
        random = RowRandom([("testing", row) for row in ROWS])

        def error() -> Tensor:
            made: Reconstruction = part.reconstruct(images, random)
            return (made.images - images).square().mean() + (0.0 if made.penalty is None else made.penalty)

        return error

    def graphs(self, part: Any) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        images = self.inputs(ROWS)
        latents = part.encode(images).mode()
        return {"encode": (lambda images: part.encode(images).mean, (images,)), "decode": (part.decode, (latents,))}

    def reconstruct(self, part: Any, rows: Sequence[int]) -> Reconstruction:
        """What training makes of ``rows``, each with random numbers of its own."""
        made: Reconstruction = part.reconstruct(self.inputs(rows), RowRandom([("testing", row) for row in rows]))
        return made

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

    def test_a_reconstruction_is_a_picture_of_the_same_size_with_the_posterior_of_encoding(self) -> None:
        part, images = self.ready(), self.inputs(ROWS)
        made, posterior = self.reconstruct(part, ROWS), part.encode(images)
        got, expected = tuple(made.images.shape), tuple(images.shape)
        assert got == expected, f"expected reconstructions {expected}, got {got}"
        pairs = {"mean": (made.posterior.mean, posterior.mean), "std": (made.posterior.std, posterior.std)}
        different = [name for name, (one, other) in pairs.items() if largest_difference(one, other) > 1e-4]
        assert not different, f"expected the posterior of encode, got another {', '.join(different)}"

    def test_a_reconstruction_of_a_row_is_the_same_alone_and_in_a_batch(self) -> None:
        part = self.ready()
        together = self.reconstruct(part, ROWS).images
        for row in ROWS:
            apart = largest_difference(self.reconstruct(part, [row]).images, together[row : row + 1])
            assert apart <= 1e-4, f"expected the reconstruction of row {row} as in the batch, got {apart:.2g} apart"

    def test_what_it_wants_small_is_one_finite_number_and_its_parts_are_for_the_log(self) -> None:
        made = self.reconstruct(self.ready(), ROWS)
        for name, value in {**({} if made.penalty is None else {"penalty": made.penalty}), **made.parts}.items():
            assert value.shape == (), f"expected {name} to be one number, got {tuple(value.shape)}"
            assert value.isfinite(), f"expected {name} to be finite, got {value.item()}"
        learning = [name for name, value in made.parts.items() if value.requires_grad]
        assert not learning, f"expected detached parts, got a gradient in {', '.join(learning)}"

    def test_training_it_is_a_function_of_the_rows_and_their_random_numbers(self) -> None:
        one = self.ready().train()
        other = copy.deepcopy(one)
        results = []
        for part in (one, other):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # as the training loop does at every step
                results.append([self.reconstruct(part, ROWS) for _ in range(2)][-1])
        same = torch.equal(results[0].images, results[1].images)
        assert same, "expected equal reconstructions of equal instances in training, got others"
        states = one.state_dict(), other.state_dict()
        different = [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]
        assert not different, f"expected equal instances to stay equal in training, got another {', '.join(different)}"

    def test_every_position_is_counted_for_one_code_of_each_codebook(self) -> None:
        part = self.ready()
        mean = part.encode(self.inputs(ROWS)).mean
        counts = part.code_counts(mean)
        if counts is None:
            raise SkipTest("its decoder takes latents as they are")
        expected = mean[:, 0].numel()
        got = sorted(set(counts.sum(1).tolist()))
        assert got == [expected], f"expected {expected} positions in each codebook, got {got}"

    def test_reconstructing_draws_no_global_random_numbers(self) -> None:
        part = self.ready()
        self.reconstruct(part, ROWS)
        with untouched(during="reconstructing"):
            self.reconstruct(part, ROWS)
