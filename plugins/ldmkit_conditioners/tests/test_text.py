"""The text conditioner: what a caption becomes, what pads do, and what it says when something is amiss."""

import copy
import logging
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from ldmkit_conditioners.text import Text
from ldmkit_conditioners.transformer import TokenTransformer

from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.registry.schema import typed
from ldmkit.specs import CondSpec, DataSpec, FieldSpec
from ldmkit.values import Conditioning

MANIFESTS = Path(__file__).parent / "manifests"
DATA = DataSpec(size=64, channels=3, fields={"caption": FieldSpec(kind="text")})
CAPTIONS = [f"a {size} {c} circle on a navy background" for size in ("small", "large") for c in ("red", "blue", "pink")]
LATENT = (8, 8)


def config(**changes: object) -> Text.Config:
    numbers = {"vocabulary": 128, "length": 12, "width": 32, "depth": 2, "heads": 2, "head_channels": 8, "vector": True}
    return Text.Config(**{"name": "text", "field": "caption", "dropout": 0.1, **numbers, **changes})  # type: ignore[arg-type]


def fitted(directory: Path, **changes: object) -> Text:
    torch.manual_seed(0)
    part = Text(config(**changes), data=DATA)
    part.fit({"caption": CAPTIONS}, directory)
    part.restore(directory)
    return part


def encode(part: Text, *captions: str) -> Conditioning:
    return part({"caption": list(captions)}, LATENT)


@pytest.mark.parametrize("vector", [True, False])
def test_a_caption_becomes_what_the_spec_declares(tmp_path: Path, vector: bool) -> None:
    part = fitted(tmp_path, vector=vector)
    conditioning = encode(part, *CAPTIONS)
    assert part.spec == CondSpec(tokens=32, vector=32 if vector else 0)
    assert conditioning.tokens is not None
    assert conditioning.mask is not None
    assert conditioning.tokens.shape == (6, 12, 32)
    assert conditioning.mask.sum(1).tolist() == [9] * 6
    assert (conditioning.vector is not None) == vector


@pytest.mark.parametrize("training", [True, False])
def test_a_caption_means_the_same_beside_longer_ones(tmp_path: Path, training: bool) -> None:
    part = fitted(tmp_path)
    with torch.set_grad_enabled(training):
        alone, beside = encode(part, "red"), encode(part, CAPTIONS[0], "red")
    assert alone.tokens is not None
    assert alone.vector is not None
    assert beside.tokens is not None
    assert beside.vector is not None
    torch.testing.assert_close(beside.tokens[1], alone.tokens[0])
    torch.testing.assert_close(beside.vector[1], alone.vector[0])


def test_the_number_of_pads_does_not_matter(tmp_path: Path) -> None:
    short, long = fitted(tmp_path), fitted(tmp_path, length=40)
    weights = short.state_dict()
    weights["transformer.pos_emb.emb.weight"] = torch.cat(
        [weights["transformer.pos_emb.emb.weight"], torch.ones(28, 32)]
    )
    long.load_state_dict(weights)
    one, other = encode(short, "red", *CAPTIONS), encode(long, "red", *CAPTIONS)
    assert one.tokens is not None
    assert other.tokens is not None
    assert other.tokens.shape[1] == 40
    torch.testing.assert_close(other.tokens[:, :12], one.tokens, atol=1e-6, rtol=0)
    torch.testing.assert_close(other.vector, one.vector, atol=1e-6, rtol=0)
    assert not other.tokens[:, 12:].any()


def test_pads_are_masked_and_zero(tmp_path: Path) -> None:
    conditioning = encode(fitted(tmp_path), "red", "")
    assert conditioning.tokens is not None
    assert conditioning.mask is not None
    assert conditioning.mask.sum(1).tolist() == [2, 1]
    assert conditioning.tokens[~conditioning.mask].abs().max() == 0


def test_the_order_of_words_matters_and_the_order_of_rows_does_not(tmp_path: Path) -> None:
    part = fitted(tmp_path)
    tokens = encode(part, "red circle", "circle red").tokens
    swapped = encode(part, "circle red", "red circle").tokens
    assert tokens is not None
    assert swapped is not None
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3
    torch.testing.assert_close(tokens, swapped.flip(0))


def test_attention_in_training_equals_attention_in_sampling(tmp_path: Path) -> None:
    part = fitted(tmp_path)
    training = encode(part, *CAPTIONS, "red").tokens
    with torch.no_grad():
        torch.testing.assert_close(encode(part, *CAPTIONS, "red").tokens, training)


def test_the_null_is_the_empty_caption_in_the_forms_of_any_other(tmp_path: Path) -> None:
    part = fitted(tmp_path)
    null, empty, other = part.null(3, LATENT), encode(part, "", "", ""), encode(part, *CAPTIONS[:3])
    for form in ("tokens", "mask", "vector"):
        torch.testing.assert_close(getattr(null, form), getattr(empty, form))
        assert getattr(null, form).shape == getattr(other, form).shape
    assert null.vector is not None
    assert other.vector is not None
    assert (null.vector - other.vector).abs().max() > 1e-3


