"""The class conditioner looks its rows up."""

import pytest
import torch
from ldmkit_conditioners.class_label import ClassLabel

from ldmkit.errors import ConfigError, DataError
from ldmkit.specs import CondSpec, DataSpec, FieldSpec

DATA = DataSpec(size=64, channels=3, fields={"class": FieldSpec(kind="label", names=("cat", "dog", "owl"))})


def part(form: str = "tokens", data: DataSpec = DATA) -> ClassLabel:
    config = ClassLabel.Config(name="class", field="class", dropout=0.1, form=form, width=16)  # type: ignore[arg-type]
    return ClassLabel(config, data=data)


def test_a_label_is_one_token_its_row_of_the_table() -> None:
    conditioner = part()
    conditioning = conditioner({"class": torch.tensor([2, 0])}, (8, 8))
    assert conditioner.spec == CondSpec(tokens=16)
    assert conditioning.tokens is not None
    assert torch.equal(conditioning.tokens, conditioner.embedding.weight[[2, 0]][:, None])
    assert conditioning.mask is not None
    assert conditioning.mask.tolist() == [[True], [True]]


def test_a_label_is_a_vector_where_that_is_asked_for() -> None:
    conditioner = part("vector")
    conditioning = conditioner({"class": [1]}, (8, 8))
    assert conditioner.spec == CondSpec(vector=16)
    assert conditioning.tokens is None
    assert conditioning.vector is not None
    assert torch.equal(conditioning.vector, conditioner.embedding.weight[[1]])


@pytest.mark.parametrize("form", ["tokens", "vector"])
def test_the_null_is_a_row_behind_those_of_the_classes(form: str) -> None:
    conditioner = part(form)
    null, label = conditioner.null(2, (8, 8)), conditioner({"class": torch.tensor([0, 1])}, (8, 8))
    rows = getattr(null, form)
    assert conditioner.embedding.num_embeddings == 4
    assert torch.equal(rows.reshape(2, 16), conditioner.embedding.weight[[3, 3]])
    assert rows.shape == getattr(label, form).shape


def test_1000_classes_have_the_table_of_the_papers_guided_model() -> None:
    """cin256-v2: 1001 rows of width 512, of which 1000 is the null."""
    imagenet = DataSpec(
        size=256, channels=3, fields={"class": FieldSpec(kind="label", names=tuple(map(str, range(1000))))}
    )
    config = ClassLabel.Config(name="class", field="class", dropout=0.1, form="tokens", width=512)
    shapes = {name: tuple(value.shape) for name, value in ClassLabel(config, data=imagenet).state_dict().items()}
    assert shapes == {"embedding.weight": (1001, 512)}


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_does_not_exist_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=r"field 'class' holds classes .* but there are 0 to 2"):
        part()({"class": torch.tensor([0, label])}, (8, 8))


def test_data_that_names_no_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="cond 'class' needs the names of the classes of 'class'"):
        part(data=DataSpec(size=64, channels=3, fields={"class": FieldSpec(kind="label")}))
