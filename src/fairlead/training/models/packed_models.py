"""Forward passes of Hugging Face classifiers over packs, with the models' own weights and modules.

Every operation but attention works on tokens one by one, so that texts can lie end to end. Of the last layer of a
model whose head reads the first token only that token's query, output and feed-forward part are computed: for 6
layers a seventh of the work. The logits are those of the model's own padded pass.

Shapes: T tokens of N texts, W width, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from fairlead.training.batching.packing import Pack
from fairlead.training.models.attention import attend
from fairlead.training.models.dropout import Masks

# Architectures that share BERT's layers, and whether positions are counted from the padding id on.
BERT_LIKE = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}
MODERNBERT = "modernbert"

# A method that a layer has while its weights are cut up over processes: only within it they are whole.
WITHIN = "run_within"

Forward = Callable[[Any, Pack, Masks, bool], torch.Tensor]


@dataclass(frozen=True)
class Place:
    """Where attention happens. One object, because compiled code is compiled again for each number that it sees."""

    pack: Pack
    masks: Masks
    index: int
    """The layer's."""


def packed_forward(model: nn.Module, max_length: int) -> Forward | None:
    """The packed pass of a sequence classifier for texts of at most `max_length`; None for one without."""
    config: Any = model.config
    if config.model_type in BERT_LIKE:
        plain = not config.is_decoder and not config.add_cross_attention and not config.chunk_size_feed_forward
        return _bert if plain else None
    if config.model_type == MODERNBERT:
        window = config.sliding_window
        full = all(kind == "full_attention" for kind in config.layer_types)
        return _modernbert if full or max_length <= window + 1 else None
    return None


def _bert(model: Any, pack: Pack, masks: Masks, recompute: bool) -> torch.Tensor:
    encoder = getattr(model, model.base_model_prefix)
    x_TW = _bert_embeddings(encoder.embeddings, pack, model.config)
    *layers, last = encoder.encoder.layer
    for index, layer in enumerate(layers):
        x_TW = _run(recompute, _bert_layer, layer, x_TW, None, Place(pack, masks, index))
    first_NW = _run(recompute, _bert_layer, last, x_TW, pack.starts_N, Place(pack, masks, len(layers)))
    # The heads take the first of the tokens that they are given.
    first_N1W = first_NW[:, None]
    if model.config.model_type == "bert":
        return torch.as_tensor(model.classifier(model.dropout(encoder.pooler(first_N1W))))
    return torch.as_tensor(model.classifier(first_N1W))


def _bert_embeddings(embeddings: Any, pack: Pack, config: Any) -> torch.Tensor:
    offset = config.pad_token_id + 1 if BERT_LIKE[config.model_type] else 0
    x_TW = embeddings.word_embeddings(pack.input_ids_T) + embeddings.token_type_embeddings.weight[0]
    x_TW = x_TW + embeddings.position_embeddings(pack.positions_T + offset)
    return torch.as_tensor(embeddings.dropout(embeddings.LayerNorm(x_TW)))


def _bert_layer(layer: Any, x_TW: torch.Tensor, queries: torch.Tensor | None, place: Place) -> torch.Tensor:
    attention = layer.attention.self
    # `queries` are the tokens whose results are wanted: all of them, or the first of each text.
    x_QW = x_TW if queries is None else x_TW.index_select(0, queries)
    probability = attention.dropout.p if layer.training else 0.0
    q_QW, k_TW, v_TW = attention.query(x_QW), attention.key(x_TW), attention.value(x_TW)
    context_QW = _attend(place, q_QW, k_TW, v_TW, attention.num_attention_heads, probability)
    y_QW = layer.attention.output(context_QW, x_QW)
    return torch.as_tensor(layer.output(layer.intermediate(y_QW), y_QW))


