"""Checks of denoisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, combinations
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.protocols import Denoiser
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.testing.networks import NetworkSuite
from ldmkit.testing.outputs import ROWS, largest_difference, normal
from ldmkit.testing.suite import refusal
from ldmkit.values import Conditioning

WIDTHS = {"tokens": 24, "vector": 16, "map": 3}
LENGTHS = (5, 2, 3)
"""Widths of the forms of conditioning; how many of five tokens are real, in each row."""


class DenoiserSuite(NetworkSuite):
    """Checks of a part of the group ``denoiser``, with latents of ``latent`` on a grid of ``grid`` (h, w)."""

    kind = "denoiser"
    protocol = Denoiser
    latent: ClassVar[LatentSpec] = LatentSpec(channels=4, factor=8)
    grid: ClassVar[tuple[int, int]] = (8, 8)

    def forms(self) -> tuple[str, ...]:
        """The forms of conditioning that the part accepts."""
        return tuple(form for form in WIDTHS if form in self.part_class().accepts)

    def runtime(self) -> dict[str, Any]:
        return {"latent": self.latent, "cond": CondSpec(**{form: WIDTHS[form] for form in self.forms()})}

    def inputs(self, rows: Sequence[int]) -> Any:
        return self.called_with(rows, self.forms(), self.grid)

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        return {"raw": part(*inputs)}

    def lesson(self, part: Any) -> Callable[[], Tensor]:
        """To say noise that nothing tells of."""
        z, t, conditioning = self.inputs(ROWS)
        target = normal("target", *z.shape)
        return lambda: (part(z, t, conditioning) - target).square().mean()

    def graphs(self, part: Any) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        z, t, conditioning = self.inputs(ROWS)
        return {"forward": (part, (z, t, conditioning)), "prepared": (part, (z, t, part.prepare(conditioning)))}

    def called_with(
        self, rows: Sequence[int], forms: Sequence[str], grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Conditioning]:
        """Noisy latents, times and conditioning of ``forms``, for a batch of ``rows``."""
        picked, (h, w) = list(rows), grid
        mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
        given = {"vector": normal("vector", 3, WIDTHS["vector"]), "map": normal("map", 3, WIDTHS["map"], h, w)}
        given["tokens"] = normal("tokens", 3, max(LENGTHS), WIDTHS["tokens"])
        present = {form: given[form][picked] for form in forms}
        conditioning = Conditioning(**present, mask=mask[picked] if "tokens" in forms else None)
        return (
            normal("z", 3, self.latent.channels, h, w)[picked],
            torch.tensor([999.0, 0.0, 412.5])[picked],
            conditioning,
        )

    def test_it_accepts_forms_that_there_are(self) -> None:
        accepts = self.part_class().accepts
        assert isinstance(accepts, frozenset), f"expected accepts to be a frozenset, got {accepts!r}"
        assert accepts <= set(WIDTHS), f"expected accepts to hold some of {sorted(WIDTHS)}, got {sorted(accepts)}"

    def test_it_takes_every_combination_of_the_forms_it_accepts(self) -> None:
        forms = self.forms()
        for chosen in chain.from_iterable(combinations(forms, count) for count in range(len(forms) + 1)):
            cond = CondSpec(**{form: WIDTHS[form] for form in chosen})
            part = self.part(cond=cond).eval()
            z, t, conditioning = self.called_with(ROWS, chosen, self.grid)
            got = tuple(part(z, t, conditioning).shape)
            assert got == tuple(z.shape), f"with {chosen}: expected {tuple(z.shape)}, got {got}"

    def test_it_gives_as_many_channels_as_the_objective_wants(self) -> None:
        part = self.part(latent=replace(self.latent, predictions=2)).eval()
        z, t, conditioning = self.called_with(ROWS, self.forms(), self.grid)
        got, expected = part(z, t, conditioning).shape[1], 2 * self.latent.channels
        assert got == expected, f"expected {expected} channels for two numbers for each of a latent, got {got}"

    def test_its_output_has_the_shape_and_type_of_the_latents_at_any_size(self) -> None:
        part, (h, w) = self.ready(), self.grid
        for grid in ((h, w), (2 * h, w), (h, 3 * w)):
            z, t, conditioning = self.called_with(ROWS, self.forms(), grid)
            got = part(z, t, conditioning)
            assert got.shape == z.shape, f"expected {tuple(z.shape)}, got {tuple(got.shape)}"
            assert got.dtype == z.dtype, f"expected {z.dtype}, got {got.dtype}"

    def test_it_takes_multiples_of_what_it_declares_and_refuses_other_sizes(self) -> None:
        part, forms = self.ready(), self.forms()
        for times in (1, 3):
            z, t, conditioning = self.called_with(ROWS, forms, (times * part.multiple, part.multiple))
            assert part(z, t, conditioning).shape == z.shape, f"expected to take latents of {tuple(z.shape[2:])}"
        if part.multiple > 1:
            inputs = self.called_with(ROWS, forms, (part.multiple, part.multiple + 1))
            message = refusal(ConfigError, lambda: part(*inputs))
            assert str(part.multiple) in message, f"expected the message to say {part.multiple}, got: {message}"

    def test_prepared_conditioning_gives_what_conditioning_gives(self) -> None:
        part = self.ready()
        z, t, conditioning = self.inputs(ROWS)
        prepared = part.prepare(conditioning)
        apart = largest_difference(part(z, t, prepared), part(z, t, conditioning))
        assert apart <= 1e-5, f"expected the same output with prepared conditioning, got {apart:.2g} apart"

    def test_what_is_prepared_serves_many_steps(self) -> None:
        part = self.ready()
        z, t, conditioning = self.inputs(ROWS)
        prepared = part.prepare(conditioning)
        first = part(z, t, prepared).clone()
        part(2 * z, t + 1, prepared)
        assert torch.equal(part(z, t, prepared), first), "expected the same output at a later step, got another"

    def test_perturbed_self_attention_is_as_it_declares(self) -> None:
        part = self.ready()
        z, t, conditioning = self.inputs(ROWS)
        if not part.perturbable:
            refusal(NotImplementedError, lambda: part.perturb(part.prepare(conditioning), "all"))
            return
        prepared = part.prepare(conditioning)
        plain = part(z, t, prepared).clone()
        for where in ("middle", "all"):
            apart = largest_difference(part(z, t, part.perturb(prepared, where)), plain)
            assert 1e-6 < apart < torch.inf, f"expected another output, and a finite one, in {where}, got {apart} apart"
        assert torch.equal(part(z, t, prepared), plain), "expected what was prepared before to be as it was"

    def test_masked_tokens_have_no_influence(self) -> None:
        if "tokens" not in self.forms():
            raise SkipTest("it accepts no tokens")
        part = self.ready()
        z, t, conditioning = self.inputs(ROWS)
        real, tokens = conditioning.mask[:, :, None], conditioning.tokens
        other = replace(conditioning, tokens=torch.where(real, tokens, 50 * tokens + 7))
        apart = largest_difference(part(z, t, other), part(z, t, conditioning))
        assert apart <= 1e-5, f"expected masked tokens to change nothing, got outputs {apart:.2g} apart"

    def test_every_form_that_it_accepts_has_an_influence(self) -> None:
        part = self.ready()
        z, t, conditioning = self.inputs(ROWS)
        expected = part(z, t, conditioning)
        for form in self.forms():
            other = replace(conditioning, **{form: getattr(conditioning, form) + normal("other", 1)})
            assert largest_difference(part(z, t, other), expected) > 1e-6, f"expected {form} to matter, got no change"

    def test_latents_and_time_have_an_influence_in_every_row(self) -> None:
        part = self.ready()
        z, t, conditioning = self.inputs(ROWS)
        expected = part(z, t, conditioning)
        for name, got in {"z": part(z + 0.1, t, conditioning), "t": part(z, t + 77, conditioning)}.items():
            dead = [row for row in ROWS if largest_difference(got[row], expected[row]) <= 1e-6]
            assert not dead, f"expected {name} to matter, got no change in rows {dead}"

    def test_it_stays_finite_from_the_first_time_to_the_last(self) -> None:
        part = self.ready()
        z, _, conditioning = self.inputs(ROWS)
        for time in (0.0, 1e-3, 0.5, 1.0, 500.0, 999.0, 1000.0):
            got = part(z, torch.full((len(ROWS),), time), conditioning)
            assert got.isfinite().all(), f"expected finite output at t = {time}, got others"
