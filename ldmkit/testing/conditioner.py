"""Checks of conditioners."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.conditioners import Conditioners, check_conditioning
from ldmkit.diffusion.latent_space import LatentSpace
from ldmkit.errors import ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.specs import FIELD_KINDS, DataSpec
from ldmkit.testing.fields import DATA, STRANGE_TEXTS, Averages, made_up, pictures
from ldmkit.testing.networks import NetworkSuite
from ldmkit.testing.outputs import ROWS, randomise
from ldmkit.testing.process import untouched
from ldmkit.testing.suite import refusal
from ldmkit.values import Conditioning, to_pixels

GRID = (4, 8)
EXAMPLES = 64
DROPPED = 600
"""Latent size (h, w), how many rows a conditioner is fitted to, and of how many some are dropped."""


class ConditionerSuite(NetworkSuite):
    """Checks of a part of the group ``cond``.

    ``data`` is what the part is built for; a suite with other fields may also override :meth:`fields`.
    """

    kind = "cond"
    protocol = Conditioner
    data: ClassVar[DataSpec] = DATA

    def runtime(self) -> dict[str, Any]:
        runtime: dict[str, Any] = {"data": self.data}
        return runtime | {"latents": LatentSpace(Averages())} if self.part_class().in_latents else runtime

    def fields(self, count: int) -> dict[str, Any]:
        """``count`` rows of all fields of ``data``."""
        return made_up(self.data, count)

    def fitted(self, part: Any, directory: Path) -> Any:
        part.fit(self.fields(EXAMPLES), directory)
        return self.restored(part, directory)

    def restored(self, part: Any, directory: Path) -> Any:
        part.restore(directory)
        return part

    def inputs(self, rows: Sequence[int]) -> Any:
        return self.given_for(self.part().eval(), rows, GRID)

    def given_for(self, part: Any, rows: Sequence[int], grid: tuple[int, int]) -> dict[str, Any]:
        """``rows`` of the data's fields, and of what ``part`` observes in pictures of a latent ``grid`` (h, w)."""
        fields = {name: _pick(values, rows) for name, values in self.fields(len(ROWS)).items()}
        return {**fields, **self.observed(part, rows, grid)}

    def observed(self, part: Any, rows: Sequence[int], grid: tuple[int, int] = GRID) -> dict[str, Any]:
        """What ``part`` makes out of ``rows`` of pictures, each by a stream of its own."""
        height, width = (side * Averages.spec.factor for side in grid)
        images = pictures(len(ROWS), self.data.channels, height, width)[list(rows)]
        return dict(part.observe(images, RowRandom([("testing", row) for row in rows])))

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        needed = {name: inputs[name] for name in part.needs}
        rows = len(next(iter(inputs.values())))
        given = {"": part(needed, GRID), "null ": part.null(rows, GRID)}
        return {prefix + name: value for prefix, each in given.items() for name, value in present(each).items()}

    def lesson(self, part: Any) -> Callable[[], Tensor]:
        """To say what a part with other weights says."""
        inputs, other = self.given_for(part.eval(), ROWS, GRID), copy.deepcopy(part)
        randomise(other)
        targets = self.outputs(other, inputs)
        learned = [name for name, value in targets.items() if value.requires_grad]

        def error() -> Tensor:
            given = self.outputs(part, inputs)
            return torch.stack([(given[name] - targets[name].detach()).square().mean() for name in learned]).sum()

        return error

    def test_what_it_gives_is_where_its_inputs_are(self) -> None:
        if not any(True for _ in self.part().parameters()):
            raise SkipTest("it has no weights, and the kernel moves what it gives")
        super().test_what_it_gives_is_where_its_inputs_are()

    def test_its_keys_for_sampling_alone_are_keys_of_its_config(self) -> None:
        keys = {each.name for each in fields_of(self.part_class().Config)}
        strangers = sorted(self.part_class().sampling_only - keys)
        assert not strangers, f"expected sampling_only to name keys of Config, got {', '.join(strangers)}"

    def test_it_needs_fields_that_the_data_has_and_kinds_that_there_are(self) -> None:
        part = self.part()
        there = {**self.data.fields, **part.observed}
        for name, kind in part.needs.items():
            assert kind in FIELD_KINDS, f"expected the kind of '{name}' to be one of {FIELD_KINDS}, got '{kind}'"
            assert name in there, f"expected a field of {sorted(there)}, got '{name}'"
            expected = there[name].kind
            assert kind == expected, f"expected '{name}' to be needed as {expected}, got {kind}"

    def test_data_without_its_fields_is_refused_before_anything_runs(self) -> None:
        part = self.part()
        needs = part.needs.keys() - part.observed.keys()
        if not needs:
            raise SkipTest("it needs no field of the data")
        bare = DataSpec(size=self.data.size, channels=self.data.channels)
        message = refusal(ConfigError, lambda: self.part(data=bare))
        assert any(name in message for name in needs), f"expected one of {sorted(needs)} to be named, got: {message}"

    def test_it_yields_what_it_declares_at_any_latent_size(self) -> None:
        part = self.ready()
        for size in ((4, 4), GRID, (16, 8)):
            given = self.given_for(part, ROWS, size)
            needed = {name: value for name, value in given.items() if name in part.needs}
            for what, got in {"forward": part(needed, size), "null": part.null(len(ROWS), size)}.items():
                check_conditioning(got, part.spec, what)
                if got.map is not None:
                    assert got.map.shape[2:] == size, f"expected a map {size} of {what}, got {got.map.shape[2:]}"

    def test_its_null_has_the_forms_and_the_number_of_tokens_of_its_forward(self) -> None:
        got = {name: (tuple(value.shape), value.dtype) for name, value in self.given().items()}
        forward = {name: value for name, value in got.items() if not name.startswith("null ")}
        null = {name.removeprefix("null "): value for name, value in got.items() if name.startswith("null ")}
        assert null == forward, f"expected a null of {forward} as from forward, got {null}"

    def test_its_mask_is_bool_and_beside_tokens(self) -> None:
        got = self.given()
        for prefix in ("", "null "):
            tokens, mask = got.get(prefix + "tokens"), got.get(prefix + "mask")
            if mask is not None:
                assert mask.dtype == torch.bool, f"expected a bool {prefix}mask, got {mask.dtype}"
                expected = None if tokens is None else tokens.shape[:2]
                assert mask.shape == expected, f"expected a {prefix}mask {expected} as the tokens, got {mask.shape}"

    def test_what_it_yields_depends_on_the_fields(self) -> None:
        got = {name: value for name, value in self.given().items() if not name.startswith("null ")}
        constant = all(torch.equal(value[0], value[1]) for value in got.values())
        assert not constant or not self.part().needs, "expected other conditioning for another row, got the same"

    def test_its_null_says_the_same_to_every_row(self) -> None:
        for name, value in self.given().items():
            same = not name.startswith("null ") or all(torch.equal(row, value[0]) for row in value)
            assert same, f"expected equal rows of {name}, got different ones"

    def test_it_observes_what_it_says_it_observes(self) -> None:
        part = self.part()
        strangers = part.observed.keys() - part.needs.keys()
        assert not strangers, f"expected observed to be among needs, got {sorted(strangers)} beside them"
        got = self.observed(part.eval(), ROWS)
        assert set(got) == set(part.observed), f"expected observe to give {sorted(part.observed)}, got {sorted(got)}"
        height, width = (side * Averages.spec.factor for side in GRID)
        for name, spec in part.observed.items():
            if spec.kind in ("image", "mask"):
                by = max(spec.factor, 1)
                shape = (len(ROWS), *[self.data.channels] * (spec.kind == "image"), height // by, width // by)
                expected = (torch.uint8 if spec.kind == "image" else torch.bool, shape)
                value = (got[name].dtype, tuple(got[name].shape))
                assert value == expected, f"expected '{name}' to be {expected}, got {value}"

    def test_what_it_observes_in_a_row_depends_on_that_row_and_its_stream_alone(self) -> None:
        for mode in (True, False):
            part = self.part().train(mode)
            together = self.observed(part, ROWS)
            with untouched(during="observing"):
                alone = [self.observed(part, [row]) for row in ROWS]
            for name, value in together.items():
                apart = torch.cat([fields[name] for fields in alone])
                assert torch.equal(apart, value), f"expected rows of '{name}' to be the same alone, got others"

    def test_it_reads_what_it_observes_in_training(self) -> None:
        part = self.ready().train()
        check_conditioning(part(self.given_for(part, ROWS, GRID), GRID), part.spec, "forward in training")

    def test_pasting_keeps_the_shape_and_the_range_of_pictures(self) -> None:
        part = self.part().eval()
        given = self.inputs(ROWS)
        height, width = (side * Averages.spec.factor for side in GRID)
        images = to_pixels(pictures(len(ROWS), self.data.channels, height, width)) / 2
        before = images.clone()
        pasted = part.paste(images, given)
        assert pasted.shape == images.shape, f"expected pictures {tuple(images.shape)}, got {tuple(pasted.shape)}"
        assert float(pasted.abs().max()) <= 1, f"expected pixels in [-1, 1], got {float(pasted.abs().max()):.3g}"
        assert torch.equal(images, before), "expected the pictures to be left as they were, got others"

    def test_its_dropout_is_a_rate(self) -> None:
        rate = self.part().dropout
        assert 0 <= rate <= 1, f"expected dropout to be 0 to 1, got {rate}"

    def test_training_puts_its_null_in_place_of_whole_rows_at_its_rate(self) -> None:
        part, rate = self.ready().train(), 0.3
        part.dropout = rate
        fields = self.given_for(part, [row % len(ROWS) for row in range(DROPPED)], GRID)
        random = RowRandom([("testing", row) for row in range(DROPPED)])
        got = present(Conditioners({"part": part}).with_dropout(fields, GRID, random))
        given, null = present(part(fields, GRID)), present(part.null(DROPPED, GRID))
        nulls = torch.stack([(got[name] == null[name]).flatten(1).all(1) for name in null]).all(0)
        for name, value in given.items():
            assert torch.equal(got[name][~nulls], value[~nulls]), (
                f"expected rows of {name} as given or null, got others"
            )
        share, spread = float(nulls.float().mean()), (rate * (1 - rate) / DROPPED) ** 0.5
        near = abs(share - rate) <= 4 * spread
        assert near, f"expected its null in {rate:.0%} of the rows, got it in {share:.0%}"

    def test_it_reads_text_of_any_length_and_script(self) -> None:
        part = self.ready()
        texts = [name for name, kind in part.needs.items() if kind == "text"]
        if not texts:
            raise SkipTest("it reads no text")
        others = self.fields(len(STRANGE_TEXTS))
        got = part(
            {**{name: others[name] for name in part.needs}, **{name: list(STRANGE_TEXTS) for name in texts}}, GRID
        )
        check_conditioning(got, part.spec, "strange text")
        for name, value in present(got).items():
            rows = [row for row, values in enumerate(value) if not values.isfinite().all()]
            assert not rows, f"expected finite {name}, got others for {[STRANGE_TEXTS[row][:20] for row in rows]}"

    def test_fitting_twice_writes_the_same_files(self) -> None:
        with TemporaryDirectory() as one, TemporaryDirectory() as two:
            for directory in (one, two):
                self.part().fit(self.fields(EXAMPLES), Path(directory))
            first, second = (_files(Path(directory)) for directory in (one, two))
        assert set(first) == set(second), f"expected the same files twice, got {sorted(first)} and {sorted(second)}"
        different = [name for name in first if first[name] != second[name]]
        assert not different, f"expected the same bytes twice, got others in {', '.join(different)}"

    def given(self) -> dict[str, Tensor]:
        """All that a part that is ready yields for three rows."""
        return self.outputs(self.ready(), self.inputs(ROWS))


def present(conditioning: Conditioning) -> dict[str, Tensor]:
    """The tensors of ``conditioning`` that are not absent, by name."""
    return {name: value for name, value in vars(conditioning).items() if value is not None}


def _pick(values: Any, rows: Sequence[int]) -> Any:
    return values[list(rows)] if isinstance(values, Tensor) else [values[row] for row in rows]


def _files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
