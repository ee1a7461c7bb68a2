"""Read before every test: diffusers and transformers import torchvision, which has to be importable anywhere."""

from pathlib import Path

import pytest

from ldmkit.pretrained.torchvision_operators import declare_torchvision_operators

declare_torchvision_operators()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a CLIP text encoder of random weights, 16 wide, and its tokenizer: words, between two marks."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    place = tmp_path_factory.mktemp("clip")
    words = (
        "<pad> <unk> <s> </s> a small large red green blue circle square star left right of above and picture number"
    )
    numbers = {word: number for number, word in enumerate(words.split())}
    marks = [(mark, numbers[mark]) for mark in ("<s>", "</s>")]
    inner = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=marks)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(place)
    config = transformers.CLIPTextConfig(
        vocab_size=len(numbers),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        pad_token_id=numbers["<pad>"],
        bos_token_id=numbers["<s>"],
        eos_token_id=numbers["</s>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.CLIPTextModel(config).save_pretrained(place)
    return place
