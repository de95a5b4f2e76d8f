"""Settings of the model and of training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fairlead.config import Config
from fairlead.errors import ConfigError
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, MULTI_LABEL, REGRESSION, TaskName
from fairlead.training.combinations import check_combinations

LabelMetric = Literal[
    "macro_f1", "micro_f1", "weighted_f1", "average_precision", "accuracy", "mcc", "calibration_error"
]
NumberMetric = Literal["rmse", "mse", "mae", "r2", "pearson", "spearman"]
Metric = LabelMetric | NumberMetric | Literal["loss", "perplexity", "nats_per_character", "bits_per_byte"]
# What a validation measures by task; the first picks the best step when nothing is said.
METRICS_BY_TASK: dict[TaskName, tuple[Metric, ...]] = {
    CLASSIFICATION: (
        *("macro_f1", "micro_f1", "weighted_f1", "accuracy", "mcc"),
        *("calibration_error", "loss", "perplexity"),
    ),
    MULTI_LABEL: (
        *("average_precision", "macro_f1", "micro_f1", "weighted_f1"),
        *("accuracy", "mcc", "calibration_error", "loss"),
    ),
    REGRESSION: ("rmse", "mse", "mae", "r2", "pearson", "spearman", "loss"),
    LANGUAGE_MODELING: ("loss", "perplexity", "nats_per_character", "bits_per_byte"),
}
Weight = Annotated[float, Field(gt=0, le=1e6)]

# These say how a run is carried out, not what it learns: a run resumes though they changed.
CARRYING_OUT = (
    "nodes",
    "processes",
    "parallel",
    "threads",
    "activation_checkpointing",
    "checkpoint_every_steps",
    "checkpoints",
    "keep_checkpoints",
    "sinks",
    "hang_timeout_seconds",
)


class ModelConfig(Config):
    """Which model is trained."""

    base: str = "scratch"
    """`scratch`, or a path, `s3://` or `hf://` address of a model in the Hugging Face layout, or a registered version
    (`fairlead://support_topics:3`), of which only weights and tokenizer are taken. Default `scratch`."""
    depth: int = Field(3, ge=1, le=48)
    """Size of a model from scratch by one dial: layers, with width 64 x depth and depth heads. Default 3."""
    pooling: Literal["auto", "base", "mean"] = "auto"
    """What a base's head reads of a text: `base` what the model was built with, mostly the first token; `mean` starts
    as the mean of all tokens, in one more layer (BERT and RoBERTa). Default `auto`: `mean` for a base that says in
    `1_Pooling/config.json` that it was trained so, as sentence encoders do."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of activations zeroed in training, 0 to 1. Default 0.1."""
    attention_dropout: float | None = Field(None, ge=0, lt=1)
    """The same for attention weights alone. Default: `dropout`."""
    classifier_dropout: float | None = Field(None, ge=0, lt=1)
    """The same for what the classifier reads. Default: `dropout`, and 0 beside `classifier_norm`."""
    classifier_norm: Literal["none", "batch"] = "none"
    """Whether what the classifier reads is batch-normalised, by running statistics over global batches; the saved
    model has it folded into its last linear layer. Default `none`."""


