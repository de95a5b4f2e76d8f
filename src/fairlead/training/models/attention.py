"""Attention over packed texts: no token of padding is ever multiplied with a weight.

On a CPU texts of a group, which have nearly one length, are laid out side by side for the products of queries,
keys and values alone. The gradient is written out, so that the masks are applied where they cost least and
nothing but the probabilities is kept. On a GPU `torch.nn.attention.varlen` reads the packed tokens as they lie.

Shapes: T tokens of a pack, Q queries (T, or one a text), B texts of a group, L its longest, H heads, D width of a
head, G = B x H.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from fairlead.training.models.dropout import Masks, kept_scale

# Sites of attention are counted from here, beyond those of the modules.
FIRST_SITE = 1 << 16


@dataclass(frozen=True)
class TextGroup:
    """Texts of a pack that attention takes together: where their tokens lie."""

    index: int
    """Its place in the global batch."""
    start: int
    """First token in the pack."""
    first_row: int
    """First text in the pack."""
    lengths_B: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def num_rows(self) -> int:
        """Texts."""
        return len(self.lengths_B)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths_B.max())

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts."""
        return int(self.lengths_B.sum())


class Layout:
    """Index tensors of a group, made at most once a pass and used by every layer.

    Each is made when it is first asked for: variable-length attention needs none, and on a GPU each would be a copy
    that training waits for.
    """

    def __init__(self, group: TextGroup, device: torch.device) -> None:
        self.group, self._device = group, device
        self._valid_BL = np.arange(group.longest)[None, :] < group.lengths_B[:, None]
        self.even = bool(self._valid_BL.all())
        self._ends: torch.Tensor | None = None

    @cached_property
    def pad_index(self) -> torch.Tensor:
        """The token at each place of (B, L)."""
        lengths_B, places = self.group.lengths_B, np.arange(self.group.longest)[None, :]
        # Padding repeats a text's first token: its key is masked and its query's result is left behind.
        index_BL = (np.cumsum(lengths_B) - lengths_B)[:, None] + np.where(self._valid_BL, places, 0)
        return torch.from_numpy(index_BL.reshape(-1)).to(self._device)

    @cached_property
    def unpad_index(self) -> torch.Tensor:
        """The places of (B, L) that hold a token."""
        return torch.from_numpy(np.flatnonzero(self._valid_BL)).to(self._device)

    @cached_property
    def valid_BL1(self) -> torch.Tensor:
        """1 at a token, 0 at padding."""
        return torch.from_numpy(self._valid_BL).to(self._device)[:, :, None].float()

    @cached_property
    def bias_B11L(self) -> torch.Tensor:
        """0 at a token, minus infinity at padding."""
        valid_BL = torch.from_numpy(self._valid_BL).to(self._device)
        bias_BL = torch.zeros(valid_BL.shape, device=self._device).masked_fill_(~valid_BL, float("-inf"))
        return bias_BL[:, None, None, :]

    def ends_of(self, layouts: "list[Layout]") -> torch.Tensor:
        """0 and where each text of a pack ends, shape (texts + 1,); kept by the first of its layouts."""
        if self._ends is None:
            lengths = np.concatenate([layout.group.lengths_B for layout in layouts])
            self._ends = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)).to(self._device)
        return self._ends

    def pad(self, x_TW: torch.Tensor) -> torch.Tensor:
        """The group's rows of `x_TW` as (B, L, W)."""
        rows = x_TW[self.group.start : self.group.start + self.group.num_tokens]
        if not self.even:
            rows = rows.index_select(0, self.pad_index)
        return rows.view(self.group.num_rows, self.group.longest, -1)

    def unpad(self, x_BLW: torch.Tensor) -> torch.Tensor:
        """(B, L, W) as the group's rows, (tokens of the group, W)."""
        rows = x_BLW.reshape(-1, x_BLW.shape[-1])
        return rows if self.even else rows.index_select(0, self.unpad_index)


