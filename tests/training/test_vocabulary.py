"""Rows of the embedding that no text reads are left out of training and come back untouched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from fairlead.training.batching import vocabulary
from fairlead.training.batching.batches import collate
from fairlead.training.config import ModelConfig
from fairlead.training.loop import Loop
from fairlead.training.models.building import build_model
from tests.training.corpus import Corpus

MakeLoop = Callable[..., Loop]


def embedding(model: Any) -> torch.Tensor:
    return model.get_input_embeddings().weight.detach().clone()


def test_a_trained_model_is_whole_and_unread_rows_keep_their_values(
    make_loop: MakeLoop, tmp_path: Path, corpus: Corpus
) -> None:
    torch.manual_seed(0)
    before = embedding(build_model(ModelConfig(depth=1), corpus.manifest))
    loop = make_loop(tmp_path, epochs=1, weight_decay=0.1)
    small = embedding(loop.model)
    assert loop.run()
    loop.load_best()
    after = embedding(loop.model)
    read = np.unique([*np.unique(loop.splits.train.tokens.tokens), *np.unique(loop.splits.validation.tokens.tokens), 0])
    unread = np.setdiff1d(np.arange(len(before)), read)
    assert len(small) == len(read) < len(before) == len(after)
    assert torch.equal(after[unread], before[unread])
    assert not torch.equal(after[read], before[read])
    assert loop.model.get_input_embeddings().num_embeddings == len(before)  # type: ignore[operator]


def test_the_small_embedding_gives_the_same_logits(make_loop: MakeLoop, tmp_path: Path, corpus: Corpus) -> None:
    torch.manual_seed(0)
    whole = build_model(ModelConfig(depth=1), corpus.manifest).eval()
    loop = make_loop(tmp_path)
    rows = np.arange(6)
    small, large = (collate(a, rows, p) for a, p in ((loop.splits.train, loop.splits.pad_token_id), plain(loop)))
    assert not torch.equal(small.input_ids_BT, large.input_ids_BT)
    ours = loop.model.eval()(input_ids=small.input_ids_BT, attention_mask=small.attention_mask_BT).logits
    theirs = whole(input_ids=large.input_ids_BT, attention_mask=large.attention_mask_BT).logits
    assert torch.equal(ours, theirs)


def plain(loop: Loop) -> tuple[Any, int]:
    from dataclasses import replace

    return replace(loop.splits.train, tokens=loop.splits.train.tokens.tokens), 0


def test_a_language_model_keeps_its_embedding_whole() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=2))
    assert vocabulary.reduce(model, [], 0) is None
    assert model.get_input_embeddings().num_embeddings == 40
