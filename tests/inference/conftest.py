from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead import places
from fairlead.formats.dataset import DataManifest, SplitSummary
from fairlead.formats.digests import of_bytes
from fairlead.formats.model import read_manifest
from fairlead.names import CHAMPION, MODEL_MANIFEST, version_prefix
from fairlead.registry import open_registry
from fairlead.storage import open_store
from fairlead.storage.folders import publish
from tests.tiny import make_version


@pytest.fixture
def register(tmp_path: Path) -> Callable[[int], Path]:
    """Register the tiny version under the next number, as champion; returns the folder it was made in."""
    return lambda seed: register_version(tmp_path, seed)


def register_version(
    tmp_path: Path, seed: int, project: str = "support_topics", make: Callable[..., Path] = make_version
) -> Path:
    """The same in the places that the environment names, of a version as `make` writes it."""
    with open_registry() as registry:
        reservation = registry.reserve_version(project, f"closure {seed}")
        folder = make(tmp_path / f"made-{seed}", project, number=reservation.number, seed=seed)
        manifest = read_manifest(folder)
        training = manifest.training
        summary = SplitSummary(num_rows=1, digest=of_bytes(b"rows"), label_counts=dict.fromkeys(manifest.labels, 1))
        data = DataManifest(
            digest=training.data_digest,
            labels=manifest.labels,
            splits=dict.fromkeys(("train", "validation", "test"), summary),
            sources={"train": "a.csv"},
            source_digests={"a.csv": of_bytes(b"a")},
            config={},
            findings={},
        )
        registry.record_data_version(data, "data/x/")
        registry.start_run(
            training.run_id,
            training.project,
            training.data_digest,
            training.tokens_digest,
            training.config,
            0,
            training.environment,
            training.code,
        )
        prefix = version_prefix(project, reservation.number)
        publish(open_store(places.store_url()), folder, prefix, last=MODEL_MANIFEST)
        registry.commit_version(manifest, prefix)
        registry.set_alias(project, CHAMPION, reservation.number)
    return folder
