"""Several conditioners as one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.conditioners import Conditioners, check_conditioning
from ldmkit.errors import ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.specs import CondSpec, FieldSpec
from ldmkit.values import Conditioning, Fields


class Numbers(Conditioner):
    """Says its field's number in each form of its spec; says 0 when null."""

    def __init__(self, field: str, spec: CondSpec, dropout: float = 0.0, masked: bool = False) -> None:
        super().__init__()
        self.needs, self.spec, self.dropout, self.masked = {field: "scalar"}, spec, dropout, masked
        self.gain = nn.Parameter(torch.ones(()))
        self.field = field

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        return self._say(fields[self.field] * self.gain, latent_size)

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return self._say(torch.zeros(batch), latent_size)

    def _say(self, value: Tensor, latent_size: tuple[int, int]) -> Conditioning:
        b, spec = len(value), self.spec
        return Conditioning(
            tokens=value.view(b, 1, 1).expand(b, 2, spec.tokens) if spec.tokens else None,
            mask=torch.tensor([[True, False]]).expand(b, 2) if spec.tokens and self.masked else None,
            vector=value.view(b, 1).expand(b, spec.vector) if spec.vector else None,
            map=value.view(b, 1, 1, 1).expand(b, spec.map, *latent_size) if spec.map else None,
        )


