"""Dropout whose masks are cheap on a CPU and a function of place alone.

torch draws a CPU mask with one serial Mersenne Twister: 3.7 ms for 1,600 x 384 activations, as long as the
matrix multiplication before it in bf16. Here a mask is 16 bits a number of SFC64 compared with a threshold,
0.4 ms. The probability is rounded to a multiple of 1 / 65,536 and the scale of what is kept is exact for it.

A mask is a function of (seed, step, site, group): the site is the place in the model, the group is a part of the
global batch that no number of processes and no limit of memory ever changes (fairlead.training.batching.batches). So
groups may be computed in any company, on any process, and a layer may be computed twice.

Shapes: R rows of a tensor (tokens, or texts), W numbers a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

LEVELS = 1 << 16
BFLOAT16_ONE = 0x3F80


@dataclass(frozen=True)
class GroupSize:
    """A group of the global batch that the current pass holds."""

    index: int
    num_rows: int
    num_tokens: int


@dataclass
class Masks:
    """Draws the masks of the pass that goes on."""

    seed: int = 0
    step: int = 0
    groups: Sequence[GroupSize] = field(default_factory=list)

    def begin(self, seed: int, step: int, groups: Sequence[GroupSize]) -> None:
        """The next pass is over `groups` of global batch `step`."""
        self.seed, self.step, self.groups = seed, step, groups

    def keep(self, site: int, probability: float, x: torch.Tensor) -> torch.Tensor:
        """1 where a number of `x` is kept and 0 elsewhere, shape of `x`, in its type; rows lie group after group."""
        num_rows = x.shape[0]
        sizes = self._sizes(num_rows)
        if sizes is None:
            return self.keep_block(site, 0, probability, x.numel(), x.dtype).view(x.shape)
        width = x.numel() // num_rows
        blocks = [self.keep_block(site, group, probability, rows * width, x.dtype) for group, rows in sizes]
        return (blocks[0] if len(blocks) == 1 else torch.cat(blocks)).view(x.shape)

    def keep_block(self, site: int, group: int, probability: float, size: int, dtype: torch.dtype) -> torch.Tensor:
        """The mask of one group at one site, shape (size,)."""
        words = np.random.SFC64(np.random.SeedSequence([self.seed, self.step, site, group])).random_raw(-(-size // 4))
        kept = words.view(np.int16)[:size] >= np.int16(dropped_levels(probability) - LEVELS // 2)
        if dtype == torch.bfloat16:
            # A product of 16-bit integers makes the bits of 1.0; torch's own conversion takes 6 times as long.
            return torch.from_numpy(np.multiply(kept.view(np.uint8), BFLOAT16_ONE, dtype=np.int16)).view(dtype)
        return torch.from_numpy(kept.astype(np.float32)).to(dtype)

    def _sizes(self, num_rows: int) -> list[tuple[int, int]] | None:
        """Group index and rows of each group, whether the rows are tokens or texts; None for neither."""
        if num_rows == sum(group.num_tokens for group in self.groups):
            return [(group.index, group.num_tokens) for group in self.groups]
        if num_rows == sum(group.num_rows for group in self.groups):
            return [(group.index, group.num_rows) for group in self.groups]
        return None


def dropped_levels(probability: float) -> int:
    """How many of the 65,536 values of 16 bits drop a number; fewer than all."""
    return min(LEVELS - 1, round(probability * LEVELS))


def kept_scale(probability: float) -> float:
    """What kept numbers are multiplied with, so that the mean stays: 1 / P(kept), for the rounded probability."""
    return LEVELS / (LEVELS - dropped_levels(probability))


class Dropout(nn.Dropout):
    """Dropout by `Masks` on a CPU, and torch's own on other devices."""

    def __init__(self, p: float, masks: Masks, site: int) -> None:
        super().__init__(p)
        self.masks, self.site = masks, site

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape and type of `x`."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p, training=True)
        return torch.as_tensor(self._masked(x))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _masked(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _Masked.apply(x, self.masks.keep(self.site, self.p, x), kept_scale(self.p))  # type: ignore[no-untyped-call]
        return out


class _Masked(torch.autograd.Function):
    """x * keep * scale. Multiplied in place of torch's masked operations on booleans, which are not vectorised."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, keep: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (keep,) = ctx.saved_tensors
        return (grad * keep).mul_(ctx.scale), None, None


def install(model: nn.Module) -> Masks:
    """Replace every nn.Dropout of `model`; returns what the masks come from, told of each pass by `begin`."""
    masks = Masks()
    places = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if type(child) is nn.Dropout
    ]
    for site, (module, name, child) in enumerate(places):
        setattr(module, name, Dropout(child.p, masks, site).train(child.training))
    return masks
