"""What the registry answers with. Times are ISO 8601 in UTC; digests read `sha256:<hex>`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from fairlead.formats.evaluation import ChampionScore
from fairlead.formats.model import Code, Environment, ModelManifest
from fairlead.names import version_name

RunStatus = Literal["running", "finished", "failed"]
FinalStatus = Literal["finished", "failed"]
FeedbackStatus = Literal["stored", "unchanged", "replaced"]


@dataclass(frozen=True)
class RunRecord:
    """One run of training. `attempts` counts its starts: more than 1 after it was killed and resumed."""

    run_id: str
    project: str
    data_digest: str
    tokens_digest: str
    config: dict[str, Any]
    seed: int
    environment: Environment
    code: Code
    status: RunStatus
    reason: str | None
    attempts: int
    started: str
    finished: str | None
    weights_digest: str | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class MetricPoint:
    """One value of one metric at one step; `time` is in seconds since the epoch. NaN and infinity read back as NaN."""

    name: str
    step: int
    value: float
    time: float


@dataclass(frozen=True)
class DataVersionRecord:
    """One data version; `prefix` is its key prefix in the object store, `manifest` its manifest.json."""

    digest: str
    prefix: str
    created: str
    num_rows: int
    labels: list[str]
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Reservation:
    """A number allocated to one closure. Until it is `committed` no reader sees the version."""

    project: str
    number: int
    created: str
    committed: bool

    @property
    def name(self) -> str:
        """The version's name: `support_topics_v3`."""
        return version_name(self.project, self.number)


@dataclass(frozen=True)
class EvaluationRecord:
    """How a version did on one data set. `summary` is the whole Evaluation, None when only metrics are known."""

    project: str
    number: int
    dataset: str
    dataset_digest: str
    weights_digest: str
    num_rows: int | None
    metrics: dict[str, float]
    summary: dict[str, Any] | None


@dataclass(frozen=True)
class VersionRecord:
    """One model version that readers may use. `metrics` are those of the test split."""

    project: str
    number: int
    name: str
    digest: str
    prefix: str
    run_id: str
    data_digest: str
    weights_digest: str
    created: str
    aliases: list[str]
    metrics: dict[str, float]
    manifest: ModelManifest = field(repr=False)


@dataclass(frozen=True)
class ModelRecord:
    """One project that has at least one version. `aliases` maps an alias to a version's number."""

    project: str
    num_versions: int
    latest: int
    updated: str
    aliases: dict[str, int]


@dataclass(frozen=True)
class Promotion:
    """When a new version takes the champion's place: `metric` on `dataset_digest` is not worse.

    `champion` is the champion's score as evaluation measured it, used when the registry has none on that data set.
    """

    metric: str
    dataset_digest: str
    champion: ChampionScore | None = None


@dataclass(frozen=True)
class Feedback:
    """The true label of one text that was predicted.

    `label` is a class, a list of classes or a number. `project`, `number` and `answer`, what was predicted, are None
    while the prediction's record is not found.
    """

    prediction_id: str
    index: int
    label: str | float | list[str]
    project: str | None = None
    number: int | None = None
    answer: dict[str, Any] | None = None


@dataclass(frozen=True)
class FeedbackRecord(Feedback):
    """The same as it is kept. `revisions` counts how often another label took its place."""

    first_received: str = ""
    received: str = ""
    revisions: int = 0