def test_forms_are_joined_each_in_its_own_way() -> None:
    joined = Conditioners(
        {
            "a": Numbers("x", CondSpec(tokens=8, vector=3), masked=True),
            "b": Numbers("y", CondSpec(tokens=4, map=2)),
            "c": Numbers("x", CondSpec(vector=1, map=1)),
        }
    )
    assert joined.spec == CondSpec(tokens=8, vector=4, map=3)
    assert joined.needs == {"x": "scalar", "y": "scalar"}
    got = joined({"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([3.0, 4.0])}, (5, 6))
    assert got.tokens is not None
    assert got.tokens.shape == (2, 4, 8)
    assert torch.equal(got.tokens[:, :2], torch.tensor([1.0, 2.0]).view(2, 1, 1).expand(2, 2, 8))
    torch.testing.assert_close(got.tokens[:, 2], joined.projections["b"](torch.tensor([[3.0] * 4, [4.0] * 4])))
    assert got.mask.tolist() == [[True, False, True, True]] * 2  # type: ignore[union-attr]
    assert got.vector.tolist() == [[1, 1, 1, 1], [2, 2, 2, 2]]  # type: ignore[union-attr]
    assert got.map[:, :, 0, 0].tolist() == [[3, 3, 1], [4, 4, 2]]  # type: ignore[union-attr, index]
    check_conditioning(got, joined.spec, "cond")


def test_no_conditioner_is_no_conditioning() -> None:
    joined = Conditioners({})
    assert joined.spec.forms == frozenset()
    assert joined({}, (4, 4)) == joined.null(3, (4, 4)) == Conditioning()


def test_each_conditioner_is_dropped_by_its_own_rate_row_by_row() -> None:
    rows = 4000
    joined = Conditioners(
        {
            "often": Numbers("x", CondSpec(vector=1), dropout=0.3),
            "never": Numbers("x", CondSpec(vector=1)),
            "seldom": Numbers("x", CondSpec(vector=1), dropout=0.1),
        }
    )
    random = RowRandom.of(0, "test", 0, range(rows))
    vector = joined.with_dropout({"x": torch.ones(rows)}, (1, 1), random).vector
    assert vector is not None
    shares = (vector == 0).double().mean(0)
    error = 4 * (torch.tensor([0.3, 0.0, 0.1]) * torch.tensor([0.7, 1.0, 0.9]) / rows).sqrt()
    assert ((shares - torch.tensor([0.3, 0.0, 0.1])).abs() <= error).all()
    both = ((vector[:, 0] == 0) & (vector[:, 2] == 0)).double().mean()
    assert abs(both - 0.03) < 4 * (0.03 * 0.97 / rows) ** 0.5  # independent of one another
    assert torch.equal(vector, joined.with_dropout({"x": torch.ones(rows)}, (1, 1), random).vector)


def test_conditioners_are_dropped_independently_of_each_other() -> None:
    """Of 4000 rows, two independent indicators correlate by less than 4 / sqrt(4000) = 0.063."""
    rows, names = (
        4000,
        ["text", "class", "semantic", "layout", "size", "scalar", "low-res", "inpaint", "image", "hf-text"],
    )
    joined = Conditioners({name: Numbers("x", CondSpec(vector=1), dropout=0.3) for name in names})
    random = RowRandom.of(3, "denoiser", 7, range(rows))
    vector = joined.with_dropout({"x": torch.ones(rows)}, (4, 4), random).vector
    assert vector is not None
    correlation = torch.corrcoef(vector.T) - torch.eye(len(names))
    assert correlation.abs().max() < 4 / rows**0.5
    again = joined.with_dropout({"x": torch.ones(rows)}, (4, 4), RowRandom.of(3, "denoiser", 8, range(rows))).vector
    assert torch.corrcoef(torch.stack([vector[:, 0], again[:, 0]]))[0, 1].abs() < 4 / rows**0.5  # type: ignore[index]


def test_what_a_part_leaves_on_the_cpu_follows_the_others() -> None:
    elsewhere = torch.ones(3, device="meta")
    joined = Conditioners(
        {
            "a": Numbers("x", CondSpec(tokens=4, vector=1), masked=True),
            "b": Numbers("y", CondSpec(tokens=4, vector=1), dropout=0.5),
        }
    )
    assert joined({"x": torch.ones(3), "y": elsewhere}, (1, 1)).device.type == "meta"
    random = RowRandom.of(0, "test", 0, range(3))
    told = joined.with_dropout({"x": elsewhere, "y": elsewhere}, (1, 1), random)  # the null is on the CPU
    both = Conditioning.batch([told, joined.null(3, (1, 1))])
    for conditioning, rows in ((told, 3), (both, 6)):
        assert (conditioning.device.type, conditioning.vector.shape) == ("meta", (rows, 2))  # type: ignore[union-attr]
        assert (conditioning.mask.device.type, conditioning.mask.dtype) == ("meta", torch.bool)  # type: ignore[union-attr]


def test_one_field_cannot_be_of_two_kinds() -> None:
    other = Numbers("x", CondSpec(vector=1))
    other.needs = {"x": "label"}
    with pytest.raises(ConfigError, match=r"cond\.a reads the field 'x' as scalar, but cond\.b as label"):
        Conditioners({"a": Numbers("x", CondSpec(vector=1)), "b": other})


def observing(factor: int) -> Numbers:
    part = Numbers("x", CondSpec(vector=1))
    part.needs, part.observed = {"x": "image"}, {"x": FieldSpec("image", factor=factor)}
    return part


def test_one_field_cannot_be_observed_at_two_sizes() -> None:
    with pytest.raises(ConfigError, match=r"cond\.a observes .* 'x' .* divided by 4, but cond\.b by 1; let one"):
        Conditioners({"a": observing(4), "b": observing(1)})


@pytest.mark.parametrize("factors", [(0, 1), (1, 0), (1, 1)])
def test_a_part_that_takes_any_size_leaves_the_size_to_the_others(factors: tuple[int, int]) -> None:
    joined = Conditioners({"a": observing(factors[0]), "b": observing(factors[1])})
    assert joined.observed == {"x": FieldSpec("image", factor=1)}


def test_a_missing_field_is_named_with_what_was_given() -> None:
    joined = Conditioners({"a": Numbers("x", CondSpec(vector=1))})
    with pytest.raises(ConfigError, match="conditioned on x, but x is missing; given were: caption"):
        joined({"caption": ["hello"]}, (1, 1))


def test_a_conditioner_that_breaks_its_word_is_found() -> None:
    with pytest.raises(ConfigError, match=r"cond\.a yields .*vector=2.* but declares .*vector=3"):
        check_conditioning(Conditioning(vector=torch.zeros(1, 2)), CondSpec(vector=3), "cond.a")


def test_gradients_reach_every_part_and_every_projection() -> None:
    joined = Conditioners({"a": Numbers("x", CondSpec(tokens=8)), "b": Numbers("x", CondSpec(tokens=4))})
    joined({"x": torch.ones(2)}, (1, 1)).tokens.sum().backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in joined.parameters())


def test_some_of_the_conditioners_can_be_told_alone_the_others_being_null_or_negative() -> None:
    joined = Conditioners({name: Numbers(field, CondSpec(vector=1)) for name, field in (("a", "x"), ("b", "y"))})
    fields = {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([3.0, 4.0])}

    def says(names: list[str], **negative: Tensor) -> list[list[float]]:
        return joined.told(fields, 2, (4, 4), negative)(names).vector.tolist()  # type: ignore[union-attr]

    assert says(["a", "b"]) == joined(fields, (4, 4)).vector.tolist()  # type: ignore[union-attr]
    assert says([]) == joined.null(2, (4, 4)).vector.tolist()  # type: ignore[union-attr]
    assert says(["b"]) == [[0, 3], [0, 4]]
    unwanted = torch.tensor([-5.0, -6.0])
    assert says([], x=unwanted) == [[-5, 0], [-6, 0]]
    assert says(["b"], x=unwanted) == [[-5, 3], [-6, 4]]
    assert says(["a"], x=unwanted) == [[1, 0], [2, 0]]


def test_each_conditioner_is_asked_once_however_often_it_is_told() -> None:
    part = Numbers("x", CondSpec(vector=1))
    calls: list[int] = []
    part.register_forward_hook(lambda *_: calls.append(1))
    told = Conditioners({"a": part}).told({"x": torch.ones(2)}, 2, (4, 4))
    for names in ((), ("a",), ("a",)):
        told(names)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("yielded", "said"),
    [
        ([torch.zeros(1, 3)], "cond.a yields a list; it must yield a Conditioning"),
        (Conditioning(tokens=torch.zeros(1, 3)), r"yields tokens \(1, 3\); it must be a tensor \(B, M, D\)"),
        (Conditioning(vector=[1.0]), r"yields vector a list; it must be a tensor \(B, E\)"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_conditioning_is_told_by_the_name_of_its_part(yielded: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_conditioning(yielded, CondSpec(vector=3), "cond.a")
