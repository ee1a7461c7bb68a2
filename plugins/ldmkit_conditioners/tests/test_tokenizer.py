"""The tokenizer fits any captions, and reads any text."""

import pytest
from ldmkit_conditioners.tokenizer import PAD, START, UNKNOWN, Tokenizer, train

from ldmkit.errors import CheckpointError, DataError

COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink"]
SHAPES = ["circle", "square", "triangle", "cross"]
CAPTIONS = [
    f"a {size} {c} {s} on a navy background" for size in ("small", "large") for c in COLOURS for s in SHAPES
] * 16


def fitted(captions: list[str], vocabulary: int = 256) -> Tokenizer:
    return Tokenizer(train(captions, vocabulary), "tokenizer.model")


def test_frequent_words_are_single_pieces() -> None:
    (pieces,) = fitted(CAPTIONS).encode(["a large purple triangle on a navy background"])
    assert pieces[0] == START
    assert len(pieces) == 1 + 8


def test_text_comes_back_in_lower_case_with_single_spaces() -> None:
    tokenizer = fitted(CAPTIONS)
    (pieces,) = tokenizer.encode(["  A  Large\tRED circle\n"])
    assert tokenizer.decode(pieces) == "a large red circle"
    assert UNKNOWN not in pieces
    assert PAD not in pieces


def test_words_never_seen_are_spelt() -> None:
    tokenizer = fitted(CAPTIONS)
    (pieces,) = tokenizer.encode(["spectral"])
    assert len(pieces) > 3
    assert tokenizer.decode(pieces) == "spectral"


def test_the_same_captions_give_the_same_bytes() -> None:
    assert train(CAPTIONS, 256) == train(CAPTIONS, 256)


def test_an_empty_caption_is_a_start_token() -> None:
    assert fitted(CAPTIONS).encode(["", "   ", "\0"]) == [[START]] * 3


@pytest.mark.parametrize(
    "text",
    [
        "naïve café",
        "a 👩‍👩‍👧 and a 😀",
        "שלום עולם",
        "!!! ... ???",
        "a\r\nb\tc\ufeffd",
        "half a pair \ud800",
        "nul \0 nul",
        "ab" * 5000,
        "word " * 2000,
        "a",
    ],
    ids=["accents", "emoji", "right to left", "punctuation", "breaks", "surrogate", "nul", "10k", "10k words", "one"],
)
def test_any_text_can_be_learned_and_read(text: str) -> None:
    (known,) = fitted([text]).encode([text])
    (foreign,) = fitted(CAPTIONS).encode([text])
    assert known[0] == foreign[0] == START
    assert len(known) > 1
    assert UNKNOWN not in known


@pytest.mark.parametrize("vocabulary", [8, 16, 64, 256, 4096])
def test_a_vocabulary_of_any_size_is_kept_to(vocabulary: int) -> None:
    assert len(fitted(CAPTIONS, vocabulary)) <= vocabulary


def test_more_characters_than_the_vocabulary_holds_leave_the_frequent_ones() -> None:
    many = "".join(chr(0x4E00 + index) for index in range(500))
    tokenizer = fitted(["the frequent words " * 50, many], 64)
    (frequent,), (rare,) = tokenizer.encode(["frequent"]), tokenizer.encode([many[-5:]])
    assert len(tokenizer) <= 64
    assert UNKNOWN not in frequent
    assert UNKNOWN in rare


@pytest.mark.parametrize("captions", [[], ["", " "], ["\0"]])
def test_captions_without_text_are_refused(captions: list[str]) -> None:
    with pytest.raises(DataError, match="no caption has any text"):
        train(captions, 64)


@pytest.mark.parametrize("model", [b"", b"garbage", train(CAPTIONS, 64)[:100]])
def test_a_damaged_model_is_refused_by_name(model: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is no tokenizer"):
        Tokenizer(model, "tokenizer.model")


def test_nothing_is_written_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    fitted(CAPTIONS).encode(CAPTIONS[:3])
    assert capfd.readouterr() == ("", "")
