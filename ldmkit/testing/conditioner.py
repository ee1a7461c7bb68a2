"""Checks of conditioners."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor

from ldmkit.diffusion.conditioners import check_conditioning
from ldmkit.errors import ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.specs import FIELD_KINDS, DataSpec
from ldmkit.testing.fields import DATA, STRANGE_TEXTS, made_up
from ldmkit.testing.outputs import ROWS, ModuleSuite
from ldmkit.testing.suite import refusal
from ldmkit.values import Conditioning

GRID = (4, 8)
EXAMPLES = 64
"""Latent size (h, w), and how many rows a conditioner is fitted to."""


class ConditionerSuite(ModuleSuite):
    """Checks of a part of the group ``cond``.

    ``data`` is what the part is built for; a suite with other fields may also override :meth:`fields`.
    """

    kind = "cond"
    protocol = Conditioner
    data: ClassVar[DataSpec] = DATA

    def runtime(self) -> dict[str, Any]:
        return {"data": self.data}

    def fields(self, count: int) -> dict[str, Any]:
        """``count`` rows of all fields of ``data``."""
        return made_up(self.data, count)

    def prepared(self, part: Any) -> Any:
        with TemporaryDirectory() as directory:
            part.fit(self.fields(EXAMPLES), Path(directory))
            part.restore(Path(directory))
        return part

    def inputs(self, rows: Sequence[int]) -> Any:
        fields = self.fields(len(ROWS))
        return {name: _pick(values, rows) for name, values in fields.items()}

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        needed = {name: inputs[name] for name in part.needs}
        rows = len(next(iter(inputs.values())))
        given = {"": part(needed, GRID), "null ": part.null(rows, GRID)}
        return {prefix + name: value for prefix, each in given.items() for name, value in present(each).items()}

    def test_it_needs_fields_that_the_data_has_and_kinds_that_there_are(self) -> None:
        for name, kind in self.part().needs.items():
            assert kind in FIELD_KINDS, f"expected the kind of '{name}' to be one of {FIELD_KINDS}, got '{kind}'"
            assert name in self.data.fields, f"expected a field of {sorted(self.data.fields)}, got '{name}'"
            expected = self.data.fields[name].kind
            assert kind == expected, f"expected '{name}' to be needed as {expected}, got {kind}"

    def test_data_without_its_fields_is_refused_before_anything_runs(self) -> None:
        needs = self.part().needs
        if not needs:
            raise SkipTest("it needs no field")
        bare = DataSpec(size=self.data.size, channels=self.data.channels)
        message = refusal(ConfigError, lambda: self.part(data=bare))
        assert any(name in message for name in needs), f"expected one of {sorted(needs)} to be named, got: {message}"

    def test_it_yields_what_it_declares_at_any_latent_size(self) -> None:
        part = self.ready()
        needed = {name: value for name, value in self.inputs(ROWS).items() if name in part.needs}
        for size in ((4, 4), GRID, (16, 8)):
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

    def test_its_dropout_is_a_rate(self) -> None:
        rate = self.part().dropout
        assert 0 <= rate <= 1, f"expected dropout to be 0 to 1, got {rate}"

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

    def test_a_fresh_instance_restores_what_another_one_fitted(self) -> None:
        part, other = self.part(), self.part()
        with TemporaryDirectory() as directory:
            part.fit(self.fields(EXAMPLES), Path(directory))
            part.restore(Path(directory))
            other.restore(Path(directory))
        other.load_state_dict(copy.deepcopy(part.state_dict()))
        self.expect_equal(part.eval(), other.eval(), "an instance that restores the fitted files")

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
