"""What the stages before register leave, written by hand: every digest is true, the weights are any bytes.

python -m tests.registry.stages <folder> <number of uploads after which the process is killed>

registers them in FAIRLEAD_REGISTRY and FAIRLEAD_STORE and kills itself before the next upload; with the number
of all uploads before the commit, with one more after it.
"""

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead import places
from fairlead.formats import dataset, evaluation, model, tokens
from fairlead.formats.digests import of_bytes
from fairlead.registry import Registry, VersionRecord, open_registry
from fairlead.registry.links import Candidate, read_candidate
from fairlead.registry.registration import register
from fairlead.storage import ObjectStore, open_store
from tests.registry import samples

FOLDERS = ("data", "tokens", "model", "evaluation", "verdict")


@dataclass
class Stages:
    """Folders of every stage, to be changed by a test."""

    folder: Path
    weights: bytes = b"weights"
    metrics: dict[str, float] = field(default_factory=lambda: {"macro_f1": 0.8})
    training: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)

    def write(self) -> "Stages":
        record = samples.training(weights=self.weights).model_copy(update=self.training)
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        dataset.write_manifest(self.folder / "data", samples.data_manifest())
        tokens.write_manifest(self.folder / "tokens", _tokens())
        (self.folder / "model" / model.WEIGHTS).write_bytes(self.weights)
        (self.folder / "model" / "config.json").write_text("{}")
        model.write_training(self.folder / "model", record)
        evaluation.write_report(self.folder / "evaluation", self._report(record))
        verdict = {"passed": True, "checks": [], **self.verdict}
        (self.folder / "verdict" / "verdict.json").write_text(json.dumps(verdict))
        return self

    def _report(self, record: model.TrainingRecord) -> evaluation.EvaluationReport:
        report = {
            "run_id": record.run_id,
            "weights_digest": record.weights_digest,
            "data_digest": record.data_digest,
            "evaluations": [samples.evaluation(self.metrics)],
            "config": {},
        }
        return evaluation.EvaluationReport.parse(report | self.report)

    @property
    def paths(self) -> list[str]:
        return [str(self.folder / name) for name in FOLDERS]

    def candidate(self) -> Candidate:
        return read_candidate("topics", *map(Path, self.paths))

    def record(self, registry: Registry) -> None:
        """What ingest and train put into the registry."""
        open_store(places.store_url()).put_bytes("data/x/manifest.json", b"{}")
        registry.record_data_version(samples.data_manifest(), "data/x/")
        samples.start_run(registry)
        registry.finish_run("run-1", "finished", weights_digest=of_bytes(self.weights), metrics={"macro_f1": 0.8})

    def register(self) -> VersionRecord:
        with open_registry() as registry:
            self.record(registry)
            return register(registry, open_store(places.store_url()), self.candidate())


class MortalStore:
    """A real store whose process dies instead of writing once more."""

    def __init__(self, store: ObjectStore, num_uploads: int) -> None:
        self._store, self._left = store, num_uploads

    def __getattr__(self, name: str) -> Any:
        if name.startswith("put_"):
            if self._left == 0:
                die()
            self._left -= 1
        return getattr(self._store, name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _tokens() -> tokens.TokensManifest:
    return tokens.TokensManifest(
        digest=samples.TOKENS_DIGEST,
        data_digest=samples.DATA_DIGEST,
        tokenizer_digest=of_bytes(b"tokenizer"),
        vocab_size=10,
        pad_token_id=0,
        max_length=16,
        dtype="uint16",
        labels=samples.LABELS,
        splits={},
        config={},
    )


def main(folder: str, num_uploads: str) -> None:
    stages = Stages(Path(folder))
    with open_registry() as registry:
        stages.record(registry)
        mortal: Any = MortalStore(open_store(places.store_url()), int(num_uploads))
        commit = registry.commit_version

        def commit_and_die(*arguments: Any) -> None:
            # One more than the uploads: the version is committed, and nobody is told.
            if mortal._left > 0:
                commit(*arguments)
            die()

        registry.commit_version = commit_and_die  # type: ignore[assignment, method-assign]
        register(registry, mortal, stages.candidate())


if __name__ == "__main__":
    main(*sys.argv[1:])
