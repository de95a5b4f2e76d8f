"""The register stage: a trained model that passed its gate becomes a version.

    reserve a number ──► upload under its lock, fairlead.json last ──► commit

It may be killed anywhere and run again: the same closure finds its number again, what was uploaded
is written anew, and a version that is committed already is only reported.
"""

from collections.abc import Mapping
from pathlib import Path

from fairlead import events, places
from fairlead.errors import Conflict, NotFound
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import canonical_json, short
from fairlead.formats.model import ModelManifest, digest_files, files_in, make_manifest, size_of
from fairlead.names import MODEL_MANIFEST, version_prefix
from fairlead.registry import open_registry
from fairlead.registry.links import Candidate, check_recorded, read_candidate
from fairlead.registry.records import Reservation, VersionRecord
from fairlead.registry.store import Registry
from fairlead.stage import stage
from fairlead.storage import ObjectStore, open_store
from fairlead.storage.folders import remove

VERSION = "version.json"


@stage("register")
def register_stage(
    project: str,
    data: str,
    tokens: str,
    model: str,
    evaluation: str,
    verdict: str,
    output: str,
    optimization: str | None = None,
) -> str:
    """Register the model and write `<output>/version.json`; returns the version's name.

    `optimization` is the folder that the optimize stage left.

    Raises NotFound or Conflict, naming the link, when the version would not be closed under all it came from.
    """
    folders = [Path(folder) for folder in (data, tokens, model, evaluation, verdict, optimization) if folder]
    candidate = read_candidate(project, *folders)
    with open_registry() as registry:
        version = register(registry, open_store(places.store_url()), candidate)
    write_json(Path(output) / VERSION, describe(version))
    events.result(
        "register", {"version": version.name, "aliases": " ".join(version.aliases), "digest": short(version.digest)}
    )
    return version.name


def describe(version: VersionRecord) -> dict[str, object]:
    """What `version.json` holds."""
    return {
        "name": version.name,
        "number": version.number,
        "digest": version.digest,
        "prefix": version.prefix,
        "aliases": version.aliases,
    }


def register(registry: Registry, store: ObjectStore, candidate: Candidate) -> VersionRecord:
    """Make a candidate a version, or find the version that it is already."""
    check_recorded(registry, store, candidate)
    reservation = registry.reserve_version(candidate.project, candidate.closure)
    with registry.upload_lock(reservation):
        # While this process waited for the lock, another may have ended the same registration.
        current = registry.reserve_version(candidate.project, candidate.closure)
        if current.committed:
            return registry.get_version(current.project, current.number)
        if current == reservation:
            return _publish(registry, store, candidate, reservation)
    # `store gc` gave the reservation up before the lock was held; the closure has a new number now.
    return register(registry, store, candidate)


def _publish(registry: Registry, store: ObjectStore, candidate: Candidate, reservation: Reservation) -> VersionRecord:
    manifest = _manifest(candidate, reservation)
    prefix = version_prefix(reservation.project, reservation.number)
    clear(store, prefix, manifest)
    upload(store, prefix, files_of(candidate), manifest)
    return registry.commit_version(manifest, prefix, candidate.promotion)


def _manifest(candidate: Candidate, reservation: Reservation) -> ModelManifest:
    paths = files_of(candidate)
    progress = events.Progress("register", f"digest {reservation.name}", sum(map(size_of, paths.values())), "bytes")
    files, training = digest_files(paths, progress.advance), candidate.training
    return make_manifest(
        reservation.number,
        reservation.created,
        training,
        files,
        candidate.optimization,
        evaluations=[evaluation.to_dict() for evaluation in candidate.report.evaluations],
        evaluation_config=candidate.evaluation_config,
        checks=candidate.checks,
    )


def files_of(candidate: Candidate) -> dict[str, Path]:
    """Every file of the version by its path in it: the model's, and those of the variants that it keeps."""
    named = {path.relative_to(candidate.folder).as_posix(): path for path in files_in(candidate.folder)}
    return dict(sorted({**named, **_variant_files(candidate)}.items()))


def _variant_files(candidate: Candidate) -> dict[str, Path]:
    if candidate.optimization is None or candidate.variants is None:
        return {}
    kept = (variant for variant in candidate.optimization.variants if variant.kept)
    return {name: candidate.variants / name for variant in kept for name in variant.files}


def clear(store: ObjectStore, prefix: str, manifest: ModelManifest) -> None:
    """Remove what a killed upload left. Raises Conflict for a version that this registry did not write."""
    try:
        content = store.get_bytes(prefix + MODEL_MANIFEST)
    except NotFound:
        content = None
    # The moment of reservation tells whose it is: numbers of one registry are never used twice.
    if content is not None and canonical_json({"created": manifest.created})[1:-1] not in content:
        raise Conflict(
            f"{store.url}: it holds a {manifest.name} that this registry did not write; "
            "use the registry that belongs to this store, or another store"
        )
    remove(store, prefix, first=MODEL_MANIFEST)


def upload(store: ObjectStore, prefix: str, paths: Mapping[str, Path], manifest: ModelManifest) -> None:
    """Write the files, `fairlead.json` last."""
    size = sum(entry.size for entry in manifest.files.values())
    progress = events.Progress("register", f"upload {manifest.name}", size, "bytes")
    for name in manifest.files:
        store.put_file(prefix + name, paths[name], progress.advance)
    store.put_bytes(prefix + MODEL_MANIFEST, canonical_json(manifest.to_dict()))
