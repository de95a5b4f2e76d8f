"""The whole of a project's settings, as `fairlead.yaml` holds them."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from fairlead.config import Config
from fairlead.data.config import DataConfig, IncrementalConfig, TokenizationConfig
from fairlead.errors import ConfigError
from fairlead.evaluation.config import EvaluationConfig
from fairlead.names import ModelRef, check_project
from fairlead.optimization.config import OptimizationConfig
from fairlead.training.combinations import check_loss
from fairlead.training.config import ModelConfig, TrainConfig

# Names of Kubernetes' objects, and what git takes for a branch.
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Branch = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=200)]


class DeployConfig(Config):
    """What becomes of a version once it is registered. It decides nothing about the version itself."""

    mode: Literal["none", "direct", "gitops"] = "none"
    """`none`: nothing. `direct`: its InferenceService is applied to the cluster, followed until the endpoint answers as
    that very version, and taken back if it does not. `gitops`: its release is proposed on a branch. Default `none`."""
    environment: ObjectName = "dev"
    """With `gitops`, which folder of `manifests/overlays` is changed. Default `dev`."""
    namespace: ObjectName = "fairlead"
    """With `direct`, namespace of the InferenceService. Default `fairlead`, which manifests/base makes."""
    timeout_seconds: int = Field(600, ge=1, le=86400)
    """With `direct`, seconds until the version must answer, and as many for the one before it after a failure.
    Default 600."""
    endpoint: str | None = None
    """With `direct`, address that is asked for its version, `https://topics.example.com`. Default: the model's
    Service, which a pod of the cluster asks itself and others ask through the API server."""
    force_conflicts: bool = False
    """With `direct`, whether fields of the InferenceService that another manager applied are taken over.
    Default false."""
    storage_container: ObjectName = "fairlead-s3"
    """With `direct`, ClusterStorageContainer that fetches the version. Default `fairlead-s3`."""
    priority_class: ObjectName = "fairlead-serving"
    """With `direct`, PriorityClass of the model's pods. Default `fairlead-serving`."""
    repository: str | None = None
    """With `gitops`, address of the git repository with the manifests: `https://git.example.com/team/models.git`.
    Its credentials are FAIRLEAD_GIT_USERNAME and FAIRLEAD_GIT_PASSWORD, from the Secret on a cluster. No default."""
    branch: Branch = "main"
    """With `gitops`, branch that the environment follows; the proposal starts from it. Default `main`."""
    canary_percent: int | None = Field(None, ge=1, le=99)
    """With `gitops`, part of the traffic that is proposed for the version, in percent. Default: none, all of it."""

    @field_validator("repository", "endpoint")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        # `git@` of an ssh address is no secret.
        if parts.password or parts.query or (parts.username and parts.scheme != "ssh"):
            raise ValueError("it has credentials, which everyone who sees the run would see; leave them away")
        if value.startswith("-") or "::" in value:
            raise ValueError("it is no address")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.mode == "gitops" and not self.repository:
            raise ValueError("repository is missing, which mode gitops needs; set it to the address of the manifests")
        if self.mode == "direct" and self.canary_percent is not None:
            raise ValueError("canary_percent is for mode gitops; in mode direct a version gets all of the traffic")
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError("endpoint is no address; write https://...")
        return self


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
    deploy: DeployConfig = Field(default_factory=DeployConfig)
    """Where it is served, once it is registered."""

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
