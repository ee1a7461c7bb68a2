"""Captions read by tiny CLIP and T5 encoders of random weights, against the encoders themselves."""

import copy
import json
import logging
import shutil
from pathlib import Path

import ldmkit_hf_text.encoder as encoder_module
import pytest
import torch
import transformers
from ldmkit_hf_text.cache import Cache, Embedding
from ldmkit_hf_text.hf_text import HFText
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.specs import CondSpec, DataSpec, FieldSpec
from ldmkit.values import Conditioning

DATA = DataSpec(size=32, channels=3, fields={"caption": FieldSpec(kind="text")})
CAPTIONS = ["a small red circle", "square", "a large blue square left of a circle"]
LATENT = (4, 4)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a T5 encoder of random weights, and its tokenizer: words, before one mark."""
    place = tmp_path_factory.mktemp("t5")
    words = ["<pad>", "</s>", "<unk>", "a", "small", "large", "red", "blue", "circle", "square", "left", "of"]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    ).save_pretrained(place)
    config = transformers.T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    torch.manual_seed(0)
    transformers.T5EncoderModel(config).eval().save_pretrained(place)
    return place


@pytest.fixture(params=["clip", "t5"])
def place(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def part(place: Path | str | None, **changes: object) -> HFText:
    keys = {"name": "hf-text", "field": "caption", "path": None if place is None else str(place), "dropout": 0.1}
    keys |= {"length": 16, "vector": True, "cache_mb": 1}
    return HFText(HFText.Config(**{**keys, **changes}), data=DATA).eval()  # type: ignore[arg-type]


def encode(conditioner: HFText, *captions: str) -> Conditioning:
    return conditioner({"caption": list(captions)}, LATENT)


def test_tokens_are_the_last_hidden_state_of_the_encoder_itself(place: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    known = {"clip_text_model": transformers.CLIPTextModel, "t5": transformers.T5EncoderModel}
    model = known[json.loads((place / "config.json").read_text())["model_type"]].from_pretrained(place)
    given = tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.eval()(input_ids=given.input_ids, attention_mask=given.attention_mask).last_hidden_state
    got = encode(part(place), *CAPTIONS)
    assert got.tokens is not None
    assert got.mask is not None
    for row, mask in enumerate(given.attention_mask.bool()):
        count = int(mask.sum())
        assert got.mask[row].sum() == count
        torch.testing.assert_close(got.tokens[row, :count], expected[row, mask], atol=1e-5, rtol=1e-5)


def test_the_vector_is_what_clip_pools_and_what_t5_means(clip: Path, t5: Path) -> None:
    got = encode(part(clip), *CAPTIONS)
    assert got.mask is not None
    assert got.tokens is not None
    last = got.mask.sum(1) - 1  # of CLIP's tokens, the mark at the end pools
    torch.testing.assert_close(got.vector, got.tokens[torch.arange(3), last])
    got = encode(part(t5), *CAPTIONS)
    assert got.mask is not None
    assert got.tokens is not None
    torch.testing.assert_close(got.vector, got.tokens.sum(1) / got.mask.sum(1, keepdim=True))


def test_it_yields_what_it_declares_with_pads_masked_and_zero(place: Path) -> None:
    for vector in (True, False):
        conditioner = part(place, vector=vector)
        got = encode(conditioner, *CAPTIONS)
        assert conditioner.spec == CondSpec(tokens=16, vector=16 if vector else 0)
        assert got.tokens is not None
        assert got.tokens.shape == (3, 16, 16)
        assert not got.tokens[~got.mask].any()  # type: ignore[operator]
        assert (got.vector is not None) == vector


def test_the_number_of_pads_does_not_matter(place: Path) -> None:
    short, long = encode(part(place, length=12), *CAPTIONS), encode(part(place, length=40), *CAPTIONS)
    assert torch.equal(short.tokens, long.tokens[:, :12])  # type: ignore[index,arg-type]
    assert torch.equal(short.vector, long.vector)  # type: ignore[arg-type]


def test_a_caption_is_the_same_bit_for_bit_beside_any_other(place: Path) -> None:
    alone, beside = encode(part(place), CAPTIONS[0]), encode(part(place), *reversed(CAPTIONS))
    assert torch.equal(alone.tokens[0], beside.tokens[2])  # type: ignore[index]


def test_the_null_is_the_empty_caption(place: Path) -> None:
    conditioner = part(place)
    null, empty = conditioner.null(2, LATENT), encode(conditioner, "", "")
    for form in ("tokens", "mask", "vector"):
        assert torch.equal(getattr(null, form), getattr(empty, form))
    assert null.mask is not None
    assert null.mask.any()


def test_nothing_of_it_is_trained_or_saved(place: Path) -> None:
    conditioner = part(place)
    encode(conditioner, *CAPTIONS)
    assert not list(conditioner.parameters())
    assert not conditioner.state_dict()
    with torch.enable_grad():
        assert not encode(conditioner, "red").tokens.requires_grad  # type: ignore[union-attr]


def test_a_text_is_encoded_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conditioner, encoded = part(place), []
    real = conditioner.encoder.embed
    monkeypatch.setattr(conditioner.encoder, "embed", lambda *given: encoded.append(1) or real(*given))
    for _ in range(3):
        encode(conditioner, *CAPTIONS, CAPTIONS[0])
    assert len(encoded) == 3


def test_the_cache_keeps_what_was_used_last_in_bounded_memory() -> None:
    made: list[str] = []

    def make(text: str) -> Embedding:
        made.append(text)
        return Embedding(torch.zeros(4, 2), torch.zeros(2))  # 40 bytes

    cache = Cache(80)
    for text in "abacab":
        cache.get(text, make)
        assert cache.used <= 80
    assert "".join(made) == "abcb"
    assert Cache(0).get("a", make).tokens.shape == (4, 2)


def test_precision_of_the_run_does_not_reach_the_encoder(place: Path) -> None:
    exact = encode(part(place), *CAPTIONS).tokens
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encode(part(place), *CAPTIONS).tokens, exact)  # type: ignore[arg-type]


def test_a_run_refuses_another_encoder_than_its_own(place: Path, tmp_path: Path) -> None:
    moved = tmp_path / "encoder"
    shutil.copytree(place, moved)
    conditioner = part(moved)
    conditioner.fit({"caption": CAPTIONS}, tmp_path / "fitted")
    part(place).restore(tmp_path / "fitted")  # the same files elsewhere
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    with pytest.raises(CheckpointError, match="is another than the one that was trained with"):
        conditioner.restore(tmp_path / "fitted")
    with pytest.raises(CheckpointError, match="finds no digest in"):
        conditioner.restore(tmp_path)


def test_captions_that_are_too_long_are_counted_and_one_is_named(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conditioner = part(clip, length=5)
    with caplog.at_level(logging.WARNING, "ldmkit"):
        conditioner.train().fit({"caption": CAPTIONS}, tmp_path)
        encode(conditioner, *CAPTIONS)
        got = encode(conditioner.eval(), "red " * 9)
    assert got.mask is not None
    assert got.mask.sum() == 5
    assert [record.getMessage() for record in caplog.records] == [
        "cond 'hf-text': 2 of 3 captions of the data are longer than 5 tokens and lose their end, the longest being "
        "'a large blue square left of a circle'; raise cond.hf-text.length",
        "cond 'hf-text': 1 of 1 captions of a batch are longer than 5 tokens and lose their end, the longest being "
        "'red red red red red red red red red '; raise cond.hf-text.length",
    ]


def test_a_cut_caption_keeps_the_mark_at_its_end(clip: Path) -> None:
    encoder = part(clip).encoder
    numbers, count = encoder.numbers("red " * 9, 5)
    assert (count, len(numbers)) == (11, 5)
    assert numbers[-1] == encoder.numbers("red", 5)[0][-1]


def test_a_copy_gives_the_same(place: Path) -> None:
    conditioner = part(place)
    expected = encode(conditioner, *CAPTIONS).tokens
    assert torch.equal(encode(copy.deepcopy(conditioner), *CAPTIONS).tokens, expected)  # type: ignore[arg-type]


def test_what_is_wrong_is_said_before_anything_is_trained(clip: Path, tmp_path: Path) -> None:
    for wrong, message in (
        (None, r"cond=hf-text needs cond\.hf-text\.path=DIRECTORY"),
        (tmp_path, r"has no config\.json; expected a text encoder"),
        (tmp_path / "nowhere", r"has no config\.json; expected a text encoder"),
    ):
        with pytest.raises(ConfigError, match=message):
            part(wrong)
    with pytest.raises(ConfigError, match="length is 78, but the encoder takes 77 tokens at most"):
        part(clip, length=78)
    with pytest.raises(ConfigError, match=r"needs the field 'title' \(text\), but the data offers: caption \(text\)"):
        part(clip, field="title")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match=r"is a 'bert'\. There is: clip, "):
        part(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        part(tmp_path)


def test_weights_that_are_missing_or_could_execute_code_are_not_loaded(clip: Path, tmp_path: Path) -> None:
    shutil.copytree(clip, tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "clip" / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="holds no encoder that can be loaded"):
        encode(part(tmp_path / "clip"), "red")


def test_without_transformers_it_says_what_to_install(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package transformers; type pip install 'ldmkit\[transformers\]'"):
        part(clip)


def test_an_encoder_whose_weights_are_damaged_or_not_all_there_is_refused(place: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(place, tmp_path / "encoder"))
    weights = load_file(copied / "model.safetensors")
    lacking = next(
        name for name in sorted(weights) if name.endswith("layer_norm.weight") or "layer_norm1.weight" in name
    )
    save_file(
        {name: weight for name, weight in weights.items() if name != lacking},
        copied / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ConfigError, match=r"holds no encoder that can be loaded: its weights lack .*layer_norm"):
        encode(part(copied), "square")
    (copied / "model.safetensors").write_bytes(b"junk" * 100)
    with pytest.raises(ConfigError, match="holds no encoder that can be loaded"):
        encode(part(copied), "square")
