"""A pack: texts of several groups end to end, without padding, and what a model needs to read them so.

Shapes: N texts, T tokens of them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fairlead.formats.tokens import TokenArrays
from fairlead.training.batching.batches import Rows, gather_labels
from fairlead.training.models.attention import Layout, TextGroup
from fairlead.training.models.dropout import GroupSize


@dataclass(frozen=True)
class Pack:
    """What one forward pass takes."""

    input_ids_T: torch.Tensor
    positions_T: torch.Tensor
    texts_T: torch.Tensor
    """The text of each token, counted from 0."""
    starts_N: torch.Tensor
    """The first token of each text."""
    lengths_N: torch.Tensor
    labels_B: torch.Tensor
    """Of the N texts, named as in a micro-batch, so that a loss reads either."""
    layouts: list[Layout]
    groups: list[GroupSize]


def pack(arrays: TokenArrays, groups: Sequence[tuple[int, Rows]], device: torch.device) -> Pack:
    """Gather `groups`, each its index in the global batch and its rows, end to end."""
    rows = np.concatenate([rows for _, rows in groups])
    starts, lengths = arrays.offsets[rows], arrays.offsets[rows + 1] - arrays.offsets[rows]
    ends = np.cumsum(lengths)
    positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    input_ids = arrays.tokens[np.repeat(starts, lengths) + positions].astype(np.int64)
    text_groups = _text_groups(groups, lengths)

    def tensor(values: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(device)

    return Pack(
        input_ids_T=tensor(input_ids),
        positions_T=tensor(positions),
        texts_T=tensor(np.repeat(np.arange(len(rows)), lengths)),
        starts_N=tensor(ends - lengths),
        lengths_N=tensor(lengths),
        labels_B=gather_labels(arrays, rows).to(device),
        layouts=[Layout(group, device) for group in text_groups],
        groups=[GroupSize(group.index, group.num_rows, group.num_tokens) for group in text_groups],
    )


def _text_groups(groups: Sequence[tuple[int, Rows]], lengths: npt.NDArray[np.int64]) -> list[TextGroup]:
    found, row, token = [], 0, 0
    for index, rows in groups:
        lengths_B = np.asarray(lengths[row : row + len(rows)])
        found.append(TextGroup(index, token, row, lengths_B))
        row, token = row + len(rows), token + int(lengths_B.sum())
    return found
