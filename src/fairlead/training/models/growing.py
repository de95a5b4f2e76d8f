"""A classifier that continues another one with further classes: the known classes keep their rows of the head."""

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def keep_rows(model: nn.Module, parent: nn.Module, labels: list[str]) -> None:
    """Copy the rows of the classes that `parent` knows into `model`, whose head has one row a class of `labels`.

    `model` is the parent's architecture, loaded from its weights. With another number of classes the head is
    what differs in shape, and its rows were drawn anew: those of new classes stay so. With the same number
    there is nothing to do.
    """
    id2label: Any = parent.config.id2label  # type: ignore[union-attr]
    known = [id2label[index] for index in range(len(id2label))]
    rows = [(labels.index(label), known.index(label)) for label in known if label in labels]
    if not rows:
        return
    into, from_ = (torch.tensor(indices) for indices in zip(*rows, strict=True))
    before = dict(parent.named_parameters())
    for name, parameter in model.named_parameters():
        old = before[name]
        if old.shape != parameter.shape:
            parameter[into] = old[from_]
