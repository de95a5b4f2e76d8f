"""What is evaluated: a data version, its tokens and the model trained on them."""

from dataclasses import dataclass
from pathlib import Path

from fairlead.errors import Conflict, IntegrityError
from fairlead.evaluation.config import EvaluationConfig
from fairlead.evaluation.judges import Terms
from fairlead.formats import dataset, tokens
from fairlead.formats.dataset import TEST, TRAIN, VALIDATION, DataManifest
from fairlead.formats.digests import of_file
from fairlead.formats.model import WEIGHTS, TrainingRecord, read_training
from fairlead.formats.tokens import TokensManifest
from fairlead.names import CLASSIFICATION


@dataclass(frozen=True)
class Inputs:
    """A data version, its tokens and the model trained on them, which have to belong together."""

    data: Path
    tokens: Path
    model: Path
    data_manifest: DataManifest
    tokens_manifest: TokensManifest
    record: TrainingRecord

    @classmethod
    def read(cls, data: Path, tokens_folder: Path, model: Path) -> "Inputs":
        """Read the three manifests.

        Raises Conflict when they do not belong together, and IntegrityError when the weights differ.
        """
        data_manifest, tokens_manifest = dataset.read_manifest(data), tokens.read_manifest(tokens_folder)
        record = read_training(model)
        if tokens_manifest.data_digest != data_manifest.digest or record.data_digest != data_manifest.digest:
            raise Conflict(f"evaluate: {model} was not trained on the data in {data}; run the stages before it again")
        if record.tokens_digest != tokens_manifest.digest or record.labels != tokens_manifest.labels:
            raise Conflict(f"evaluate: {model} was not trained on the tokens in {tokens_folder}; run train again")
        if of_file(model / WEIGHTS) != record.weights_digest:
            raise IntegrityError(f"{model / WEIGHTS}: it differs from training.json; run train again")
        return cls(data, tokens_folder, model, data_manifest, tokens_manifest, record)

    @property
    def labels(self) -> list[str]:
        """Class names by id."""
        return self.record.labels

    @property
    def positive(self) -> int | None:
        """The rarer of two classes in the training split, the second of equals; None for more classes."""
        if len(self.labels) != 2 or self.record.task != CLASSIFICATION:
            return None
        counts = self.data_manifest.splits[TRAIN].label_counts
        return 0 if counts.get(self.labels[0], 0) < counts.get(self.labels[1], 0) else 1

    def terms(self, settings: EvaluationConfig) -> Terms:
        """What the model's outputs mean."""
        return Terms(self.labels, self.record.thresholds, self.positive, settings.calibration_bins)

    @property
    def datasets(self) -> list[str]:
        """Names of the splits to evaluate, the test split first."""
        further = sorted(self.data_manifest.splits.keys() - {TRAIN, VALIDATION, TEST})
        return [TEST, *further]
