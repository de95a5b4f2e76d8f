"""Tokenizers: trained from a training split, or a base model's own; saved in the Hugging Face layout.

The saved `tokenizer.json` cuts at max_length and never pads, so that `tokenizers` alone and
`AutoTokenizer(..., truncation=True)` give the same ids. Only fast tokenizers are taken, and code
that a folder brings is never run.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from fairlead.data.config import NUM_BYTES, TokenizationConfig
from fairlead.errors import ConfigError, IntegrityError, NotFound
from fairlead.events import Progress
from fairlead.formats.digests import of_file, of_json
from fairlead.formats.model import usable_positions

PAD, UNK, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "spm.model")


def train_tokenizer(texts: Callable[[], Iterable[str]], config: TokenizationConfig) -> PreTrainedTokenizerFast:
    """A tokenizer trained on `texts` (called once for each pass); the same texts give the same vocabulary."""
    tokenizer = _train_bpe(texts, config) if config.kind == "bpe" else _train_wordpiece(texts, config)
    special = [(name, tokenizer.token_to_id(name)) for name in (CLS, SEP)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNK, cls_token=CLS, sep_token=SEP, mask_token=MASK
    )


def base_tokenizer(folder: Path, max_length: int, pad_with_end: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer of a base model in a local folder; `pad_with_end` lets one pad with the token that ends a text.

    Raises ConfigError when it is not a fast tokenizer, has no pad token, gives ids that the model
    does not embed, or when max_length is above the positions that the model has.
    """
    model = _model_config(folder)
    tokenizer = _load(folder)
    if pad_with_end and tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"model.base: the tokenizer of {folder.name} has no pad token; use another base model")
    ids = num_ids(tokenizer)
    rows = model.get("vocab_size")
    if rows is not None and ids > rows:
        raise ConfigError(
            f"model.base: the tokenizer of {folder.name} gives ids up to {ids - 1} and its model embeds {rows}; "
            "they do not belong together: use a base whose tokenizer fits"
        )
    positions = _positions(model, tokenizer.pad_token_id)
    if positions is not None and max_length > positions:
        raise ConfigError(
            f"tokenization: max_length = {max_length} is above the {positions} positions of {folder.name}; "
            f"set tokenization.max_length={positions} or less"
        )
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int) -> Tokenizer:
    """Save the tokenizer and return what the saved files load as: exactly what its readers will use."""
    tokenizer.model_max_length = max_length
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.enable_truncation(max_length, direction=tokenizer.truncation_side)
    tokenizer.save_pretrained(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over the names and digests of a tokenizer's files."""
    return of_json({p.relative_to(folder).as_posix(): of_file(p) for p in sorted(folder.rglob("*")) if p.is_file()})


def num_ids(tokenizer: PreTrainedTokenizerFast) -> int:
    """One more than the largest id that the tokenizer can give."""
    return int(max(tokenizer.get_vocab().values())) + 1


def _train_wordpiece(texts: Callable[[], Iterable[str]], config: TokenizationConfig) -> Tokenizer:
    """The trainer numbers continuation characters in the order of a randomly seeded hash map.

    Hence the vocabulary changes from process to process, unless the whole alphabet stands in the
    vocabulary from the start: it is passed as special tokens, which the final tokenizer leaves out.
    """
    tokenizer = _wordpiece({name: index for index, name in enumerate(SPECIAL)}, config.ignores_case)
    alphabet = _alphabet(texts(), tokenizer.normalizer, config)
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.num_entries,
        min_frequency=config.min_frequency,
        special_tokens=[*SPECIAL, *alphabet, *(CONTINUATION + character for character in alphabet)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    learn(tokenizer, texts(), trainer, config.num_entries)
    return _wordpiece(tokenizer.get_vocab(), config.ignores_case)


def _wordpiece(vocabulary: dict[str, int], lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNK, continuing_subword_prefix=CONTINUATION))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _alphabet(texts: Iterable[str], normalizer: Any, config: TokenizationConfig) -> list[str]:
    """The most frequent characters, ties by code point; each costs two entries, and words keep a third of them."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    frequent = [c for c, count in counts.items() if count >= config.min_frequency and not c.isspace()]
    room = max(1, (config.num_entries - len(SPECIAL)) // 3)
    return sorted(sorted(frequent, key=lambda c: (-counts[c], c))[:room])


def _train_bpe(texts: Callable[[], Iterable[str]], config: TokenizationConfig) -> Tokenizer:
    least = NUM_BYTES + len(SPECIAL)
    if config.num_entries < least:
        raise ConfigError(
            f"tokenization: vocab_size = {config.num_entries} is too small for kind = 'bpe'; "
            f"set at least {least} (every byte and {len(SPECIAL)} special tokens)"
        )
    tokenizer = Tokenizer(models.BPE())
    lower = [normalizers.Lowercase()] if config.ignores_case else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.num_entries,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learn(tokenizer, texts(), trainer, config.num_entries)
    return tokenizer


def learn(tokenizer: Tokenizer, texts: Iterable[str], trainer: Any, vocab_size: int) -> None:
    """Train on texts; the trainer says nothing between its last text and its end."""
    progress = Progress("tokenize", "learning the vocabulary", vocab_size, "entries")

    def until_read() -> Iterator[str]:
        yield from texts
        progress.begin()

    tokenizer.train_from_iterator(until_read(), trainer)
    progress.advance(vocab_size)


def _model_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"model.base: {folder} holds no model (no config.json); check the address") from error
    except ValueError as error:
        raise IntegrityError(f"{path}: it is not JSON ({error}); download the model again") from error
    if not isinstance(config, dict):
        raise IntegrityError(f"{path}: an object is expected; download the model again")
    return config


def _load(folder: Path) -> PreTrainedTokenizerFast:
    # Without any of these transformers makes up an empty vocabulary and says nothing.
    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        raise ConfigError(f"model.base: {folder} has no tokenizer; use a base with tokenizer.json")
    transformers_logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False, local_files_only=True)
    # transformers has no tree of exceptions: a folder without, or with damaged, files raises any of many.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"model.base: {folder} has no tokenizer that can be loaded ({reason}); use a base with tokenizer.json"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"model.base: {folder} has only a slow tokenizer ({type(tokenizer).__name__}); use one with tokenizer.json"
        )
    return tokenizer


def _positions(model: dict[str, Any], pad_token_id: int) -> int | None:
    positions = model.get("max_position_embeddings", model.get("n_positions"))
    if not isinstance(positions, int) or positions <= 0:
        return None
    return usable_positions(model.get("model_type"), positions, pad_token_id)
