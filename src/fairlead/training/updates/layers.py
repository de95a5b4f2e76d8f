"""Where each weight of a model stands between its input and its answer.

    depth 0              embeddings: what the base computes before its first layer
    depth 1 ... L        the layers of the stack; what follows the stack (a last norm, a pooler) has L
    depth L + 1          the head: what is outside of the base model

Needs no table of architectures: the stack is the module list that holds most of the base's weights, and modules
are defined in the order in which they compute.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from fairlead.errors import ConfigError
from fairlead.training.config import TrainConfig

# An encoder-decoder has two stacks; a list with less of the base's weights than this is a part of a layer.
STACK_SHARE = 0.25


@dataclass(frozen=True)
class Depths:
    """The depth of each weight by its name."""

    num_layers: int
    by_name: dict[str, int]
    in_stack: frozenset[str]
    """The names of the weights of the layers themselves."""

    @property
    def head(self) -> int:
        """The depth of the head."""
        return self.num_layers + 1


def depths(model: nn.Module) -> Depths:
    """The depth of each weight of a Hugging Face model; without layers all of the base has depth 0."""
    prefix, base = _base(model)
    layers = [f"{prefix}{name}.{index}." for name, stack in _stacks(base) for index in range(len(stack))]
    by_name: dict[str, int] = {}
    in_stack: set[str] = set()
    for name, _ in model.named_parameters():
        depth = len(layers) if in_stack else 0
        for index, layer in enumerate(layers):
            if name.startswith(layer):
                depth = index + 1
                in_stack.add(name)
        by_name[name] = depth if name.startswith(prefix) else len(layers) + 1
    return Depths(len(layers), by_name, frozenset(in_stack))


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a Hugging Face model, from the first; none where it has no stack."""
    return [layer for _, stack in _stacks(_base(model)[1]) for layer in stack]


def freeze(model: nn.Module, config: TrainConfig) -> None:
    """Exempt from training what the settings name. Raises ConfigError when a setting fits nothing, or everything."""
    found = depths(model)
    if config.freeze_layers > found.num_layers:
        raise ConfigError(
            f"training.freeze_layers: {config.freeze_layers} is more than the {found.num_layers} layers of the model; "
            "lower it"
        )
    for pattern in config.freeze:
        if not any(fnmatchcase(name, pattern) for name in found.by_name):
            some = ", ".join(list(found.by_name)[:3])
            raise ConfigError(f"training.freeze: {pattern!r} fits no weight; their names are like {some}")
    for name, parameter in model.named_parameters():
        if _is_frozen(name, found, config):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("training.freeze: every weight of the model is frozen; leave some to train")


def rate_factors(model: nn.Module, config: TrainConfig) -> dict[str, float]:
    """Of each weight by name, its learning rate by that of the run.

    The head has `head_rate_factor`; a layer of depth d of L has layer_rate_decay^(L + 1 - d), so that the
    embeddings have layer_rate_decay^(L + 1). (Howard and Ruder, 2018, "ULMFiT", section 3.2; the exponents are
    those of Bao et al., 2021, "BEiT".)
    """
    found, decay = depths(model), config.layer_rate_decay
    if decay != 1.0 and found.num_layers == 0:
        raise ConfigError("training.layer_rate_decay: the model has no stack of layers; leave it away")
    return {
        name: config.head_rate_factor if depth == found.head else decay ** (found.head - depth)
        for name, depth in found.by_name.items()
    }


def _is_frozen(name: str, found: Depths, config: TrainConfig) -> bool:
    if config.freeze_embeddings and found.by_name[name] == 0:
        return True
    # A last norm or a pooler is no layer: a frozen stack still has them to learn with.
    if name in found.in_stack and found.by_name[name] <= config.freeze_layers:
        return True
    return any(fnmatchcase(name, pattern) for pattern in config.freeze)


def _base(model: nn.Module) -> tuple[str, nn.Module]:
    """The base model and the prefix of its weights' names; of a model without one, the whole of it."""
    prefix = getattr(model, "base_model_prefix", "")
    base = getattr(model, prefix, None) if prefix else None
    return (f"{prefix}.", base) if isinstance(base, nn.Module) else ("", model)


def _stacks(base: nn.Module) -> list[tuple[str, nn.ModuleList]]:
    lists = [(name, module) for name, module in base.named_modules() if isinstance(module, nn.ModuleList)]
    least = STACK_SHARE * max((_size(module) for _, module in lists), default=0)
    large = [(name, module) for name, module in lists if _size(module) >= max(1.0, least)]
    return [(name, m) for name, m in large if not any(name.startswith(f"{other}.") for other, _ in large)]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
