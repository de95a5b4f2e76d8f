"""How large a run's model is, before it is built: by the settings, or by the headers of its base's weight files.

Who starts the processes has to know, and building the model there would cost seconds and its memory. Layers that
pooling adds, new heads, biases and normalisations are not counted.

Shapes: V rows of the vocabulary, W width, L layers.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from fairlead.errors import IntegrityError
from fairlead.names import LANGUAGE_MODELING, TaskName
from fairlead.training.config import ModelConfig

Shape = tuple[int, ...]

# Of models from scratch: the width, by their layers, and that of the feed-forward layer, by the width. It is gated and
# has three matrices: 8/3 x width costs what 4 x width costs in a plain one, and 2 x width what 3 x width costs.
WIDTH_PER_DEPTH = 64
LANGUAGE_FEED_FORWARD, CLASSIFIER_FEED_FORWARD = 8 / 3, 2
# Words in the names of matrices that are looked up, not multiplied with: BERT's, Llama's, T5's and GPT-2's.
LOOKED_UP = ("embed", "shared.weight", "wte.", "wpe.")


@dataclass(frozen=True)
class ModelSize:
    """What decides time and memory of training."""

    weights: int
    """Numbers that are learned, embeddings among them."""
    multiplied: int
    """Those that every token is multiplied with; of a language model also the output's."""
    activations: int
    """Numbers that these matrices read and write for one token, which the backward pass needs again."""


def model_size(model: ModelConfig, base: Path | None, task: TaskName, vocab_size: int) -> ModelSize:
    """The size of the model of a run; `base` is the local folder of `model.base`.

    Raises IntegrityError when a weight file of the base has no readable header.
    """
    shapes = _shapes_of(base) if base else dict(_from_scratch(model.depth, task, vocab_size))
    looked_up = [shape for name, shape in shapes.items() if _is_looked_up(name)]
    matrices: list[Shape] = [s for name, s in shapes.items() if len(s) == 2 and not _is_looked_up(name)]
    if task == LANGUAGE_MODELING and looked_up and not any("lm_head" in name for name in shapes):
        # The output shares the largest of them.
        matrices.append(max(looked_up, key=math.prod))
    return ModelSize(
        weights=sum(map(math.prod, shapes.values())),
        multiplied=sum(map(math.prod, matrices)),
        activations=sum(map(sum, matrices)),
    )


def _is_looked_up(name: str) -> bool:
    return any(word in name for word in LOOKED_UP)


def _from_scratch(depth: int, task: TaskName, vocab_size: int) -> Iterable[tuple[str, Shape]]:
    """The matrices that fairlead.training.models.building makes: ModernBERT's, or Llama's for a language."""
    width = WIDTH_PER_DEPTH * depth
    yield "embeddings", (vocab_size, width)
    # The gate and the values of the feed-forward part are one matrix or two of half its rows.
    inner = int(width * (LANGUAGE_FEED_FORWARD if task == LANGUAGE_MODELING else CLASSIFIER_FEED_FORWARD))
    for layer in range(depth):
        yield from {
            f"{layer}.qkv": (3 * width, width),
            f"{layer}.output": (width, width),
            f"{layer}.gated": (2 * inner, width),
            f"{layer}.down": (width, inner),
        }.items()


def _shapes_of(folder: Path) -> dict[str, Shape]:
    """The shape of every tensor of a model in the Hugging Face layout."""
    return {name: shape for path in sorted(folder.glob("*.safetensors")) for name, shape in _header(path)}


def _header(path: Path) -> Iterator[tuple[str, Shape]]:
    """Names and shapes in a safetensors file."""
    try:
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                yield name, tuple(file.get_slice(name).get_shape())
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path}: its header cannot be read ({error}); download the model again") from error
