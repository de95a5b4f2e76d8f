"""Optimize a registered version: the same weights as a new version, with variants for another target or settings.

    python -m fairlead.optimization.again <request.json> <result.json>

A version never changes, so there is a new one; the same request finds the version that it made before. Texts are
those of the data version, read by the version's own tokenizer.
"""

import json
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from fairlead import places
from fairlead.config import Config
from fairlead.data.tokenization import Encoder
from fairlead.errors import ConfigError, FairleadError, StorageError
from fairlead.events import Progress
from fairlead.formats.atomic import write_bytes, write_json
from fairlead.formats.dataset import TEST, TRAIN, VALIDATION, read_manifest
from fairlead.formats.digests import of_json
from fairlead.formats.model import ModelManifest, digest_files, files_in, manifest_digest, signature_of
from fairlead.formats.tokens import TokenArrays, map_split, split_files
from fairlead.formats.variants import VARIANTS, OptimizationRecord
from fairlead.names import ModelRef, version_prefix
from fairlead.optimization.config import OptimizationConfig
from fairlead.optimization.material import Material, spread, texts
from fairlead.optimization.optimize import optimize, resolve_target, surroundings
from fairlead.optimization.stage import report
from fairlead.orphans import end_with_parent
from fairlead.registry import VersionRecord, open_registry
from fairlead.registry.fetching import fetch_data_version, fetch_version
from fairlead.registry.registration import clear, upload
from fairlead.registry.store import Registry
from fairlead.stage import defect_sentence, disk_sentence
from fairlead.storage import open_store


class Request(Config):
    """What to optimize."""

    ref: str
    """project, project:3 or project@alias."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of optimization that differ from the version's own."""
    again: bool = False
    """Whether it is measured anew though there is a version of the same request."""


def optimize_version(request: Request, folder: Path | None = None) -> tuple[VersionRecord, str]:
    """The optimized version and the path of its report, empty when it was there already and made elsewhere.

    Variants are built in `folder`, which a caller that outlives this process can remove; by default beside others'.

    Raises NotFound when there is no such version, or its data is gone, and ConfigError for a language model.
    """
    with open_registry() as registry:
        source = registry.resolve(ModelRef.parse(request.ref))
        if source.manifest.training.writes_text:
            raise ConfigError(f"{source.name}: a language model has one variant, its weights; there is nothing to do")
        recorded = source.manifest.optimization.config if source.manifest.optimization else {}
        config = OptimizationConfig.parse({**recorded, **request.settings, "enabled": True}, where="optimization")
        asked = {"optimizes": source.weights_digest, "run": source.run_id, **_asked(config)}
        closure = of_json(asked | ({"measurement": uuid.uuid4().hex} if request.again else {}))
        reservation = registry.reserve_version(source.project, closure)
        if reservation.committed:
            known = _page(reservation.name)
            return registry.get_version(reservation.project, reservation.number), str(known) if known.exists() else ""
        with tempfile.TemporaryDirectory(prefix="fairlead-optimize-", dir=folder) as temporary:
            model = fetch_version(f"{source.project}:{source.number}")
            material = material_of(source.manifest, model, config, Path(temporary))
            found = optimize(material, config, Path(temporary))
            return _publish(registry, source, closure, _files(model, Path(temporary), found), found)


def _page(version: str) -> Path:
    return places.home() / "optimizations" / f"{version}.html"


def _asked(config: OptimizationConfig) -> dict[str, Any]:
    return surroundings(config, resolve_target(config))


def material_of(manifest: ModelManifest, model: Path, config: OptimizationConfig, folder: Path) -> Material:
    """A version, fetched to `model`, with the rows of its data version; their tokens are written to `folder`.

    Raises NotFound when the data is gone, ConfigError when it has no data set of texts out of scope by that name.
    """
    record = manifest.training
    data = fetch_data_version(record.data_digest, stage="optimize")
    splits = read_manifest(data).splits
    if config.out_of_scope is not None and config.out_of_scope not in splits:
        names = ", ".join(sorted(splits))
        raise ConfigError(f"optimization.out_of_scope: there is no data set {config.out_of_scope!r}; it has {names}")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(record.max_length)
    encoder = Encoder(tokenizer, None, np.dtype("uint32"), record.labels, record.task)

    def encoded(split: str) -> TokenArrays:
        progress = Progress("optimize", f"tokenizing {split}", splits[split].num_rows, "rows")
        encoder.write_split(data, folder, split, progress)
        return map_split(split_files(folder, split), "uint32", record.task, len(record.labels))

    return Material(
        folder=model,
        record=record,
        pad_token_id=int(json.loads((model / "config.json").read_text("utf-8")).get("pad_token_id") or 0),
        train=texts(encoded(TRAIN), config.calibration_rows),
        validation=spread(encoded(VALIDATION), record, config.max_rows),
        test=spread(encoded(TEST), record, config.max_rows),
        out_of_scope=texts(encoded(config.out_of_scope), config.max_rows) if config.out_of_scope else [],
    )


def _files(model: Path, built: Path, found: OptimizationRecord) -> dict[str, Path]:
    """The files of the new version: the old one's without its variants, and the new variants."""
    old = {path.relative_to(model).as_posix(): path for path in files_in(model)}
    kept = {name: built / name for variant in found.variants if variant.kept for name in variant.files}
    return dict(sorted({**{n: p for n, p in old.items() if not n.startswith(f"{VARIANTS}/")}, **kept}.items()))


def _publish(
    registry: Registry, source: VersionRecord, closure: str, paths: dict[str, Path], found: OptimizationRecord
) -> tuple[VersionRecord, str]:
    reservation = registry.reserve_version(source.project, closure)
    training, files = source.manifest.training, digest_files(paths)
    signature = signature_of(training.task, found)
    changed = {
        "version": reservation.number,
        "name": reservation.name,
        "created": reservation.created,
        "files": files,
        "signature": signature,
        "optimization": found,
        "digest": manifest_digest(files, training.labels, signature, training, found),
    }
    manifest = source.manifest.model_copy(update=changed)
    store, prefix = open_store(places.store_url()), version_prefix(source.project, reservation.number)
    path = _page(reservation.name)
    with registry.upload_lock(reservation):
        # Another process may have made the same request, and ended while this one measured.
        if registry.reserve_version(source.project, closure).committed:
            return registry.get_version(source.project, reservation.number), str(path)
        clear(store, prefix, manifest)
        upload(store, prefix, paths, manifest)
        # Before the commit, so that a version that is there has its page.
        write_bytes(path, report(source.project, training, found).encode())
        return registry.commit_version(manifest, prefix), str(path)


def main(request: str, result: str) -> int:
    """Run the request in a file, and write the version's name or the error."""
    end_with_parent()
    try:
        asked = Request.parse(json.loads(Path(request).read_text("utf-8")), where=request)
        version, page = optimize_version(asked, Path(request).parent)
        outcome = {"version": f"{version.project}:{version.number}", "report": page}
    except FairleadError as error:
        outcome = {"kind": type(error).__name__, "message": str(error)}
    except OSError as error:
        outcome = {"kind": StorageError.__name__, "message": disk_sentence("optimize", error)}
    except Exception as error:
        outcome = {"kind": FairleadError.__name__, "message": defect_sentence("optimize", error)}
        write_json(Path(result), outcome)
        raise
    write_json(Path(result), outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
