"""The scale of the loss in float16, whose smallest numbers are larger than many gradients.

The loss is multiplied with a scale before the backward pass and the gradients are divided by it after (Micikevicius
et al., 2018, "Mixed Precision Training", section 3.2). The scale is torch's own dynamic one (`torch.amp.GradScaler`):
it begins at 65,536; a step whose gradients overflow is skipped and halves it, 2,000 steps without one double it.

Such a step is no trouble: its loss is a number. When the gradients are not finite even at a scale below 1, or the
loss itself is not, no scale helps, and the step is handled as in any other precision (fairlead.training.watch.trouble).
"""

from collections.abc import Mapping

import torch

# From here on down it is not the scale that makes gradients overflow: 17 steps in a row have been skipped.
SMALLEST_SCALE = 1.0


class LossScale:
    """The scale of one run, and what a checkpoint keeps of it; without float16 it is 1 and stays so."""

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, precision: str) -> None:
        self.enabled = precision == "fp16"
        self._optimizer = optimizer
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.enabled)

    @property
    def value(self) -> float:
        """The scale of the next backward pass."""
        return self._scaler.get_scale()

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss to begin the backward pass with."""
        return self._scaler.scale(loss)

    def unscale(self) -> None:
        """Divide the gradients of all weights; once a step, before they are clipped."""
        self._scaler.unscale_(self._optimizer)

    def update(self) -> bool:
        """End a step, and set the scale of the next; whether this one is to be skipped because gradients overflowed."""
        before = self.value
        self._scaler.update()
        return SMALLEST_SCALE <= self.value < before

    def tensors(self) -> dict[str, torch.Tensor]:
        """The scale, and the steps since it last changed."""
        state = self._scaler.state_dict()
        return {"scale": torch.tensor(state["scale"]), "growth_tracker": torch.tensor(state["_growth_tracker"])}

    def passing(self) -> frozenset[str]:
        """All: the scale changes before the update that it decides on."""
        return frozenset(self.tensors())

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take what `tensors` gave."""
        kept = {"scale": float(tensors["scale"]), "_growth_tracker": int(tensors["growth_tracker"])}
        self._scaler.load_state_dict(self._scaler.state_dict() | kept)
