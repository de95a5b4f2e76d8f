"""What the stage hands to every rank, as a JSON file."""

import json
from pathlib import Path
from typing import Any

from fairlead.config import Config
from fairlead.storage.sources import redact
from fairlead.training.config import ModelConfig, TrainConfig


class Job(Config):
    """One run of training, fully resolved."""

    run_id: str
    """Name of the run, the same whenever the same training is asked for."""
    project: str
    """The project."""
    tokens: str
    """Folder of the tokenized data version."""
    base: str | None
    """Local folder of the base model; None from scratch."""
    parent: str | None
    """Digest of the base model; None from scratch."""
    parent_version: str | None = None
    """Name of the base model when it is a registered version."""
    data: dict[str, Any]
    """The resolved DataConfig, for the record."""
    data_folder: str | None = None
    """Folder of the data version; None where only its tokens are at hand."""
    lineage: dict[str, Any] | None = None
    """The data version's Lineage when it continues a version, for the record."""
    model: ModelConfig
    """Which model."""
    training: TrainConfig
    """How."""
    folder: str
    """Local folder of the run: its lock and the finished model."""
    checkpoints: str
    """Address of the run's checkpoints, a folder or `s3://`."""
    threads: int
    """CPU threads of each rank."""

    def sections(self, tokenization: dict[str, Any]) -> dict[str, Any]:
        """The resolved settings by section, as they are recorded."""
        sections = {
            "data": self.data,
            "tokenization": tokenization,
            "model": self.model.to_dict() | {"base": redact(self.model.base)},
            "training": self.training.to_dict(),
        }
        # What was asked for; the labels and the rows that came of it are in the data version's manifest.
        asked = {name: value for name, value in (self.lineage or {}).items() if name in ("parent", "replay", "seed")}
        return sections | ({"incremental": asked} if asked else {})


def read_job(path: Path) -> Job:
    """Read what `write_json(path, job.to_dict())` wrote."""
    return Job.parse(json.loads(path.read_text("utf-8")), where=str(path))
