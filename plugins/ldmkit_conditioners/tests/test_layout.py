"""The layout conditioner: which tokens boxes become, how they are read, and what is said of those that do not fit."""

import logging
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from ldmkit_conditioners.layout import NULL, SPECIAL, START, Layout
from torch import Tensor

from ldmkit.errors import ConfigError, DataError
from ldmkit.registry.schema import typed
from ldmkit.specs import CondSpec, DataSpec, FieldSpec
from ldmkit.values import Conditioning

MANIFEST = Path(__file__).parent / "manifests" / "cond-layout512x16vocab8192seq92.tsv"
NAMES = ("cat", "dog", "owl")
DATA = DataSpec(size=64, channels=3, fields={"boxes": FieldSpec(kind="boxes", names=NAMES)})
CORNERS = SPECIAL + len(NAMES)  # number of the token at the top left
BOXES = torch.tensor([[0.0, 0.0, 0.5, 0.5, 2], [0.25, 0.5, 1.0, 1.0, 0]])


def config(**changes: object) -> Layout.Config:
    numbers = {"vocabulary": 31, "length": 8, "width": 32, "depth": 1, "heads": 2, "head_channels": 8, "vector": True}
    return Layout.Config(**{"name": "layout", "field": "boxes", "dropout": 0.1, **numbers, **changes})  # type: ignore[arg-type]


def part(**changes: object) -> Layout:
    torch.manual_seed(0)
    return Layout(config(**changes), data=DATA)


def encode(conditioner: Layout, *boxes: Tensor) -> Conditioning:
    return conditioner({"boxes": list(boxes)}, (8, 8))


def test_a_box_is_its_top_left_corner_its_bottom_right_corner_and_its_class() -> None:
    """31 numbers hold 3 classes, 3 marks and the 25 corners of a grid of 5 x 5, row by row."""
    conditioner = part()
    assert conditioner.grid == 5
    assert conditioner._numbers(BOXES) == [
        START,
        *(CORNERS + 0, CORNERS + 2 * 5 + 2, SPECIAL + 2),
        *(CORNERS + 2 * 5 + 1, CORNERS + 4 * 5 + 4, SPECIAL + 0),
    ]


def test_boxes_become_what_the_spec_declares_with_pads_masked_and_zero() -> None:
    conditioning = encode(part(), BOXES, BOXES[:1], BOXES[:0])
    assert part().spec == CondSpec(tokens=32, vector=32)
    assert conditioning.tokens is not None
    assert conditioning.mask is not None
    assert conditioning.vector is not None
    assert conditioning.tokens.shape == (3, 8, 32)
    assert conditioning.mask.sum(1).tolist() == [7, 4, 1]
    assert not conditioning.tokens[~conditioning.mask].any()
    assert conditioning.vector.shape == (3, 32)


def test_the_order_in_which_boxes_are_listed_does_not_matter() -> None:
    one, other = encode(part(), BOXES), encode(part(), BOXES.flip(0))
    assert torch.equal(one.tokens, other.tokens)  # type: ignore[arg-type]


def test_boxes_mean_the_same_beside_more_of_them_and_at_any_length() -> None:
    alone, beside, longer = encode(part(), BOXES[:1]), encode(part(), BOXES[:1], BOXES), part(length=20)
    weights = part().state_dict()
    weights["transformer.pos_emb.emb.weight"] = torch.cat(
        [weights["transformer.pos_emb.emb.weight"], torch.ones(12, 32)]
    )
    longer.load_state_dict(weights)
    far = encode(longer, BOXES[:1])
    for form in ("tokens", "vector"):
        one, two, three = (getattr(each, form)[:1, :8] for each in (alone, beside, far))
        torch.testing.assert_close(two, one, atol=1e-6, rtol=0)
        torch.testing.assert_close(three if form == "tokens" else far.vector, one if form == "tokens" else alone.vector)


def test_the_null_is_a_token_of_its_own_and_not_a_picture_without_boxes() -> None:
    conditioner = part()
    null, bare = conditioner.null(2, (8, 8)), encode(conditioner, BOXES[:0], BOXES[:0])
    assert null.mask is not None
    assert null.tokens is not None
    assert bare.tokens is not None
    assert null.mask.sum(1).tolist() == [1, 1]
    assert null.tokens.shape == bare.tokens.shape
    assert (null.tokens - bare.tokens).abs().max() > 0.1
    assert NULL not in conditioner._numbers(BOXES)


