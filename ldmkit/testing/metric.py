"""Checks of metrics."""

from __future__ import annotations

import fnmatch
import json
import math
from typing import Any

import torch
from torch import Tensor

from ldmkit.models import build_data
from ldmkit.protocols import DataSource, Metric
from ldmkit.testing.outputs import normal
from ldmkit.testing.process import untouched
from ldmkit.testing.suite import Suite
from ldmkit.values import Fields

COUNT = 8


class MetricSuite(Suite):
    """Checks of a part of the group ``metric``, fed with held-out pictures of the config's own data."""

    kind = "metric"
    protocol = Metric

    def source(self) -> DataSource:
        """The data source that the metric is built with."""
        return build_data(self.config())

    def runtime(self) -> dict[str, Any]:
        return {"data": self.source()}

    def pictures(self, error: float) -> tuple[Tensor, Tensor | None, Fields]:
        """Held-out pictures that are ``error`` (in levels of 256) off, the originals, and the fields.

        Among the fields are some as conditioners observe them: ``image``, ``mask`` (the left half), ``low_res``.
        """
        batch = self.source().read("validation", range(COUNT))
        wrong = batch.images + error * normal("error", *batch.images.shape)
        height, width = batch.images.shape[2:]
        missing = torch.arange(width).expand(COUNT, height, width) < width // 2
        observed = {"image": batch.images, "mask": missing, "low_res": batch.images[:, :, ::4, ::4]}
        return wrong.round().clamp(0, 255).to(torch.uint8), batch.images, {**batch.fields, **observed}

    def measured(self, error: float = 0.0) -> dict[str, float]:
        """What a new instance finds in those pictures."""
        part = self.part()
        part.update(*self.pictures(error))
        found: dict[str, float] = part.compute()
        return found

    def found(self, part: Any) -> dict[str, Any]:
        """What ``part`` finds in pictures with errors."""
        part.update(*self.pictures(error=20.0))
        return dict(part.compute())

    def test_it_says_what_it_is_fed_and_where_its_numbers_go(self) -> None:
        on, section = self.part_class().on, self.part_class().section
        feeds = ("reconstructions", "samples", "drawn")
        assert on in feeds, f"expected on to be one of {', '.join(feeds)}, got {on!r}"
        named = isinstance(section, str) and section.strip()
        assert named, f"expected section to be a name, got {section!r}"

    def test_perfect_pictures_have_finite_numbers_that_json_can_hold(self) -> None:
        found = self.measured()
        assert found, "expected a measurement of perfect pictures, got nothing"
        for name, value in found.items():
            number = type(value) in (int, float) and math.isfinite(value)
            assert number, f"expected {name} to be a finite int or float, got {value!r}"
        json.dumps(found, allow_nan=False)

    def test_samples_may_come_without_originals_and_without_observed_fields(self) -> None:
        part, (images, references, fields) = self.part(), self.pictures(error=20.0)
        offered = {name: fields[name] for name in self.source().spec.fields}
        part.update(images, references if part.on == "reconstructions" else None, offered)
        json.dumps(part.compute(), allow_nan=False)

    def test_it_says_how_many_pictures_it_took_in(self) -> None:
        counts = {name: value for name, value in self.measured().items() if name.endswith("count")}
        assert COUNT in counts.values(), f"expected a ...count of {COUNT}, got {counts or 'none'}"

    def test_pictures_may_come_in_any_number_of_batches(self) -> None:
        part, (images, references, fields) = self.part(), self.pictures(error=20.0)
        for rows in (slice(0, 1), slice(1, 6), slice(6, COUNT)):
            some = {name: value[rows] for name, value in fields.items()}
            part.update(images[rows], None if references is None else references[rows], some)
        expected, got = self.measured(error=20.0), part.compute()
        assert set(got) == set(expected), f"expected {sorted(expected)} of several batches, got {sorted(got)}"
        for name, value in expected.items():
            close = math.isclose(got[name], value, rel_tol=1e-5, abs_tol=1e-6)
            assert close, f"expected {name} = {value} also of several batches, got {got[name]}"

    def test_worse_pictures_have_other_numbers(self) -> None:
        perfect, worse = self.measured(), self.measured(error=200.0)
        assert worse != perfect, f"expected other numbers for noise than for perfect pictures, got {perfect} of both"
        strange = {name: value for name, value in worse.items() if not math.isfinite(value)}
        assert not strange, f"expected finite numbers for noise, got {strange}"

    def test_what_it_calls_better_is_better(self) -> None:
        perfect, worse = self.measured(), self.measured(error=200.0)
        for pattern, end in self.part_class().better.items():
            names = fnmatch.filter(perfect, pattern)
            assert end in ("higher", "lower"), f"expected {pattern} to be better higher or lower, got {end!r}"
            assert names, f"expected better to name what is measured, got {pattern} of {', '.join(perfect)}"
            for name in names:
                good = perfect[name] >= worse[name] if end == "higher" else perfect[name] <= worse[name]
                good |= name.endswith("count")
                got = f"{perfect[name]} of perfect pictures and {worse[name]} of noise"
                assert good, f"expected a {end} {name} of perfect pictures, got {got}"

    def test_its_protocol_is_plain_data_that_json_can_hold(self) -> None:
        part = self.part()
        part.update(*self.pictures(error=0.0))
        part.compute()
        got = part.protocol()
        try:
            again = json.loads(json.dumps(dict(got), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"expected a protocol that JSON can hold, got {got!r}: {error}") from error
        assert again == dict(got), f"expected a protocol that JSON gives back as it was, got {again} of {got!r}"

    def test_nothing_measured_is_no_error(self) -> None:
        for name, value in self.part().compute().items():
            assert math.isfinite(value), f"expected a finite {name} or none before any picture, got {value}"

    def test_computing_twice_gives_the_same(self) -> None:
        part = self.part()
        part.update(*self.pictures(error=20.0))
        first, second = part.compute(), part.compute()
        assert first == second, f"expected the same twice, got {first} and {second}"

    def test_it_leaves_the_pictures_and_the_process_as_they_were(self) -> None:
        images, references, fields = self.pictures(error=20.0)
        before = images.clone(), None if references is None else references.clone()
        part = self.part()
        part.update(images, references, fields)
        with untouched(during="measuring"):
            part.update(images, references, fields)
            part.compute()
        assert torch.equal(images, before[0]), "expected the pictures to be left as they were, got others"
        same = references is None or before[1] is None or torch.equal(references, before[1])
        assert same, "expected the references to be left as they were, got others"
