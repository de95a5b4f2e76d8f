"""A model computed in bfloat16 from a copy of its weights, while the weights themselves stay float32.

The copy is made in each pass, by operations that gradients flow back through: they arrive in float32, are summed over
passes and processes in float32, and the optimizer, its averages and the checkpoints never see the copy. Against
autocast, which casts what each operation reads, activations stay bfloat16 from one operation to the next.
Normalisations, softmax and attention's sums are float32 inside of their kernels, and so is the loss.
"""

import torch
from torch import nn
from torch.func import functional_call


class WorkingCopy(nn.Module):
    """`network`, computed with weights of `dtype`."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, batch: object) -> torch.Tensor:
        """What `network` gives for `batch`."""
        copies = {name: weight.to(self.dtype) for name, weight in self.network.named_parameters()}
        out: torch.Tensor = functional_call(self.network, copies, (batch,))
        return out
