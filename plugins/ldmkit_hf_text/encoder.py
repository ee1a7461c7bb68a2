"""A directory with a text encoder, and the frozen network in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ldmkit.errors import ConfigError
from ldmkit.pretrained.torchvision_operators import importing
from ldmkit_hf_text.cache import Embedding

CLASSES = {
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
"""Classes of transformers by the ``model_type`` of ``config.json``."""

READ = (".json", ".txt", ".model", ".safetensors")
"""Files of the directory that an encoder may be made of."""


class Encoder:
    """The encoder in ``directory``. Only its config is read until the first text is encoded.

    ``width`` is that of its tokens, ``longest`` the most tokens that it takes, None where it takes any number. Raises
    ConfigError, for the conditioner called ``cond``, where transformers or an encoder that we know is missing.
    """

    def __init__(self, cond: str, directory: Path) -> None:
        self.cond, self.directory = cond, directory
        if find_spec("transformers") is None:
            raise ConfigError(
                f"cond '{cond}' needs the package transformers; type pip install 'ldmkit[transformers]', or leave "
                f"'{cond}' out of cond"
            )
        config = self._config()
        self._class = CLASSES[config.model_type]
        text = config.get_text_config()
        self.width = int(text.hidden_size)
        self.longest: int | None = getattr(text, "max_position_embeddings", None)
        self._loaded: tuple[Any, Any] | None = None

    def digest(self) -> str:
        """sha256 over the files that the encoder may be made of."""
        digest = hashlib.sha256()
        for path in sorted(path for path in self.directory.iterdir() if path.suffix in READ):
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def numbers(self, text: str, length: int) -> tuple[list[int], int]:
        """Numbers of the tokens of ``text``, special ones among them, ``length`` at most; and how many there were."""
        tokenizer, _ = self._parts()
        numbers: list[int] = tokenizer(text, verbose=False).input_ids
        if len(numbers) <= length:
            return numbers, len(numbers)
        return tokenizer(text, truncation=True, max_length=length).input_ids, len(numbers)

    @torch.no_grad()
    def embed(self, numbers: list[int], device: torch.device) -> Embedding:
        """One text, as its ``numbers``, at a time, in fp32: what it gives then depends on nothing else.

        Beside other texts in a batch it would differ in the last bits, and a resumed run from the uninterrupted one.
        """
        _, model = self._parts()
        with torch.autocast(device.type, enabled=False):
            given = model.to(device)(input_ids=torch.tensor([numbers], device=device))
        tokens = given.last_hidden_state[0]
        pooled = given.get("pooler_output")
        return Embedding(tokens.cpu(), (tokens.mean(0) if pooled is None else pooled[0]).cpu())

    def _config(self) -> Any:
        import transformers

        if not (self.directory / "config.json").is_file():
            raise ConfigError(
                f"cond.{self.cond}.path={str(self.directory)!r} has no config.json; expected a text encoder"
            )
        try:
            config = transformers.AutoConfig.from_pretrained(self.directory, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.directory / 'config.json'} cannot be read: {_first_line(error)}") from error
        if config.model_type not in CLASSES:
            raise ConfigError(
                f"cond.{self.cond}.path={str(self.directory)!r} is a '{config.model_type}'. "
                f"There is: {', '.join(CLASSES)}"
            )
        return config

    def _parts(self) -> tuple[Any, Any]:
        """Tokenizer and frozen model."""
        if self._loaded is None:
            import transformers

            try:
                with _quietly(), torch.device("cpu"), torch.random.fork_rng(devices=[]):
                    with importing():
                        network = getattr(transformers, self._class)
                    tokenizer = transformers.AutoTokenizer.from_pretrained(self.directory, local_files_only=True)
                    model, found = network.from_pretrained(
                        self.directory,
                        local_files_only=True,
                        use_safetensors=True,
                        dtype=torch.float32,
                        output_loading_info=True,
                    )
                if found["missing_keys"]:  # transformers would draw them at random
                    raise ValueError(f"its weights lack {', '.join(sorted(found['missing_keys']))}")
            except (OSError, ValueError, RuntimeError, SafetensorError) as error:
                raise ConfigError(
                    f"cond.{self.cond}.path={str(self.directory)!r} holds no encoder that can be loaded: "
                    f"{_first_line(error)}"
                ) from error
            self._loaded = tokenizer, model.eval().requires_grad_(False)
        return self._loaded


@contextmanager
def _quietly() -> Iterator[None]:
    """Within, transformers says nothing below an error and draws no bars."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
