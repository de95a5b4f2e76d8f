"""Names: projects, versions, object keys, labels and environment variables, each spelled once."""

import re
from dataclasses import dataclass
from typing import Literal

from fairlead.errors import ConfigError

PROJECT_PATTERN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
ALIAS_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# 63 bytes is Kubernetes' limit for a label value and a Service name; KServe appends "-predictor".
MAX_PROJECT_LENGTH = 63 - len("-predictor")

LABEL_PREFIX = "fairlead.dev/"
PROJECT_LABEL = LABEL_PREFIX + "project"
VERSION_LABEL = LABEL_PREFIX + "version"
RUN_LABEL = LABEL_PREFIX + "run"

MODEL_MANIFEST = "fairlead.json"
CHAMPION = "champion"
CHALLENGER = "challenger"

# What is learned from the data, as `data.task` has it.
TaskName = Literal["classification", "multi_label", "regression", "language_modeling"]
CLASSIFICATION: TaskName = "classification"
MULTI_LABEL: TaskName = "multi_label"
REGRESSION: TaskName = "regression"
LANGUAGE_MODELING: TaskName = "language_modeling"

# The value of `model.base` for a model without a base.
SCRATCH = "scratch"

# The address of a registered model version as a base: `fairlead://support_topics:3`.
VERSION_SCHEME = "fairlead://"

# Environment variables that Fairlead reads.
HOME_ENV = "FAIRLEAD_HOME"
STORE_ENV = "FAIRLEAD_STORE"
REGISTRY_ENV = "FAIRLEAD_REGISTRY"
EVENTS_ENV = "FAIRLEAD_EVENTS"
FRESH_ENV = "FAIRLEAD_FRESH"
CLUSTER_ENV = "FAIRLEAD_CLUSTER"
POD_ENV = "FAIRLEAD_POD"
NAMESPACE_ENV = "FAIRLEAD_NAMESPACE"
CHECKPOINTS_ENV = "FAIRLEAD_CHECKPOINTS"
CPUS_ENV = "FAIRLEAD_CPUS"
TENSORBOARD_ENV = "FAIRLEAD_TENSORBOARD"
PARENT_ENV = "FAIRLEAD_PARENT_PROCESS"
MLFLOW_URI_ENV = "MLFLOW_TRACKING_URI"
MLFLOW_EXPERIMENT_ENV = "MLFLOW_EXPERIMENT_NAME"
# What the metric sinks of training read; the credentials are those of MLflow's own client.
SINK_CONFIG_KEYS = (MLFLOW_URI_ENV, MLFLOW_EXPERIMENT_ENV, TENSORBOARD_ENV)
SINK_SECRET_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
# Who pushes the deploy step's proposals over https://.
GIT_USERNAME_ENV = "FAIRLEAD_GIT_USERNAME"
GIT_PASSWORD_ENV = "FAIRLEAD_GIT_PASSWORD"  # noqa: S105

# Where checkpoints may be kept by name: in the home folder, in the object store.
AT_HOME, IN_STORE = "home", "store"
# The folder, or the prefix in the store, that has one of each run.
CHECKPOINTS = "checkpoints"
# Object key prefix of what the nodes of a run hand each other.
RUNS = "runs"


def check_project(project: str) -> str:
    """Return `project`, or raise ConfigError when it is not a legal project name."""
    if not PROJECT_PATTERN.fullmatch(project) or len(project) > MAX_PROJECT_LENGTH:
        raise ConfigError(
            f"project: {project!r} is not a project name; use at most {MAX_PROJECT_LENGTH} of "
            "a-z, 0-9 and single _ between words, starting with a letter (support_topics)"
        )
    return project


def check_alias(alias: str) -> str:
    """Return `alias`, or raise ConfigError when it is not a legal alias name."""
    if not ALIAS_PATTERN.fullmatch(alias) or len(alias) > 63:
        raise ConfigError(f"alias: {alias!r} is not an alias; use at most 63 of a-z, 0-9 and single - between words")
    return alias


def version_name(project: str, number: int) -> str:
    """The name of a model version: `support_topics_v3`."""
    return f"{project}_v{number}"


def version_prefix(project: str, number: int) -> str:
    """The object key prefix of a model version, ending in `/`: `models/support_topics/v0003/`."""
    return f"models/{project}/v{number:04d}/"


def run_prefix(run_id: str) -> str:
    """The object key prefix of what the nodes of a run hand each other: `runs/run_43b037d9b5be/`."""
    return f"{RUNS}/{run_id}/"


def kubernetes_name(project: str) -> str:
    """The project's DNS-1035 name, for objects of Kubernetes: `support-topics`."""
    return project.replace("_", "-")


@dataclass(frozen=True)
class ModelRef:
    """What a user writes to name a model version: `project`, `project:3` or `project@champion`.

    Exactly one of `number` and `alias` is set; a bare project means its champion.
    """

    project: str
    number: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """Read `project`, `project:3`, `project:v3`, `project_v3` or `project@alias`.

        Raises ConfigError when `text` is none of these.
        """
        if "@" in text:
            project, alias = text.split("@", 1)
            return cls(check_project(project), alias=check_alias(alias))
        versioned = re.fullmatch(r"(.+?)(?::v?|_v)([0-9]{1,9})", text)
        if versioned:
            return cls(check_project(versioned[1]), number=int(versioned[2]))
        return cls(check_project(text), alias=CHAMPION)

    def __str__(self) -> str:
        return f"{self.project}@{self.alias}" if self.alias else f"{self.project}:{self.number}"
