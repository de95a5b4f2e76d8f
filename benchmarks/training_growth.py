"""A small BERT grown to twice its width and depth, for a benchmark of BERT-base's shape that learns as a trained one.

Random weights of that shape learn nothing in the few steps of a benchmark. Every unit is doubled, and what reads it
halved, which changes no output (Chen et al., 2016, "Net2Net"); in the middle come layers that pass on what they get.
"""

import copy
import math
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig

FACTOR = 2
# Twins that were alike to the last bit would stay so.
NOISE = 1e-3


@torch.no_grad()
def grown(small: Any) -> Any:
    """A BERT classifier of twice the width and layers of `small`, which gives about what it gives."""
    config = small.config
    sizes = {name: FACTOR * getattr(config, name) for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    large: Any = AutoModelForSequenceClassification.from_config(BertConfig(**(config.to_dict() | sizes)))
    wide = copy.deepcopy(small)
    layers = [*wide.bert.encoder.layer]
    half = len(layers) // 2
    # The first one in a row loses what tokens differ in length, 6 %; the others find them alike.
    passing = [_passing(layers[half - 1]) for _ in layers]
    wide.bert.encoder.layer = nn.ModuleList([*layers[:half], *passing, *layers[half:]])
    weights = dict(wide.named_parameters())
    for name, parameter in large.named_parameters():
        found = weights[name]
        for dim, (now, then) in enumerate(zip(found.shape, parameter.shape, strict=True)):
            if now != then:
                # The columns of a matrix read doubled units; an embedding's and a normalisation's are the units.
                reads = dim == 1 and "embeddings" not in name
                found = found.repeat_interleave(FACTOR, dim) / (FACTOR if reads else 1)
        if ".query." in name:
            # Products of heads twice as wide are twice as large, and divided by the root of their width.
            found = found / math.sqrt(FACTOR)
        parameter.copy_(found * (1 + NOISE * torch.randn_like(parameter)))
    return large


def _passing(layer: Any) -> Any:
    """A layer that gives about what it reads, when it reads what `layer` gives."""
    found = copy.deepcopy(layer)
    norm = layer.output.LayerNorm
    scale, shift = (norm.weight.square().mean() + norm.bias.var()).sqrt(), norm.bias.mean()
    for part in (found.attention.output, found.output):
        part.dense.weight.zero_()
        part.dense.bias.zero_()
        part.LayerNorm.weight.fill_(float(scale))
        part.LayerNorm.bias.fill_(float(shift))
    return found
