"""Tokenizers of language models: every text comes back from its tokens as it was, and one token ends a document.

    bpe          byte-level BPE (Radford et al., 2019) trained on the training split: any text has tokens
    character    one token a character of the training split; others become the unknown token

Saved in the Hugging Face layout, without a limit of length: texts are cut into blocks by training, not here.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fairlead.data.config import NUM_BYTES, TokenizationConfig
from fairlead.data.tokenizer import learn
from fairlead.errors import ConfigError

END, UNKNOWN = "<|endoftext|>", "<|unknown|>"


def train_language_tokenizer(texts: Callable[[], Iterable[str]], config: TokenizationConfig) -> PreTrainedTokenizerFast:
    """A tokenizer trained on `texts` (called once); the same texts give the same vocabulary."""
    if config.kind == "character":
        tokenizer = _train_characters(texts(), config)
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, unk_token=UNKNOWN)
    return PreTrainedTokenizerFast(tokenizer_object=_train_bpe(texts(), config), eos_token=END, pad_token=END)


def save_language_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int) -> Tokenizer:
    """Save the tokenizer and return what the saved files load as; a text is never cut nor padded by it."""
    tokenizer.model_max_length = max_length
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def end_token_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token that stands between documents. Raises ConfigError for a base tokenizer without one."""
    for token in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        if token is not None:
            return int(token)
    raise ConfigError("model.base: its tokenizer has no token for the end of a text; use a base that writes text")


def _train_bpe(texts: Iterable[str], config: TokenizationConfig) -> Tokenizer:
    if config.num_entries <= NUM_BYTES:
        raise ConfigError(
            f"tokenization: vocab_size = {config.num_entries} is too small for kind = 'bpe'; "
            f"set at least {NUM_BYTES + 1} (every byte and the end of a document), or kind = 'character'"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.num_entries,
        min_frequency=config.min_frequency,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learn(tokenizer, texts, trainer, config.num_entries)
    return tokenizer


def _train_characters(texts: Iterable[str], config: TokenizationConfig) -> Tokenizer:
    """BPE without merges: what is left are characters, the most frequent ones where there are too many."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    vocabulary = [END, UNKNOWN, *sorted(frequent[: config.num_entries - 2])]
    tokenizer = Tokenizer(models.BPE({entry: index for index, entry in enumerate(vocabulary)}, [], unk_token=UNKNOWN))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([END, UNKNOWN])
    return tokenizer