def test_corners_begin_alike_where_they_are_near() -> None:
    corners = part(vocabulary=SPECIAL + 3 + 16**2).transformer.token_emb.weight[CORNERS:].detach()
    here, beside, below, far = (corners[row * 16 + column] for row, column in ((4, 4), (4, 5), (5, 4), (12, 12)))
    likeness = torch.cosine_similarity(here, torch.stack([beside, below, far]), dim=1)
    assert likeness[:2].min() > likeness[2] + 0.2
    torch.testing.assert_close(corners.square().mean(), torch.tensor(1.0), rtol=0.05, atol=0)


def test_the_smallest_boxes_are_left_out_and_that_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    conditioner = part().eval()
    crowd = torch.tensor([[0, 0, 0.1 * side, 0.1 * side, 0] for side in (1, 5, 3, 2, 4)])
    with caplog.at_level(logging.WARNING, "ldmkit"):
        cut = encode(conditioner, BOXES, crowd)
    assert torch.equal(cut.tokens[1], encode(conditioner, crowd[[1, 4]]).tokens[0])  # type: ignore[index]
    assert [record.getMessage() for record in caplog.records] == [
        "cond 'layout': 1 of 2 pictures of a batch have more than 2 boxes and lose the smallest, number 1 has the most "
        "(5); raise cond.layout.length to 16"
    ]


def test_fitting_counts_the_pictures_with_too_many_boxes_and_training_does_not_repeat_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conditioner = part()
    crowd = BOXES.repeat(2, 1)
    with caplog.at_level(logging.WARNING, "ldmkit"):
        conditioner.fit({"boxes": [BOXES, crowd, crowd]}, tmp_path)
        encode(conditioner, crowd)
    (record,) = caplog.records
    assert "2 of 3 training pictures have more than 2 boxes" in record.getMessage()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([[0, 0, 1, 1, 3.0]]), r"holds the box \[0\.0, 0\.0, 1\.0, 1\.0, 3\.0\].*a class from 0 to 2"),
        (torch.tensor([[0, 0, 64, 64, 1.0]]), r"holds the box .*64.*as fractions of the picture"),
        (torch.tensor([[0, 0, 1, float("nan"), 1.0]]), r"holds the box .*nan"),
        (torch.zeros(2, 4), r"the boxes of picture 1 are \(2, 4\); expected \(N, 5\)"),
    ],
)
def test_boxes_that_are_none_are_refused(wrong: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode(part(), BOXES, wrong)


def test_a_vocabulary_without_room_for_corners_is_refused_with_one_that_has() -> None:
    with pytest.raises(ConfigError, match=r"cond\.layout\.vocabulary is 9, but 3 classes .* need 10 or more, and 1030"):
        part(vocabulary=9)
    assert part(vocabulary=10).grid == 2


@pytest.mark.parametrize("wrong", [{"length": 3}, {"dropout": 1.5}, {"width": 0}, {"depth": 0}, {"heads": 0}])
def test_numbers_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    ((key, number),) = wrong.items()
    with pytest.raises(ConfigError, match=rf"^cond\.layout\.{key} is {number} but must be"):
        typed(Layout.Config, {**asdict(config()), **wrong}, "cond.layout")


def test_the_papers_layout_encoder_has_its_parameters() -> None:
    """All but ``to_logits``, the vocabulary head that the original files carry and never use: 54.7 of 58.9 million."""
    names = tuple(map(str, range(600)))  # OpenImages
    data = DataSpec(size=256, channels=3, fields={"boxes": FieldSpec(kind="boxes", names=names)})
    paper = {
        "vocabulary": 8192,
        "length": 92,
        "width": 512,
        "depth": 16,
        "heads": 8,
        "head_channels": 64,
        "vector": False,
    }
    with torch.device("meta"):
        conditioner = Layout(config(**paper), data=data)
    ours = {name: "x".join(map(str, value.shape)) for name, value in conditioner.state_dict().items()}
    rows = [row.split("\t") for row in MANIFEST.read_text().split("\n") if row and "to_logits" not in row]
    assert ours == dict(rows)
    assert Counter(ours.values()) == Counter(shape for _, shape in rows)
    head = 8192 * 512 + 8192
    assert sum(value.numel() for value in conditioner.parameters()) + head == 58_858_496
    assert conditioner.most == 30