def attend(
    q_QW: torch.Tensor,
    k_TW: torch.Tensor,
    v_TW: torch.Tensor,
    num_heads: int,
    layouts: list[Layout],
    masks: Masks,
    layer: int,
    probability: float,
) -> torch.Tensor:
    """softmax(q k' / sqrt(D)) v within each text, with dropout of the probabilities; shape (Q, W).

    `q_QW` holds a query for every token, or one for every text.
    """
    if q_QW.device.type == "cuda":
        half = q_QW.dtype in (torch.float16, torch.bfloat16)
        if half and probability == 0:
            return _attend_varlen(q_QW, k_TW, v_TW, num_heads, layouts)
        return attend_by_group(q_QW, k_TW, v_TW, num_heads, layouts, probability)
    out: torch.Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        q_QW, k_TW, v_TW, num_heads, layouts, masks, layer, probability
    )
    return out


def attend_by_group(
    q_QW: torch.Tensor,
    k_TW: torch.Tensor,
    v_TW: torch.Tensor,
    num_heads: int,
    layouts: list[Layout],
    probability: float = 0.0,
) -> torch.Tensor:
    """The same with torch's own attention and its gradient, padded within each group; any device and type."""
    one_query, parts = q_QW.shape[0] != k_TW.shape[0], []
    for layout in layouts:
        num_rows = layout.group.num_rows
        padded = (_rows(layout, q_QW, one_query), layout.pad(k_TW), layout.pad(v_TW))
        q, k, v = (_heads(x, num_heads).view(num_rows, num_heads, x.shape[1], -1) for x in padded)
        bias = None if layout.even else layout.bias_B11L.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=probability)
        merged_BLW = out.transpose(1, 2).flatten(2)
        parts.append(merged_BLW[:, 0] if one_query else layout.unpad(merged_BLW))
    return torch.cat(parts)


