"""The writer: a verified language model that continues prompts, one token after the other.

It knows no server and no protocol. Keys and values of the tokens read are kept, so that a step reads one token a
row. When a row has as many tokens as the model reads at once, it goes on from the last half of them, which are
read again: the text may be of any length, and its beginning is forgotten.

Shapes: B rows, T tokens of the longest among them, V tokens of the vocabulary.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from tokenizers import Tokenizer
from torch import nn

from fairlead.errors import ConfigError, IntegrityError
from fairlead.formats.digests import of_bytes
from fairlead.formats.model import ModelManifest, verify
from fairlead.inference.config import GenerationConfig
from fairlead.inference.sampling import Sampler
from fairlead.inference.textstream import TextStream
from fairlead.training.models.language_models import load_language_model, num_positions

# What of a full window is kept: more would be read again more often, less would be forgotten at once.
KEPT_SHARE = 0.5

Ended = Literal["stop", "end", "length"]
# The place of a prompt, and what was written after it.
Piece = tuple[int, str]


@dataclass
class Continuation:
    """What was written after one prompt."""

    prompt: str
    """The prompt."""
    text: str = ""
    """What follows it."""
    num_prompt_tokens: int = 0
    """Tokens of the prompt."""
    num_tokens: int = 0
    """Tokens written, those of a stop string included."""
    ended: Ended = "length"
    """`stop`: at a stop string; `end`: the model ended the document; `length`: at max_new_tokens."""

    def to_dict(self) -> dict[str, str]:
        """By the name of the signature's output."""
        return {"text": self.text}

    def to_record(self) -> dict[str, Any]:
        """What a log may keep of it."""
        return {
            "text": self.text,
            "text_sha256": of_bytes(self.text.encode()),
            "num_prompt_tokens": self.num_prompt_tokens,
            "num_tokens": self.num_tokens,
            "finish_reason": self.ended,
        }


@dataclass
class _Row:
    """One prompt while it is continued."""

    found: Continuation
    stream: TextStream
    tokens: list[int]
    done: bool = False


