"""A sentencepiece tokenizer that is trained on the captions of the data."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

import sentencepiece

from ldmkit.errors import CheckpointError, DataError
from ldmkit_conditioners.sequence import PAD

UNKNOWN, START = 1, 2
NORMALISATION = "nmt_nfkc_cf"  # Unicode NFKC, one space between words, case folded
MOST_CAPTIONS = 1_000_000  # to train on; of more, every n-th is taken


def train(captions: Sequence[str], vocabulary: int) -> bytes:
    """Byte pair encoding of at most ``vocabulary`` pieces, in which frequent words are one piece: a model file's bytes.

    Sennrich et al. 2016, by sentencepiece. The same captions give the same bytes. Small data gives fewer pieces; the
    rarest characters have none where there are too many for ``vocabulary`` and are read as unknown. Raises
    :class:`DataError` when no caption has any text.
    """
    every = -(-len(captions) // MOST_CAPTIONS) or 1
    texts = _with_frequent_characters([readable(caption) for caption in captions[::every]], vocabulary // 2)
    if not texts:
        raise DataError("no caption has any text to train a tokenizer on; leave 'text' out of cond")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name=NORMALISATION,
        max_sentence_length=max(10, *(len(text.encode()) for text in texts)),
        shuffle_input_sentence=False,
        num_threads=1,
        pad_id=PAD,
        unk_id=UNKNOWN,
        bos_id=START,
        eos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def readable(caption: str) -> str:
    """``caption`` without what is no text: NUL characters and halves of surrogate pairs."""
    return caption.replace("\0", " ").encode(errors="replace").decode()


def _with_frequent_characters(captions: Sequence[str], most: int) -> list[str]:
    """Normalised ``captions`` that have any text, with spaces for all but the ``most`` most frequent characters."""
    normalise = sentencepiece.SentencePieceNormalizer(rule_name=NORMALISATION).normalize
    texts = [normalise(caption) for caption in captions]
    counts = Counter("".join(texts))
    del counts[" "]
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    rare = str.maketrans(dict.fromkeys(ranked[most:], " "))
    return [text for text in (text.translate(rare) for text in texts) if text.strip()]


class Tokenizer:
    """Text => numbers of pieces, by the ``model`` that :func:`train` returned.

    ``source`` names the model in errors: raises :class:`CheckpointError` when it cannot be read.
    """

    def __init__(self, model: bytes, source: str) -> None:
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise CheckpointError(f"{source} is no tokenizer; it is damaged or of another kind") from error

    def __len__(self) -> int:
        return self._pieces.vocab_size()

    def encode(self, captions: Sequence[str]) -> list[list[int]]:
        """Numbers of the pieces of each caption, behind a start token; an empty caption is a start token alone."""
        return self._pieces.encode([readable(caption) for caption in captions], add_bos=True, num_threads=1)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the pieces ``tokens``, normalised: lower case, one space between words."""
        return self._pieces.decode([token for token in tokens if token not in (PAD, START)])
