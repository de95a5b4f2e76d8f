"""A classifier that continues another one with further classes: the known classes keep their rows of the head."""

import torch
from torch import nn


@torch.no_grad()
def keep_rows(model: nn.Module, parent: nn.Module, labels: list[str], known: list[str]) -> None:
    """Copy the rows of the classes that `parent` knows into `model`, whose head has one row a class of `labels`.

    `model` is the parent's architecture with another number of classes, loaded from its weights: what
    differs in shape is the head, whose rows were drawn anew. Rows of new classes stay as drawn.
    """
    rows = [(labels.index(label), known.index(label)) for label in known if label in labels]
    if not rows:
        return
    into, from_ = (torch.tensor(indices) for indices in zip(*rows, strict=True))
    before = dict(parent.named_parameters())
    for name, parameter in model.named_parameters():
        old = before[name]
        if old.shape != parameter.shape:
            parameter[into] = old[from_]
