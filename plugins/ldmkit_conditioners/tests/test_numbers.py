"""Numbers as conditions: their waves, their null, and what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from ldmkit_conditioners.fourier import fourier_features
from ldmkit_conditioners.scalar import Scalar
from ldmkit_conditioners.size import Size

from ldmkit.errors import CheckpointError, ConfigError, DataError
from ldmkit.specs import CondSpec, DataSpec, FieldSpec

FRAMING = ["original_height", "original_width", "crop_top", "crop_left"]
DATA = DataSpec(size=64, channels=3, fields={name: FieldSpec(kind="scalar") for name in ("year", *FRAMING)})
YEARS = torch.tensor([1990.0, 2000.0, 2010.0])


def scalar(form: str = "vector", **changes: object) -> Scalar:
    keys = {"name": "scalar", "field": "year", "dropout": 0.1, "form": form, "width": 8, "frequencies": 4, **changes}
    torch.manual_seed(0)
    return Scalar(Scalar.Config(**keys), data=DATA)  # type: ignore[arg-type]


def fitted(directory: Path, form: str = "vector") -> Scalar:
    part = scalar(form)
    part.fit({"year": YEARS}, directory)
    part.restore(directory)
    return part


def size(fields: list[str] = FRAMING, features: int = 8) -> Size:
    return Size(Size.Config(name="size", fields=fields, dropout=0.1, features=features), data=DATA)


def test_waves_are_cosines_and_sines_of_cycles() -> None:
    got = fourier_features(torch.tensor([0.0, 0.25]), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(got, torch.tensor([[1.0, 1, 0, 0], [0, -1, 1, 0]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", ["vector", "tokens"])
def test_a_number_is_what_the_spec_declares(tmp_path: Path, form: str) -> None:
    part = fitted(tmp_path, form)
    conditioning, null = part({"year": YEARS}, (4, 4)), part.null(3, (4, 4))
    assert part.spec == CondSpec(**{form: 8})
    shape = (3, 8) if form == "vector" else (3, 1, 8)
    assert getattr(conditioning, form).shape == getattr(null, form).shape == shape
    torch.testing.assert_close(getattr(null, form).reshape(3, 8), part.absent.expand(3, 8))


def test_a_number_is_read_by_its_distance_from_the_mean_in_deviations(tmp_path: Path) -> None:
    part = fitted(tmp_path)
    assert json.loads((tmp_path / "scalar.json").read_text()) == pytest.approx(
        {"mean": 2000, "std": math.sqrt(200 / 3)}
    )
    other = scalar()
    other.fit({"year": YEARS * 1000 - 7}, tmp_path / "other")
    other.restore(tmp_path / "other")
    torch.testing.assert_close(part({"year": YEARS}, (4, 4)).vector, other({"year": YEARS * 1000 - 7}, (4, 4)).vector)


def test_a_number_that_never_changes_is_no_trouble(tmp_path: Path) -> None:
    part = scalar()
    part.fit({"year": torch.full((3,), 7.0)}, tmp_path)
    part.restore(tmp_path)
    vector = part({"year": torch.tensor([7.0])}, (4, 4)).vector
    assert vector is not None
    assert vector.isfinite().all()


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, number: float) -> None:
    with pytest.raises(DataError, match=f"field 'year' holds {number}; expected finite numbers"):
        fitted(tmp_path)({"year": torch.tensor([1.0, number])}, (4, 4))


def test_a_scalar_that_was_not_fitted_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cond 'scalar' has no mean and std yet; call fit"):
        scalar()({"year": YEARS}, (4, 4))
    for text in ("", "[]", '{"mean": 1}'):
        (tmp_path / "scalar.json").write_text(text)
        with pytest.raises(CheckpointError, match="cond 'scalar' finds no mean and std in"):
            scalar().restore(tmp_path)
    (tmp_path / "scalar.json").write_text('{"mean": 1, "std": 0}')
    with pytest.raises(CheckpointError, match=r"has mean 1\.0 and std 0\.0"):
        scalar().restore(tmp_path)


def test_size_has_the_waves_of_sdxl_for_each_number() -> None:
    """256 waves of each of the four numbers, as its released pipelines make them."""
    part = size(features=256)
    fields = {
        name: torch.tensor([float(value), 512.0]) for name, value in zip(FRAMING, (1024, 768, 0, 17), strict=True)
    }
    vector = part(fields, (4, 4)).vector
    expected = [
        get_timestep_embedding(fields[name], 256, flip_sin_to_cos=True, downscale_freq_shift=0) for name in FRAMING
    ]
    assert part.spec == CondSpec(vector=1024)
    torch.testing.assert_close(vector, torch.cat(expected, dim=1), atol=2e-4, rtol=0)


def test_the_null_size_is_zeros_which_no_size_gives() -> None:
    part = size()
    null = part.null(2, (4, 4)).vector
    assert null is not None
    assert not null.any()
    given = part({name: torch.tensor([0.0, 640.0]) for name in FRAMING}, (4, 4)).vector
    assert given is not None
    torch.testing.assert_close(given.square().sum(1), torch.full((2,), 16.0))  # of 16 waves, cos^2 + sin^2 = 1


def test_a_size_that_the_data_does_not_have_is_named_with_the_key_to_change() -> None:
    with pytest.raises(ConfigError, match=r"cond 'size' needs the field 'height'.*point cond\.size\.fields at one of"):
        size(["height"])
    with pytest.raises(ConfigError, match="names a field twice"):
        size(["year", "year"])
    with pytest.raises(ValueError, match="features is 7 but must be even"):
        size(features=7)