@dataclass
class Window:
    """The tokens that a model reads of some rows, and its keys and values of them."""

    model: nn.Module
    rows: list[list[int]]
    """Tokens of each row."""
    size: int
    """Tokens of a row at most."""
    pad_token_id: int = 0
    _cache: Any = field(default=None, init=False)
    _mask_BT: torch.Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def __post_init__(self) -> None:
        self.rows = [row[-self.size :] for row in self.rows]

    def read(self) -> torch.Tensor:
        """Read all tokens of all rows; the logits of the next ones, (B, V)."""
        width = max(map(len, self.rows))
        # On the left, so that the last token of every row is in the last column.
        ids_BT = torch.tensor([[self.pad_token_id] * (width - len(row)) + row for row in self.rows])
        self._mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in self.rows])
        self._cache = None
        return self._forward(ids_BT, (self._mask_BT.cumsum(dim=1) - 1).clamp_min(0))

    def advance(self, tokens: Sequence[int]) -> torch.Tensor:
        """Add one token to each row; the logits of the next ones, (B, V)."""
        full = False
        for index, token in enumerate(tokens):
            self.rows[index].append(token)
            if len(self.rows[index]) > self.size:
                self.rows[index] = self.rows[index][-max(1, int(self.size * KEPT_SHARE)) :]
                full = True
        if full:
            return self.read()
        ones_B1 = torch.ones(len(self.rows), 1, dtype=self._mask_BT.dtype)
        self._mask_BT = torch.cat([self._mask_BT, ones_B1], dim=1)
        return self._forward(torch.tensor(tokens)[:, None], self._mask_BT.sum(dim=1, keepdim=True) - 1)

    def _forward(self, ids_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
        device = next(self.model.parameters()).device
        given = {"position_ids": positions_BT.to(device), "logits_to_keep": 1}
        # Models that count positions from the mask (OPT) or have none (BLOOM) take neither.
        accepted = inspect.signature(self.model.forward).parameters
        with torch.inference_mode():
            output = self.model(
                input_ids=ids_BT.to(device),
                attention_mask=self._mask_BT.to(device),
                past_key_values=self._cache,
                use_cache=True,
                **{name: value for name, value in given.items() if name in accepted},
            )
        self._cache = output.past_key_values
        logits_BV: torch.Tensor = output.logits[:, -1].float()
        return logits_BV


class Writer:
    """A loaded language model version. Not to be used by two threads at once."""

    def __init__(self, manifest: ModelManifest, model: nn.Module, tokenizer: Tokenizer) -> None:
        """Callers use `load`, which verifies the files that these three come from."""
        self.manifest = manifest
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.tokenizer = tokenizer
        self.context = num_positions(model) or manifest.training.max_length
        """Tokens that the model reads at once."""
        self._ends = _end_tokens(model)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a version after the digest of every file in `folder` was checked.

        Raises NotFound when `folder` holds no version, IntegrityError when a file differs from the manifest and
        ConfigError when the version is no language model.
        """
        manifest = verify(folder)
        if not manifest.training.writes_text:
            raise ConfigError(f"{manifest.name}: it labels texts and continues none; give it texts without --prompt")
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The Rust library raises a bare Exception.
        except Exception as error:
            raise IntegrityError(f"{folder}: its tokenizer cannot be read ({error}); register it again") from error
        return cls(manifest, load_language_model(folder), tokenizer)

    def num_tokens(self, prompt: str) -> int:
        """Tokens of a prompt; of more than `context` only the last are read."""
        return len(self.tokenizer.encode(prompt).ids)

    def stream(self, prompt: str, config: GenerationConfig) -> Iterator[str]:
        """Yield the continuation of `prompt` in pieces, as it is written; joined they are what `write` gives.

        Raises ConfigError for a prompt without a token.
        """
        for pieces in self.open([prompt], config)[1]:
            yield from (piece for _, piece in pieces)

    def write(self, prompts: Sequence[str], config: GenerationConfig) -> list[Continuation]:
        """The continuation of each prompt, in order. Raises ConfigError for a prompt without a token."""
        found, steps = self.open(prompts, config)
        for _ in steps:
            pass
        return found

    def open(
        self, prompts: Sequence[str], config: GenerationConfig
    ) -> tuple[list[Continuation], Iterator[list[Piece]]]:
        """The continuations, which grow by a token each with every step that is taken, and the steps.

        A step gives the pieces of text that it made certain, often none. The prompts are tokenized here, and nothing
        is computed before the first step. Whoever stops taking steps ends all. Raises ConfigError for a prompt
        without a token.
        """
        rows = [self._begin(prompt, config) for prompt in prompts]
        return [row.found for row in rows], self._steps(rows, config)

    def _begin(self, prompt: str, config: GenerationConfig) -> _Row:
        tokens = self.tokenizer.encode(prompt).ids
        if not tokens:
            raise ConfigError("prompt: it is empty; give at least one character to go on from")
        stream = TextStream(self.tokenizer, config.stop)
        return _Row(Continuation(prompt, num_prompt_tokens=len(tokens)), stream, tokens)

    def _steps(self, rows: list[_Row], config: GenerationConfig) -> Iterator[list[Piece]]:
        if not rows:
            return
        window = Window(self.model, [row.tokens for row in rows], self.context)
        sampler = Sampler(config, len(rows))
        logits_BV = window.read()
        for step in range(config.max_new_tokens):
            # An embedding may have more rows than there are tokens.
            tokens = sampler.draw(logits_BV[:, : self.tokenizer.get_vocab_size()])
            taken = zip(rows, tokens, strict=True)
            yield _shown([self._take(row, token) if not row.done else "" for row, token in taken], rows)
            if all(row.done for row in rows) or step == config.max_new_tokens - 1:
                break
            logits_BV = window.advance(tokens)
        yield _shown([row.stream.end() for row in rows], rows)

    def _take(self, row: _Row, token: int) -> str:
        """Add one token to a row; the text that is certain now."""
        row.found.num_tokens += 1
        if token in self._ends:
            row.done, row.found.ended = True, "end"
            return ""
        piece = row.stream.add(token)
        if row.stream.stopped:
            row.done, row.found.ended = True, "stop"
        return piece


def _shown(texts: Sequence[str], rows: Sequence[_Row]) -> list[Piece]:
    """Add to each continuation what is certain now; where that is something."""
    pieces = [(index, text) for index, text in enumerate(texts) if text]
    for index, text in pieces:
        rows[index].found.text += text
    return pieces


def _end_tokens(model: nn.Module) -> set[int]:
    """The tokens that end a document, as the model's files name them."""
    named = [getattr(getattr(model, name, None), "eos_token_id", None) for name in ("generation_config", "config")]
    ends: set[int] = set()
    for value in named:
        ends |= set(value) if isinstance(value, list) else {value} if value is not None else set()
    return ends
