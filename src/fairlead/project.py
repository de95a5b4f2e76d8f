"""The whole of a project's settings, as `fairlead.yaml` holds them."""

from pydantic import Field, field_validator

from fairlead.config import Config
from fairlead.data.config import DataConfig, TokenizationConfig
from fairlead.evaluation.config import EvaluationConfig
from fairlead.names import check_project
from fairlead.training.config import ModelConfig, TrainConfig


class ProjectConfig(Config):
    """One project: a section for each stage."""

    project: str
    """Name of the project, for its goal: `support_topics`. No default."""
    data: DataConfig
    """Where the text comes from."""
    tokenization: TokenizationConfig = Field(default_factory=TokenizationConfig)
    """How it becomes token ids."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """Which model is trained."""
    training: TrainConfig = Field(default_factory=TrainConfig)
    """How it is trained."""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """How it is judged."""

    @field_validator("project")
    @classmethod
    def _legal_name(cls, value: str) -> str:
        try:
            return check_project(value)
        except Exception as error:
            raise ValueError(str(error)) from error