class TrainConfig(Config):
    """How the model is trained."""

    epochs: int = Field(4, ge=1)
    """Passes over the training split. Default 4."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps at most. Default: no limit but `epochs`."""
    batch_size: int = Field(32, ge=1)
    """Examples of a global batch, over all processes. Default 32."""
    batch_tokens: int | None = Field(None, ge=16)
    """Tokens of a global batch, in place of `batch_size`: long texts come in small batches. Default: not used."""
    shuffle_window: int | None = Field(None, ge=0)
    """Examples, of the epoch's random order, that are grouped into batches by length; 0 leaves batches random.
    Saves padding for models that cannot read packed texts. Default: 4,096 with `batch_tokens`, 0 without."""
    micro_batch_tokens: int = Field(4096, ge=16)
    """Tokens, padding included, that one forward pass takes at most. Default 4,096."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether layers are compiled by torch. `auto` compiles for GPUs in runs of 5,000 steps or more, without shards;
    on a CPU `on` makes language models faster and packed texts slower. Default `auto`."""
    activation_checkpointing: bool = False
    """Compute a layer's activations again in the backward pass: less memory, a third more work. Default no."""
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop", "adagrad", "muon"] = "adamw"
    """Update rule. `muon` learns a model from scratch in a third of the time; with it `momentum` is best at 0.95.
    Default `adamw`."""
    learning_rate: float = Field(3e-4, gt=0, le=10)
    """Peak step size. Default 3e-4."""
    head_rate_factor: float = Field(1.0, gt=0, le=1000)
    """Learning rate of the head by that of the rest: a new head on a trained base may want 10. Default 1."""
    layer_rate_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate of each layer by that of the layer above it; the topmost has this times the head's place, the
    embeddings the least. 0.8 to 0.95 keep a trained base near where it was. Default 1."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    """Decay of matrices; biases and normalisations are not decayed. Default 0.01."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD, RMSProp and Muon. Default 0.9."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Share of the mean gradient that Adam, AdamW and Muon's AdamW keep each step. Default 0.9."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Share of the mean squared gradient that Adam, AdamW and Muon's AdamW keep each step. Default 0.999."""
    rmsprop_decay: float = Field(0.99, ge=0, lt=1)
    """Share of the mean squared gradient that RMSProp keeps each step. Default 0.99."""
    epsilon: float | None = Field(None, gt=0, le=1)
    """Added to the divisor of all rules but SGD. Default: 1e-8, for Adagrad 1e-10."""
    schedule: Literal["linear", "cosine", "inverse_sqrt", "constant"] = "linear"
    """Decay of the learning rate after warm-up. Default `linear`."""
    warmup_share: float = Field(0.06, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0, 0 to 1. Default 0.06."""
    warmup_steps: int | None = Field(None, ge=0)
    """Steps in which the learning rate rises from 0. Default: by `warmup_share`."""
    final_rate_share: float = Field(0.0, ge=0, lt=1)
    """Share of the peak that `linear` and `cosine` fall to, 0 to 1. Default 0."""
    gradient_clip: float = Field(1.0, ge=0)
    """Norm of the whole gradient at most; 0 leaves it alone. Default 1.0."""
    gradient_clip_value: float = Field(0.0, ge=0)
    """Size of each value of the gradient at most, before its norm is bounded; 0 leaves it alone. Default 0."""
    freeze_embeddings: bool = False
    """Whether the embeddings stay as they are. Default false."""
    freeze_layers: int = Field(0, ge=0)
    """Layers that stay as they are, from the first; the embeddings are not among them. Default 0."""
    freeze: list[str] = Field(default_factory=list)
    """Weights that stay as they are, by patterns of their names: `*.layers.0.mlp.*`, `*bias`. Default: none."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Share of the moving average of the weights that a step keeps; validated and saved is the average. 0.99 to 0.9999
    are usual. Default: no average."""
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
    metric: Metric | Literal["auto"] = "auto"
    """Validation metric that picks the best step and stops early. Default `auto`: the task's own, `macro_f1` for
    classification."""
    keep: Literal["best", "last"] = "best"
    """Whose weights are the model: the `best` validation's, or the `last` step's, where too few rows are held out to
    tell two steps apart. Default `best`."""
    patience: int | None = Field(None, ge=1)
    """Validations without improvement after which training stops. Default: never."""
    checkpoint_every_steps: int = Field(200, ge=1)
    """Steps between checkpoints; one is also written at each validation. Default 200."""
    checkpoints: str | None = None
    """Where checkpoints are kept: `home`, `store` (the object store), a path or an `s3://` address. Default:
    FAIRLEAD_CHECKPOINTS, else `home`; a compiled pipeline without a `home_claim` sets `store`."""
    keep_checkpoints: int = Field(2, ge=1)
    """Latest checkpoints kept, besides the best weights. Default 2."""
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """Arithmetic of forward and backward; weights, their averages and sums of gradients stay fp32. `fp16` is for GPUs
    without bf16: the loss is scaled, and steps whose gradients overflow are skipped. `auto` is `bf16` on
    a GPU that has it and where the processor is measured to be faster with it, `fp32` elsewhere. Default `fp32`."""
    sinks: list[Literal["tensorboard", "mlflow"]] = Field(default_factory=list)
    """Where metrics go besides the registry: `tensorboard` writes to FAIRLEAD_TENSORBOARD, `mlflow` sends to
    MLFLOW_TRACKING_URI. Default: nowhere."""
    hang_timeout_seconds: float = Field(300, ge=2, le=86400)
    """Seconds without progress after which a process is taken to hang, is named and ended, so that a retry resumes;
    starting, compiling and writing may take six times as long. Default 300."""
    nodes: int = Field(1, ge=1, le=1024)
    """Machines that train together; more than one are started on a cluster by Kubeflow Trainer. Default 1."""
    processes: int | None = Field(None, ge=1, le=1024)
    """Processes, one a device; those of each node. Default: one a GPU; on the CPU of one machine as many as the run is
    estimated to be fastest with, up to one a physical core, 8 and what memory holds (a short run has one); a run that
    resumes keeps its number. With several `nodes` of CPUs one each."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """What processes share: with `ddp` each holds the whole model; with `fsdp` weights, gradients and the optimizer's
    state are sharded over them, for a model that one device does not hold. Default `ddp`."""
    threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads of each process. Default: measured when the run starts, at most the physical cores shared among the
    processes; a run that resumes keeps its number. On a GPU, and with several `nodes`, that most."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of weights, order and dropout, 0 to 2^32 - 1. Default 0."""

    @model_validator(mode="after")
    def _every_setting_counts(self) -> Self:
        check_combinations(self)
        warmup = self.warmup_share if self.warmup_steps is None else self.warmup_steps
        if self.schedule == "inverse_sqrt" and not warmup:
            raise ValueError("schedule = inverse_sqrt falls by the length of the warm-up, and there is none; set one")
        return self

    def metric_for(self, task: TaskName) -> Metric:
        """The metric that picks the best step of `task`. Raises ConfigError for one that it does not measure."""
        measured = METRICS_BY_TASK[task]
        if self.metric == "auto":
            return measured[0]
        if self.metric not in measured:
            raise ConfigError(
                f"training.metric: {self.metric} is not measured for {task}; use one of {', '.join(measured)}"
            )
        return self.metric