def test_rows_may_be_dropped_out_and_guided(tmp_path: Path) -> None:
    part = fitted(tmp_path)
    conditioning, null = encode(part, *CAPTIONS[:2]), part.null(2, LATENT)
    dropped = conditioning.where(torch.tensor([True, False]), null)
    assert dropped.tokens is not None
    assert null.tokens is not None
    assert torch.equal(dropped.tokens[1], null.tokens[1])
    both = Conditioning.batch([null, conditioning]).tokens
    assert both is not None
    assert len(both) == 4


def test_every_parameter_learns(tmp_path: Path) -> None:
    part = fitted(tmp_path)
    conditioning = encode(part, *CAPTIONS)
    assert conditioning.tokens is not None
    assert conditioning.vector is not None
    (conditioning.tokens.square().mean() * conditioning.vector.sum()).backward()
    without = [name for name, value in part.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


def test_a_long_caption_is_cut_and_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = fitted(tmp_path)
    with caplog.at_level(logging.WARNING, "ldmkit"):
        tokens = encode(part, "red " * 50, "blue").tokens
        encode(part, "red " * 60)  # of training batches, which come again, the first is enough
    assert tokens is not None
    assert tokens.shape[1] == 12
    assert [record.getMessage() for record in caplog.records] == [
        "cond 'text': 1 of 2 captions of a batch are longer than 12 tokens and lose their end, the longest (51 tokens) "
        "being 'red red red red red red red red red red ...'; raise cond.text.length"
    ]


def test_every_prompt_that_is_cut_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = fitted(tmp_path, length=5).eval()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "ldmkit"):
        for prompt in ("red " * 5, "red", "blue " * 5, "blue " * 5):
            encode(part, prompt, "red")
    said = [record.getMessage() for record in caplog.records]
    assert [text.split("'")[3].split()[0] for text in said] == ["red", "blue"]


@pytest.mark.parametrize(
    "text", ["", " \n", "\N{UNICORN FACE}\N{ROCKET}", "\u05e9\u05dc\u05d5\u05dd", "rot\u0000\ud800"]
)
def test_any_text_is_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    with caplog.at_level(logging.WARNING, "ldmkit"):
        tokens = encode(fitted(tmp_path), text).tokens
    assert tokens is not None
    assert tokens.isfinite().all()
    assert not caplog.records


def test_fitting_says_how_many_captions_are_too_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ldmkit"):
        fitted(tmp_path, length=5)
    (record,) = caplog.records
    assert (
        "6 of 6 captions of the data are longer than 5 tokens and lose their end, the longest (9 "
        in record.getMessage()
    )


def test_what_was_fitted_is_restored_elsewhere(tmp_path: Path) -> None:
    part = fitted(tmp_path)
    other = Text(config(), data=DATA)
    other.load_state_dict(part.state_dict())
    other.restore(tmp_path)
    torch.testing.assert_close(encode(other, *CAPTIONS).tokens, encode(part, *CAPTIONS).tokens)


def test_a_copy_reads_as_the_original_does(tmp_path: Path) -> None:
    part = fitted(tmp_path)
    torch.testing.assert_close(encode(copy.deepcopy(part), "red").tokens, encode(part, "red").tokens)


def test_without_a_tokenizer_it_says_what_to_do() -> None:
    with pytest.raises(CheckpointError, match="cond 'text' has no tokenizer yet; call fit"):
        encode(Text(config(), data=DATA), "red")


def test_a_tokenizer_that_is_missing_or_another_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cond 'text' finds no tokenizer at .*; fit it again"):
        Text(config(), data=DATA).restore(tmp_path)
    fitted(tmp_path)
    with pytest.raises(CheckpointError, match=r"but cond\.text\.vocabulary is 16; it belongs to another configuration"):
        Text(config(vocabulary=16), data=DATA).restore(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"vocabulary": 7}, {"length": 0}, {"dropout": 1.5}, {"width": 0}, {"depth": 0}, {"heads": 0}]
)
def test_numbers_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    ((key, number),) = wrong.items()
    with pytest.raises(ConfigError, match=rf"^cond\.text\.{key} is {number} but must be"):
        typed(Text.Config, {**asdict(config()), **wrong}, "cond.text")


@pytest.mark.parametrize(("width", "count"), [(1280, 542_895_360), (640, None)])
def test_the_papers_text_encoders_have_their_parameters(width: int, count: int | None) -> None:
    """All but ``to_logits``, the vocabulary head that the original files carry and never use."""
    with torch.device("meta"):
        part = Text(
            config(vocabulary=30522, length=77, width=width, depth=32, heads=8, head_channels=64, vector=False),
            data=DATA,
        )
    ours = {name: "x".join(map(str, value.shape)) for name, value in part.state_dict().items()}
    rows = (MANIFESTS / f"cond-BERTEmbedder{width}x32.tsv").read_text().split("\n")
    theirs = dict(row.split("\t") for row in rows if row and "to_logits" not in row)
    assert ours == theirs
    assert count is None or sum(value.numel() for value in part.parameters()) == count


def test_the_inner_width_of_attention_does_not_depend_on_the_width() -> None:
    encoder = TokenTransformer(vocabulary=16, length=4, width=24, depth=1, heads=2, head_channels=5)
    pieces, mask = torch.tensor([[2, 3, 0, 0]]), torch.tensor([[True, True, False, False]])
    assert encoder(pieces, mask).shape == (1, 4, 24)
    assert encoder.state_dict()["attn_layers.layers.0.1.to_q.weight"].shape == (10, 24)