def _modernbert(model: Any, pack: Pack, masks: Masks, recompute: bool) -> torch.Tensor:
    encoder = model.model
    x_TW = encoder.embeddings(input_ids=pack.input_ids_T)
    kinds = set(encoder.config.layer_types)
    rotary = {kind: encoder.rotary_emb(x_TW, pack.positions_T[None], kind) for kind in kinds}
    for index, layer in enumerate(encoder.layers):
        place = Place(pack, masks, index)
        x_TW = _run(recompute, _modernbert_layer, layer, x_TW, rotary[layer.attention_type], place)
    x_TW = encoder.final_norm(x_TW)
    if model.config.classifier_pooling == "cls":
        pooled_NW = x_TW.index_select(0, pack.starts_N)
    else:
        sums_NW = torch.zeros(len(pack.starts_N), x_TW.shape[1], device=x_TW.device)
        # Hundreds of tokens are summed: in float32 whatever they are.
        pooled_NW = (sums_NW.index_add(0, pack.texts_T, x_TW.float()) / pack.lengths_N[:, None]).to(x_TW.dtype)
    return torch.as_tensor(model.classifier(model.drop(model.head(pooled_NW))))


def _modernbert_layer(
    layer: Any, x_TW: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor], place: Place
) -> torch.Tensor:
    attention = layer.attn
    qkv = attention.Wqkv(layer.attn_norm(x_TW)).view(x_TW.shape[0], 3, -1, attention.head_dim)
    q_THD, k_THD, v_THD = qkv.unbind(1)
    cos_T1D, sin_T1D = (angles[0, :, None] for angles in rotary)
    q_TW, k_TW, v_TW = (
        x.flatten(1) for x in (_rotate(q_THD, cos_T1D, sin_T1D), _rotate(k_THD, cos_T1D, sin_T1D), v_THD)
    )
    probability = attention.attention_dropout if layer.training else 0.0
    num_heads = q_THD.shape[1]
    context_TW = _attend(place, q_TW, k_TW, v_TW, num_heads, probability)
    x_TW = x_TW + attention.out_drop(attention.Wo(context_TW))
    return torch.as_tensor(x_TW + layer.mlp(layer.mlp_norm(x_TW)))


def _rotate(x_THD: torch.Tensor, cos_T1D: torch.Tensor, sin_T1D: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al. 2021, "RoFormer"), in float32, with the halves of a head as pairs."""
    first, second = x_THD.float().chunk(2, -1)
    turned = torch.cat((-second, first), -1)
    return (x_THD.float() * cos_T1D + turned * sin_T1D).to(x_THD.dtype)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend(
    place: Place, q_QW: torch.Tensor, k_TW: torch.Tensor, v_TW: torch.Tensor, num_heads: int, probability: float
) -> torch.Tensor:
    return attend(q_QW, k_TW, v_TW, num_heads, place.pack.layouts, place.masks, place.index, probability)


def _run(recompute: bool, function: Callable[..., torch.Tensor], layer: Any, *arguments: Any) -> torch.Tensor:
    within = getattr(layer, WITHIN, None)
    if within is None:
        return run_layer(layer, recompute, function, *arguments)
    return torch.as_tensor(within(recompute, function, *arguments))


def run_layer(layer: Any, recompute: bool, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    """Call `function` on `layer`; with `recompute` its activations are not kept but computed again for the gradient."""
    if not recompute:
        return function(layer, *arguments)
    # On a CPU masks are a function of place; on other devices torch draws them, and has to draw them again.
    draws = any(isinstance(argument, torch.Tensor) and argument.device.type != "cpu" for argument in arguments)
    dtype = next(layer.parameters()).dtype
    again: torch.Tensor = checkpoint(
        _computed_in, dtype, function, layer, *arguments, use_reentrant=False, preserve_rng_state=draws
    )
    return again


def _computed_in(
    dtype: torch.dtype, function: Callable[..., torch.Tensor], layer: Any, *arguments: Any
) -> torch.Tensor:
    """Call `function` on `layer` with weights of `dtype`: a working copy is gone when the layer is computed again."""
    if next(layer.parameters()).dtype == dtype:
        return function(layer, *arguments)
    copies = {f"layer.{name}": weight.to(dtype) for name, weight in layer.named_parameters()}
    found: torch.Tensor = functional_call(_Call(layer, function), copies, arguments)
    return found


class _Call(nn.Module):
    """A function of a layer, as a module."""

    def __init__(self, layer: nn.Module, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.layer, self._function = layer, function

    def forward(self, *arguments: Any) -> torch.Tensor:
        return self._function(self.layer, *arguments)
