"""Which token comes next: the most probable one, or one drawn.

Logits are divided by the temperature, then all but the k most probable tokens are left out, then all but the fewest
tokens whose probabilities sum to p at least (nucleus sampling: Holtzman et al., 2020, "The Curious Case of Neural
Text Degeneration"), then one is drawn: the order of Hugging Face's `generate`.

Shapes: B rows, V tokens of the vocabulary.
"""

import numpy as np
import torch

from fairlead.inference.config import GenerationConfig


class Sampler:
    """Draws the tokens of some rows, each with a random state of its own.

    What row i draws depends on the seed and i, never on how many rows there are.
    """

    def __init__(self, config: GenerationConfig, num_rows: int) -> None:
        self._config = config
        self._generators = [_generator(config.seed, row) for row in range(num_rows)]

    def draw(self, logits_BV: torch.Tensor) -> list[int]:
        """The next token of each row. On the CPU in float32, so that every device draws alike."""
        if self._config.temperature == 0:
            return [int(token) for token in logits_BV.argmax(dim=-1)]
        probabilities_BV = distribution(logits_BV.float().cpu(), self._config)
        drawn = zip(probabilities_BV, self._generators, strict=True)
        return [int(torch.multinomial(row_V, 1, generator=generator)) for row_V, generator in drawn]


def distribution(logits_BV: torch.Tensor, config: GenerationConfig) -> torch.Tensor:
    """The probabilities that tokens are drawn with, shape (B, V); `config.temperature` is above 0."""
    logits_BV = logits_BV / config.temperature
    if config.top_k is not None and config.top_k < logits_BV.shape[-1]:
        least_B1 = logits_BV.topk(config.top_k, dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    probabilities_BV = logits_BV.softmax(dim=-1)
    if config.top_p < 1:
        ordered_BV, order_BV = probabilities_BV.sort(dim=-1, descending=True, stable=True)
        # A token stays when those before it have not reached p; the first always stays.
        dropped_BV = ordered_BV.cumsum(dim=-1) - ordered_BV >= config.top_p
        probabilities_BV = probabilities_BV.masked_fill(dropped_BV.gather(-1, order_BV.argsort(dim=-1)), 0)
    return probabilities_BV / probabilities_BV.sum(dim=-1, keepdim=True)


def _generator(seed: int, row: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
