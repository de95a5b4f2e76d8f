"""Training only the rows of the word embedding whose ids occur in the data.

banking77 uses 2,500 of BERT's 30,522 word pieces. The gradient, its norm, the optimizer's walk, the exchange
between processes and every checkpoint then carry 1 M weights of the embedding instead of 11.7 M; for a model
of MiniLM's size that is half of all. The model is whole again before it is written.

A row that no training or validation text reads gets no gradient, so an optimizer would only decay it; here it
keeps its value to the bit. A language model predicts ids, so it keeps all rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fairlead.formats.tokens import TokenArrays
from fairlead.training.objective.tasks import Splits

CHUNK_TOKENS = 1 << 24


@dataclass(frozen=True)
class Vocabulary:
    """The ids that occur, the embedding as it was, and its rows that are trained."""

    ids_V: npt.NDArray[np.int64]
    whole_VW: torch.Tensor
    small: nn.Parameter
    padding_id: int | None

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """The row of the small embedding for each id; 0 for ids that do not occur."""
        places = np.zeros(len(self.whole_VW), dtype=np.int64)
        places[self.ids_V] = np.arange(len(self.ids_V))
        return places

    def translate(self, splits: Splits) -> Splits:
        """The same texts in rows of the small embedding, translated as they are read."""
        train, validation = (
            replace(arrays, tokens=cast(Any, Translated(arrays.tokens, self.places)))
            for arrays in (splits.train, splits.validation)
        )
        return replace(splits, train=train, validation=validation, pad_token_id=int(self.places[splits.pad_token_id]))

    def of(self, model: nn.Module) -> "Vocabulary":
        """The same for the small embedding that a copy of the model has."""
        return replace(self, small=cast(nn.Parameter, _embedding(model).weight))

    def shrink(self, model: nn.Module) -> None:
        """Give `model` the small embedding, the one that the optimizer knows."""
        padding = None if self.padding_id is None else int(self.places[self.padding_id])
        _set(_embedding(model), self.small, padding)

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Give `model` all rows again, the trained ones among the others."""
        whole_VW = self.whole_VW.to(self.small.device, copy=True)
        whole_VW[torch.from_numpy(self.ids_V)] = self.small
        _set(_embedding(model), nn.Parameter(whole_VW, self.small.requires_grad), self.padding_id)


@dataclass(frozen=True)
class Translated:
    """An array of token ids that gives other ids when it is read."""

    tokens: npt.NDArray[np.unsignedinteger[Any]]
    places: npt.NDArray[np.int64]

    def __getitem__(self, index: Any) -> npt.NDArray[np.int64]:
        return np.asarray(self.places[self.tokens[index]])


def reduce(model: nn.Module, splits: Iterable[TokenArrays], pad_token_id: int) -> Vocabulary | None:
    """Leave in the word embedding only the rows that `splits` and padding read; None where it must stay whole."""
    if model.get_output_embeddings() is not None:  # type: ignore[operator]
        return None
    embedding = _embedding(model)
    seen = np.zeros(embedding.num_embeddings, dtype=bool)
    seen[pad_token_id] = True
    for arrays in splits:
        for start in range(0, len(arrays.tokens), CHUNK_TOKENS):
            seen[arrays.tokens[start : start + CHUNK_TOKENS]] = True
    if embedding.padding_idx is not None:
        seen[embedding.padding_idx] = True
    ids_V, whole_VW = np.flatnonzero(seen), embedding.weight.detach().clone()
    small = nn.Parameter(whole_VW[torch.from_numpy(ids_V)], embedding.weight.requires_grad)
    vocabulary = Vocabulary(ids_V, whole_VW, small, embedding.padding_idx)
    vocabulary.shrink(model)
    return vocabulary


def _embedding(model: Any) -> nn.Embedding:
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding


def _set(embedding: nn.Embedding, weight: nn.Parameter, padding_id: int | None) -> None:
    embedding.weight, embedding.num_embeddings, embedding.padding_idx = weight, len(weight), padding_id
