"""Settings of the model and of training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fairlead.config import Config
from fairlead.training.combinations import check_combinations

Metric = Literal["macro_f1", "micro_f1", "weighted_f1", "accuracy", "mcc", "calibration_error", "loss", "perplexity"]
Weight = Annotated[float, Field(gt=0, le=1e6)]


class ModelConfig(Config):
    """Which model is trained."""

    base: str = "scratch"
    """`scratch`, or a path, `s3://` or `hf://` address of a model in the Hugging Face layout. Default `scratch`."""
    depth: int = Field(3, ge=1, le=48)
    """Size of a model from scratch by one dial: layers, with width 64 x depth and depth heads. Default 3."""
    pooling: Literal["auto", "base", "mean"] = "auto"
    """What a base's head reads of a text: `base` what the model was built with, mostly the first token; `mean` starts
    as the mean of all tokens, in one more layer (BERT and RoBERTa). Default `auto`: `mean` for a base that says in
    `1_Pooling/config.json` that it was trained so, as sentence encoders do."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of activations zeroed in training, 0 to 1. Default 0.1."""


class TrainConfig(Config):
    """How the model is trained."""

    epochs: int = Field(4, ge=1)
    """Passes over the training split. Default 4."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps at most. Default: no limit but `epochs`."""
    batch_size: int = Field(32, ge=1)
    """Examples of a global batch, over all processes. Default 32."""
    micro_batch_tokens: int = Field(4096, ge=16)
    """Tokens, padding included, that one forward pass takes at most. Default 4,096."""
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop", "adagrad"] = "adamw"
    """Update rule. Default `adamw`."""
    learning_rate: float = Field(3e-4, gt=0, le=10)
    """Peak step size. Default 3e-4."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    """Decay of matrices; biases and normalisations are not decayed. Default 0.01."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD and RMSProp. Default 0.9."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Decay of the learning rate to 0 after warm-up. Default `linear`."""
    warmup_share: float = Field(0.06, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0, 0 to 1. Default 0.06."""
    gradient_clip: float = Field(1.0, ge=0)
    """Norm of the whole gradient at most; 0 leaves it alone. Default 1.0."""
    loss: Literal["auto", "cross_entropy", "focal", "bce", "mse"] = "auto"
    """What is minimised: `cross_entropy` or `focal` where a row has one label, `bce` or `focal` where it has several,
    `mse` for numbers. Default `auto`: the first that fits."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Probability mass spread over all classes in the loss. Default 0."""
    focal_gamma: float | None = Field(None, ge=0, le=10)
    """How much less a row counts in `focal` the more certainly it is right: (1 - p)^gamma. Default: 2."""
    class_weights: Literal["balanced", "effective_number"] | dict[str, Weight] | None = None
    """Weight of each class in the loss where a row has one label: `balanced`, by `effective_number` of samples, or by
    hand by class name; scaled to a mean of 1 over the training rows. Default: all alike."""
    effective_number_beta: float | None = Field(None, ge=0, lt=1)
    """Share that a further sample of a class adds less than the one before; nearer to 1 is nearer to `balanced`.
    Default: 0.999."""
    positive_weights: Literal["balanced"] | dict[str, Weight] | None = None
    """Weight of a class's positives in the loss where a row has several labels: `balanced` (negatives / positives), or
    by hand by class name, others 1. Default: 1."""
    eval_every_steps: int | None = Field(None, ge=1)
    """Steps between validations. Default: once an epoch."""
    metric: Metric = "macro_f1"
    """Validation metric that picks the best step and stops early. Default `macro_f1`."""
    patience: int | None = Field(None, ge=1)
    """Validations without improvement after which training stops. Default: never."""
    checkpoint_every_steps: int = Field(200, ge=1)
    """Steps between checkpoints; one is also written at each validation. Default 200."""
    keep_checkpoints: int = Field(2, ge=1)
    """Latest checkpoints kept, besides the best weights. Default 2."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of forward and backward; weights stay fp32. Default `fp32`."""
    processes: int | None = Field(None, ge=1, le=1024)
    """Processes, one a device. Default: one a GPU, or one on CPU."""
    threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads of each process. Default: physical cores shared among the processes."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of weights, order and dropout, 0 to 2^32 - 1. Default 0."""

    @model_validator(mode="after")
    def _every_setting_counts(self) -> Self:
        check_combinations(self)
        return self
