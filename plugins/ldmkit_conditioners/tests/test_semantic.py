"""The semantic conditioner equals its definition: one-hot, resized, through a 1x1 convolution."""

import pytest
import torch
import torch.nn.functional as F
from ldmkit_conditioners.semantic import Semantic
from torch import Tensor

from ldmkit.errors import DataError
from ldmkit.specs import CondSpec, DataSpec, FieldSpec


def part(classes: int = 5, channels: int = 3) -> Semantic:
    names = tuple(map(str, range(classes)))
    data = DataSpec(size=32, channels=3, fields={"semantic": FieldSpec(kind="map", names=names)})
    torch.manual_seed(0)
    return Semantic(Semantic.Config(name="semantic", field="semantic", dropout=0.1, channels=channels), data=data)


def labels(size: int = 32) -> Tensor:
    return torch.randint(5, (2, size, size), generator=torch.Generator().manual_seed(1))


def mapped(conditioner: Semantic, classes: Tensor, latent: tuple[int, int]) -> Tensor:
    conditioning = conditioner({"semantic": classes}, latent)
    assert conditioning.map is not None
    return conditioning.map


@pytest.mark.parametrize("latent", [(8, 8), (4, 16), (32, 32), (7, 5)])
def test_a_map_is_its_one_hot_classes_resized_by_area_and_mapped(latent: tuple[int, int]) -> None:
    conditioner = part()
    one_hot = F.one_hot(labels(), 5).movedim(-1, 1).float()
    expected = conditioner.channel_mapper(F.interpolate(one_hot, size=latent, mode="area"))
    torch.testing.assert_close(mapped(conditioner, labels(), latent), expected)


def test_resizing_is_the_papers_bilinear_halving() -> None:
    conditioner = part()
    halved = F.one_hot(labels(), 5).movedim(-1, 1).float()
    for _ in range(2):
        halved = F.interpolate(halved, scale_factor=0.5, mode="bilinear", align_corners=False)
    torch.testing.assert_close(mapped(conditioner, labels(), (8, 8)), conditioner.channel_mapper(halved))


def test_a_map_smaller_than_the_latent_is_enlarged() -> None:
    small = torch.tensor([[[0, 1], [2, 3]]])
    large = mapped(part(), small, (4, 4))
    assert torch.equal(large, mapped(part(), small, (2, 2)).repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_the_null_is_a_map_of_zeros_that_no_class_gives() -> None:
    conditioner = part()
    null = conditioner.null(2, (8, 8)).map
    assert null is not None
    assert null.shape == mapped(conditioner, labels(), (8, 8)).shape
    assert not null.any()
    for c in range(5):
        assert mapped(conditioner, torch.full((1, 32, 32), c), (8, 8)).abs().sum(1).min() > 0


def test_the_gradient_reaches_the_mapper_as_through_the_definition() -> None:
    conditioner = part()
    mapped(conditioner, labels(), (8, 8)).square().sum().backward()
    one_hot = F.one_hot(labels(), 5).movedim(-1, 1).float()
    pooled = F.avg_pool2d(one_hot, 4)
    weight = conditioner.channel_mapper.weight.detach().requires_grad_()
    F.conv2d(pooled, weight).square().sum().backward()
    torch.testing.assert_close(conditioner.channel_mapper.weight.grad, weight.grad)


def test_the_papers_mapper_has_its_shape() -> None:
    conditioner = part(classes=182)
    shapes = {name: tuple(value.shape) for name, value in conditioner.state_dict().items()}
    assert shapes == {"channel_mapper.weight": (3, 182, 1, 1)}
    assert conditioner.spec == CondSpec(map=3)


def test_a_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DataError, match="field 'semantic' holds classes 0 to 255, but there are 0 to 4"):
        part()({"semantic": torch.tensor([[[0, 255]]])}, (1, 1))
