"""How a global batch becomes forward passes, and what one pass computes.

A global batch is cut into groups of texts of about one length. The groups depend on the batch alone; which
process computes which, and how many go into one pass, does not change what is computed: dropout belongs to the
group. Models that can read packed texts (fairlead.training.models.packed_models) take several groups in one pass
on a CPU, without padding; others take a group at a time, padded to its longest text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fairlead.errors import ConfigError
from fairlead.formats.tokens import TokenArrays
from fairlead.training.batching.batches import (
    MicroBatch,
    Rows,
    collate,
    micro_batches,
    overhead_tokens,
    packs,
    random_state,
    share_out,
)
from fairlead.training.batching.packing import Pack, pack
from fairlead.training.config import TrainConfig
from fairlead.training.models import dropout
from fairlead.training.models.dropout import GroupSize
from fairlead.training.models.packed_models import Forward, packed_forward
from fairlead.training.models.working_copy import WorkingCopy

# A batch has about this many groups at least, so that up to as many processes find equal work.
NUM_SHARES = 8
# A padded group is a pass of its own: a Llama of 4 layers of width 256 takes a fifth longer with half of these tokens.
LEAST_PASS = 1024
# Tokens whose attention costs as much as one more group in a pass.
GROUP_OVERHEAD = 64
# What a scoring pass takes by what a training pass does: its rows need no memory for gradients.
SCORING_FACTOR = 2
# On a GPU variable-length attention wants no groups by length: as few as the memory allows.
WHOLE = 1 << 40


@dataclass(frozen=True)
class Pass:
    """Groups of one global batch that one forward pass takes: index and rows of each."""

    groups: list[tuple[int, Rows]]


class Network(nn.Module):
    """A classifier that takes what a pass brings, and gives its logits."""

    def __init__(self, model: nn.Module, packed: Forward | None, recompute: bool) -> None:
        super().__init__()
        self.model, self.packed, self.recompute = model, packed, recompute
        self.masks = dropout.install(model)
        if recompute and packed is None:
            _recompute_layers(model)

    def forward(self, batch: MicroBatch | Pack) -> torch.Tensor:
        """Logits, shape (texts, classes)."""
        if isinstance(batch, Pack):
            assert self.packed is not None
            return self.packed(self.model, batch, self.masks, self.recompute)
        logits: torch.Tensor = self.model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits
        return logits


class Passes:
    """Cuts the global batches of one run."""

    def __init__(
        self, config: TrainConfig, model: nn.Module, arrays: TokenArrays, pad_token_id: int, longest: int
    ) -> None:
        """`arrays` is the training split, `longest` the tokens of the longest text of any split that is read."""
        self.config, self.arrays, self.pad_token_id = config, arrays, pad_token_id
        self.lengths = arrays.lengths
        self.budget = config.micro_batch_tokens
        self.overhead = overhead_tokens(_num_working_parameters(model))
        packed = packed_forward(model, longest)
        self.network = Network(model, packed, config.activation_checkpointing)
        self.autocast = autocast_type(config, packed is not None)
        works_in_copy = config.precision == "bf16" and self.autocast is None
        self.copy_type = torch.bfloat16 if works_in_copy else None
        # Shards are copied as they are gathered (fairlead.training.updates.sharding).
        copied_here = works_in_copy and config.parallel == "ddp"
        self.computing = WorkingCopy(self.network, torch.bfloat16) if copied_here else self.network

    @property
    def device(self) -> torch.device:
        """Where the model is; a sharded one gets there after this was made."""
        return next(self.network.parameters()).device

    def plan(self, rows: Rows, world_size: int) -> list[list[Pass]]:
        """The passes of each process over the global batch `rows`."""
        groups = self._groups(rows)
        sizes = [self._num_tokens(group) for group in groups]
        budget = self.budget if self._unites else 0
        return [
            [Pass([(index, groups[index]) for index in indices]) for indices in packs(own, sizes, budget)]
            for own in share_out(sizes, world_size)
        ]

    def computed_tokens(self, plan: Sequence[Sequence[Pass]]) -> int:
        """Tokens that the passes of all processes compute, padding included."""
        return sum(self._num_tokens(rows) for own in plan for each in own for _, rows in each.groups)

    def batch(self, step: int, of: Pass) -> MicroBatch | Pack:
        """The tensors of a pass; random numbers are set to those of its groups."""
        first, rows = of.groups[0]
        torch.manual_seed(random_state(self.config.seed, step, first))
        if self.network.packed is None:
            assert len(of.groups) == 1
            longest = int(self.lengths[rows].max())
            self.network.masks.begin(self.config.seed, step, [GroupSize(first, len(rows), len(rows) * longest)])
            return collate(self.arrays, rows, self.pad_token_id).to(self.device)
        packed = pack(self.arrays, of.groups, self.device)
        self.network.masks.begin(self.config.seed, step, packed.groups)
        return packed

    def logits(self, network: nn.Module, batch: MicroBatch | Pack) -> torch.Tensor:
        """The logits that `network` (`computing`, or what wraps it) gives, in the arithmetic of the run."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            found: torch.Tensor = network(batch)
        return found

    def pieces(self, arrays: TokenArrays) -> list[Rows]:
        """The rows of a split in what one pass takes that leaves no gradients."""
        overhead = self.overhead if self.network.packed is None else WHOLE
        rows = np.arange(arrays.num_rows)
        return micro_batches(rows, arrays.lengths, self.config.micro_batch_tokens * SCORING_FACTOR, overhead)

    def scoring_batch(self, arrays: TokenArrays, rows: Rows) -> tuple[Rows, MicroBatch | Pack]:
        """The tensors of a pass over `rows` that scores them, and the rows in the order of its logits."""
        if self.network.packed is None:
            return rows, collate(arrays, rows, self.pad_token_id).to(self.device)
        groups = micro_batches(rows, arrays.lengths, self.config.micro_batch_tokens * SCORING_FACTOR, GROUP_OVERHEAD)
        return np.concatenate(groups), pack(arrays, list(enumerate(groups)), self.device)

    @property
    def _unites(self) -> bool:
        """Whether a pass takes several groups. On a GPU torch draws the masks, which belong to a whole pass."""
        return self.network.packed is not None and self.device.type == "cpu"

    def _groups(self, rows: Rows) -> list[Rows]:
        budget = self.budget
        if self.network.packed is None:
            if self.device.type == "cpu":
                num_tokens = int(self.lengths[rows].sum())
                share = max(num_tokens // num_padded_groups(num_tokens), int(self.lengths[rows].max()))
                budget = min(budget, share)
            return micro_batches(rows, self.lengths, budget, self.overhead)
        if not self._unites:
            return micro_batches(rows, self.lengths, budget, WHOLE)
        share = int(self.lengths[rows].sum()) // NUM_SHARES
        return micro_batches(rows, self.lengths, min(budget, max(share, int(self.lengths[rows].max()))), GROUP_OVERHEAD)

    def _num_tokens(self, rows: Rows) -> int:
        lengths: npt.NDArray[np.int64] = self.lengths[rows]
        return int(lengths.sum() if self.network.packed else len(rows) * lengths.max())


def num_padded_groups(num_tokens: int) -> int:
    """Into how many groups a batch is cut at least for a model that takes one padded group a pass: 8, 4, 2 or 1."""
    groups = NUM_SHARES
    while groups > 1 and num_tokens < groups * LEAST_PASS:
        groups //= 2
    return groups


def _recompute_layers(model: nn.Module) -> None:
    """Have the layers of a Hugging Face model compute their activations again in the backward pass."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        name = type(model).__name__
        raise ConfigError(f"training.activation_checkpointing: {name} cannot compute its layers again; leave it away")
    # The second is its older name in transformers 5.
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    next(getattr(model, name) for name in names if hasattr(model, name))()


def autocast_type(config: TrainConfig, packed: bool) -> torch.dtype | None:
    """What autocast computes in; None where weights are computed with as they are, or in a copy.

    Where the model's own code computes its layers again in the backward pass, which is where texts are not `packed`,
    they find the weights there and not the copy: then bf16 is autocast.
    """
    if config.precision == "fp16":
        return torch.float16
    no_copy = config.activation_checkpointing and not packed and config.parallel == "ddp"
    return torch.bfloat16 if config.precision == "bf16" and no_copy else None


def _num_working_parameters(model: nn.Module) -> int:
    """Weights that every token is multiplied with: all but the embeddings."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in embeddings)
