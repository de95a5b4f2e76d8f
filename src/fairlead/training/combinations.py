"""Settings that would do nothing beside others: they are refused, since whoever set them expects an effect.

A setting counts as set when it differs from its default: resolved settings carry every field.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fairlead.errors import ConfigError
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, MULTI_LABEL, REGRESSION, TaskName


@dataclass(frozen=True)
class Needs:
    """`setting` has an effect only where `other` is one of `values`."""

    setting: str
    other: str
    values: tuple[Any, ...]


RULES = (
    Needs("focal_gamma", "loss", ("focal",)),
    Needs("label_smoothing", "loss", ("auto", "cross_entropy", "bce")),
    Needs("class_weights", "loss", ("auto", "cross_entropy", "focal")),
    Needs("positive_weights", "loss", ("auto", "bce", "focal")),
    Needs("effective_number_beta", "class_weights", ("effective_number",)),
    Needs("momentum", "optimizer", ("sgd", "rmsprop", "muon")),
    Needs("beta1", "optimizer", ("adamw", "adam", "muon")),
    Needs("beta2", "optimizer", ("adamw", "adam", "muon")),
    Needs("rmsprop_decay", "optimizer", ("rmsprop",)),
    Needs("epsilon", "optimizer", ("adamw", "adam", "rmsprop", "adagrad", "muon")),
    Needs("patience", "keep", ("best",)),
    Needs("warmup_share", "warmup_steps", (None,)),
    Needs("final_rate_share", "schedule", ("linear", "cosine")),
)


@dataclass(frozen=True)
class Excludes:
    """With `setting` at `value`, `other` cannot be one of `values`; `why` is a clause that says so."""

    setting: str
    value: Any
    other: str
    values: tuple[Any, ...]
    why: str


EXCLUSIONS = (
    Excludes("parallel", "fsdp", "optimizer", ("muon",), "needs whole matrices, and fsdp has shards of them"),
    Excludes("compile", "on", "parallel", ("fsdp",), "gathers weights inside of what would be compiled"),
)


@dataclass(frozen=True)
class Objective:
    """Which losses fit what a row carries, and which settings do nothing there."""

    data: str
    losses: tuple[str, ...]
    without: tuple[str, ...]


OBJECTIVES: dict[TaskName, Objective] = {
    CLASSIFICATION: Objective("a row has one label", ("cross_entropy", "focal"), ("positive_weights",)),
    MULTI_LABEL: Objective("a row has several labels", ("bce", "focal"), ("class_weights",)),
    REGRESSION: Objective("a row has numbers", ("mse",), ("class_weights", "positive_weights", "label_smoothing")),
    LANGUAGE_MODELING: Objective("text is continued", ("cross_entropy",), ("class_weights", "positive_weights")),
}


def check_loss(config: Any, task: TaskName) -> None:
    """Raise ConfigError when the loss of a TrainConfig does not fit `task`, or a setting does nothing there."""
    objective = OBJECTIVES[task]
    data, losses = objective.data, objective.losses
    if config.loss not in ("auto", *losses):
        raise ConfigError(f"training.loss: {config.loss} is not for data where {data}; set it to {' or '.join(losses)}")
    for name in objective.without:
        if getattr(config, name):
            raise ConfigError(f"training.{name}: it does nothing where {data}; leave it away")


def check_combinations(config: BaseModel, rules: Iterable[Needs] = RULES) -> None:
    """Raise ValueError for the first setting that does nothing, with the setting that it would need."""
    for rule in rules:
        if is_set(config, rule.setting) and getattr(config, rule.other) not in rule.values:
            raise ValueError(_sentence(config, rule))
    for out in EXCLUSIONS:
        if getattr(config, out.setting, None) == out.value and getattr(config, out.other) in out.values:
            raise ValueError(
                f"{out.other} = {getattr(config, out.other)} {out.why}; set {out.setting} or {out.other} to another"
            )


def is_set(config: BaseModel, name: str) -> bool:
    """Whether a setting differs from its default."""
    return bool(getattr(config, name) != type(config).model_fields[name].get_default(call_default_factory=True))


def _sentence(config: BaseModel, rule: Needs) -> str:
    value, other = getattr(config, rule.setting), getattr(config, rule.other)
    wanted = " or ".join(str(value) for value in rule.values if value not in ("auto", None))
    instead = f"set {rule.other} to {wanted}, or leave {rule.setting} away" if wanted else "leave one of the two away"
    return f"{rule.setting} = {value} does nothing with {rule.other} = {other}; {instead}"
