"""The whole of a project's settings, as `fairlead.yaml` holds them."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from fairlead.config import Config
from fairlead.data.config import DataConfig, IncrementalConfig, TokenizationConfig
from fairlead.errors import ConfigError
from fairlead.evaluation.config import EvaluationConfig
from fairlead.names import ModelRef, check_project
from fairlead.optimization.config import OptimizationConfig
from fairlead.training.combinations import check_loss
from fairlead.training.config import ModelConfig, TrainConfig


class ProjectConfig(Config):
    """One project: a section for each stage."""

    project: str
    """Name of the project, for its goal: `support_topics`. No default."""
    data: DataConfig
    """Where the text comes from."""
    incremental: IncrementalConfig = Field(default_factory=IncrementalConfig)
    """Which registered version it continues, if any."""
    tokenization: TokenizationConfig = Field(default_factory=TokenizationConfig)
    """How it becomes token ids."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """Which model is trained."""
    training: TrainConfig = Field(default_factory=TrainConfig)
    """How it is trained."""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """How it is judged."""
    optimization: OptimizationConfig = Field(default_factory=OptimizationConfig)
    """Which variant of it serves."""

    @model_validator(mode="after")
    def _own_parent(self) -> Self:
        parent = self.incremental.parent
        if parent is not None and ModelRef.parse(parent).project != self.project:
            raise ValueError(f"incremental.parent {parent!r} is no version of {self.project}")
        return self

    @model_validator(mode="after")
    def _fitting_loss(self) -> Self:
        try:
            check_loss(self.training, self.data.task)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @field_validator("project")
    @classmethod
    def _legal_name(cls, value: str) -> str:
        try:
            return check_project(value)
        except Exception as error:
            raise ValueError(str(error)) from error