def _attend_varlen(
    q_QW: torch.Tensor, k_TW: torch.Tensor, v_TW: torch.Tensor, num_heads: int, layouts: list[Layout]
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    one_query, longest = q_QW.shape[0] != k_TW.shape[0], max(layout.group.longest for layout in layouts)
    ends_k = layouts[0].ends_of(layouts)
    ends_q = torch.arange(len(ends_k), dtype=torch.int32, device=k_TW.device) if one_query else ends_k
    q, k, v = (x.view(x.shape[0], num_heads, -1) for x in (q_QW, k_TW, v_TW))
    out = varlen_attn(q, k, v, ends_q, ends_k, 1 if one_query else longest, longest)
    assert isinstance(out, torch.Tensor)
    return out.flatten(1)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_QW: torch.Tensor,
        k_TW: torch.Tensor,
        v_TW: torch.Tensor,
        num_heads: int,
        layouts: list[Layout],
        masks: Masks,
        layer: int,
        probability: float,
    ) -> torch.Tensor:
        one_query = q_QW.shape[0] != k_TW.shape[0]
        ctx.num_heads, ctx.layouts, ctx.one_query = num_heads, layouts, one_query
        ctx.scale, ctx.kept_scale = (q_QW.shape[1] // num_heads) ** -0.5, kept_scale(probability)
        out_QW, kept = torch.empty_like(q_QW), []
        with torch.autocast(q_QW.device.type, enabled=False):
            scaled_QW = q_QW * ctx.scale
            for layout in layouts:
                q, k, v = (
                    _heads(_rows(layout, x, one_query and x is scaled_QW), num_heads) for x in (scaled_QW, k_TW, v_TW)
                )
                scores_GQL = torch.bmm(q, k.transpose(1, 2))
                if not layout.even:
                    num_rows, longest = layout.group.num_rows, layout.group.longest
                    scores_GQL.view(num_rows, num_heads, -1, longest).add_(layout.bias_B11L)
                # In float32 inside of the kernel, whatever it reads and writes.
                probs_GQL = torch.softmax(scores_GQL, -1)
                keep_GQL = _keep(masks, layer, layout, probability, probs_GQL)
                dropped = probs_GQL if keep_GQL is None else probs_GQL * keep_GQL
                out = torch.bmm(dropped, v)
                if keep_GQL is not None:
                    out *= ctx.kept_scale
                _store(layout, out_QW, _merge(out, layout.group.num_rows), one_query)
                kept += [q, k, v, probs_GQL, *([] if keep_GQL is None else [keep_GQL])]
        ctx.has_masks = probability > 0
        ctx.save_for_backward(*kept)
        return out_QW

    @staticmethod
    def backward(ctx: Any, grad_QW: torch.Tensor) -> Any:
        each = 5 if ctx.has_masks else 4
        saved, num_heads, one_query = ctx.saved_tensors, ctx.num_heads, ctx.one_query
        num_tokens = sum(layout.group.num_tokens for layout in ctx.layouts)
        width = grad_QW.shape[1]
        dq_QW = torch.empty_like(grad_QW)
        dk_TW, dv_TW = grad_QW.new_empty(num_tokens, width), grad_QW.new_empty(num_tokens, width)
        with torch.autocast(grad_QW.device.type, enabled=False):
            for place, layout in enumerate(ctx.layouts):
                q, k, v, probs, *rest = saved[place * each : (place + 1) * each]
                grad_BLW = _rows(layout, grad_QW, one_query)
                if not layout.even and not one_query:
                    # Results at padding were left behind, so nothing flows back into them.
                    grad_BLW = grad_BLW * layout.valid_BL1.to(grad_BLW.dtype)
                do = _heads(grad_BLW, num_heads)
                if rest:
                    do = do * ctx.kept_scale
                dropped = probs * rest[0] if rest else probs
                dv = torch.bmm(dropped.transpose(1, 2), do)
                dp = torch.bmm(do, v.transpose(1, 2))
                if rest:
                    dp *= rest[0]
                ds = torch.ops.aten._softmax_backward_data(dp, probs, -1, dp.dtype)
                num_rows = layout.group.num_rows
                _store(layout, dq_QW, _merge(torch.bmm(ds, k), num_rows), one_query)
                _store(layout, dk_TW, _merge(torch.bmm(ds.transpose(1, 2), q), num_rows), False)
                _store(layout, dv_TW, _merge(dv, num_rows), False)
        return dq_QW.mul_(ctx.scale), dk_TW, dv_TW, None, None, None, None, None


def _rows(layout: Layout, x: torch.Tensor, one_query: bool) -> torch.Tensor:
    """The group's part of `x`, as (B, L, W), or (B, 1, W) of a tensor with one row a text."""
    if one_query:
        group = layout.group
        return x[group.first_row : group.first_row + group.num_rows, None]
    return layout.pad(x)


def _store(layout: Layout, target: torch.Tensor, x_BLW: torch.Tensor, one_query: bool) -> None:
    group = layout.group
    if one_query:
        target[group.first_row : group.first_row + group.num_rows] = x_BLW[:, 0]
    else:
        target[group.start : group.start + group.num_tokens] = layout.unpad(x_BLW)


def _keep(masks: Masks, layer: int, layout: Layout, probability: float, x: torch.Tensor) -> torch.Tensor | None:
    if probability == 0:
        return None
    keep = masks.keep_block(FIRST_SITE + layer, layout.group.index, probability, x.numel(), x.dtype)
    return keep.view(x.shape).to(x.device)


def _heads(x_BLW: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, L, H x D) as (B x H, L, D)."""
    num_rows, length, width = x_BLW.shape
    heads = x_BLW.reshape(num_rows, length, num_heads, width // num_heads).transpose(1, 2)
    return heads.reshape(num_rows * num_heads, length, width // num_heads)


def _merge(x_GLD: torch.Tensor, num_rows: int) -> torch.Tensor:
    """(B x H, L, D) as (B, L, H x D)."""
    _, length, width = x_GLD.shape
    return x_GLD.view(num_rows, -1, length, width).transpose(1, 2).reshape(num_rows, length, -1)
