"""A trained model on disk (what train leaves) and a model version in the store (what register publishes).

A trained model is a folder in the Hugging Face layout (`config.json`, `model.safetensors`, tokenizer
files) with `training.json` beside it (TrainingRecord). A version is the same folder with
`fairlead.json` (ModelManifest) written last: a folder without it does not exist for any reader.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field as PydanticField

from fairlead.config import Config
from fairlead.errors import IntegrityError, NotFound
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import of_file, of_json
from fairlead.formats.variants import OptimizationRecord
from fairlead.names import (
    CLASSIFICATION,
    LANGUAGE_MODELING,
    MODEL_MANIFEST,
    MULTI_LABEL,
    REGRESSION,
    TaskName,
    version_name,
)

TRAINING = "training.json"
# Fields of the record that came later: at their default they are left out of digests, which stay as they were.
LATER_FIELDS = ("parent_version", "task", "thresholds", "micro_batch_tokens")
WEIGHTS = "model.safetensors"
# These number positions from pad_token_id + 1, so that many rows of their table are lost.
OFFSET_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "longformer"}


class Environment(Config):
    """What a run ran on and with."""

    python: str
    """Version of Python."""
    torch: str
    """Version of torch with its build (`2.13.0+cpu`)."""
    packages_digest: str
    """SHA-256 over the sorted `name==version` lines of every installed distribution."""
    image_digest: str | None = None
    """Digest of the container image, when the run was in one (FAIRLEAD_IMAGE_DIGEST)."""
    hardware: str
    """Hardware class: device and processor model (`cpu: AMD EPYC`, `cuda: NVIDIA H200`)."""
    world_size: int
    """Processes that trained together."""
    num_threads: int
    """Threads of each process."""


class Code(Config):
    """Which code ran."""

    package: str
    """Name and version of the package (`fairlead 0.1.0`)."""
    source_digest: str
    """SHA-256 over the paths and bytes of every source file of fairlead, components, pipelines and serving."""
    commit: str | None = None
    """Git commit of the checkout, when there is one (or FAIRLEAD_REVISION in an image)."""
    diff_digest: str | None = None
    """SHA-256 of `git diff HEAD` and of untracked files when the checkout was dirty."""


class TrainingRecord(Config):
    """`training.json`: everything a trained model came from."""

    format: int = 1
    """Version of this format."""
    run_id: str
    """The run in the registry."""
    project: str
    """The project."""
    data_digest: str
    """The data version."""
    tokens_digest: str
    """The tokenized data version."""
    weights_digest: str
    """SHA-256 of model.safetensors."""
    task: TaskName = CLASSIFICATION
    """What was learned; records of before there were tasks are of classification."""
    labels: list[str]
    """Class names; the index is the class id. Empty where there are no classes."""
    thresholds: list[float] = PydanticField(default_factory=list)
    """Probability from which on a text has each label, 0 to 1, by class id; for multi-label only."""
    max_length: int
    """Tokens of a text at most."""
    config: dict[str, Any]
    """Resolved sections: data, tokenization, model, training; incremental when it continues a version."""
    seed: int
    """Seed of the run."""
    parent: str | None = None
    """Digest or name of the base that training started from; None from scratch."""
    parent_version: str | None = None
    """The base's name (`support_topics_v3`) when it is a registered version, whose digest `parent` then is."""
    steps: int
    """Optimizer steps done."""
    best_step: int
    """The step whose weights these are."""
    validation: dict[str, float]
    """Validation metrics at best_step."""
    micro_batch_tokens: int | None = None
    """What was found to fit when memory ran out; None when the setting did."""
    seconds: float
    """Wall time of training, restarts not counted."""
    environment: Environment
    """Where it ran."""
    code: Code
    """What ran."""

    def identity(self) -> dict[str, Any]:
        """What digests are taken over: everything but fields of LATER_FIELDS that say nothing."""
        silent = {name for name in LATER_FIELDS if getattr(self, name) in (None, [], CLASSIFICATION)}
        return {name: value for name, value in self.to_dict().items() if name not in silent}

    @property
    def writes_text(self) -> bool:
        """Whether this is a language model, which continues texts and labels none."""
        return self.task == LANGUAGE_MODELING or self.config.get("data", {}).get("task") == LANGUAGE_MODELING


class FileEntry(Config):
    """One file of a version."""

    sha256: str
    """`sha256:<hex>` of the bytes."""
    size: int
    """Bytes."""


class Field(Config):
    """One input or output of the model's signature, in the words of the Open Inference Protocol."""

    name: str
    """Name of the tensor."""
    datatype: str
    """Datatype: BYTES, FP32, INT64."""
    shape: list[int]
    """Shape; -1 is a dimension of any size."""


class Signature(Config):
    """What the model takes and gives."""

    inputs: list[Field]
    """Tensors in."""
    outputs: list[Field]
    """Tensors out."""


CLASSIFIER_SIGNATURE = Signature(
    inputs=[Field(name="text", datatype="BYTES", shape=[-1])],
    outputs=[
        Field(name="label", datatype="BYTES", shape=[-1]),
        Field(name="probability", datatype="FP32", shape=[-1]),
    ],
)
# The same with any number of labels a text: a list of them and of their probabilities, as JSON.
MULTI_LABEL_SIGNATURE = Signature(
    inputs=CLASSIFIER_SIGNATURE.inputs,
    outputs=[
        Field(name="labels", datatype="BYTES", shape=[-1]),
        Field(name="label_probabilities", datatype="BYTES", shape=[-1]),
    ],
)
REGRESSION_SIGNATURE = Signature(
    inputs=CLASSIFIER_SIGNATURE.inputs, outputs=[Field(name="value", datatype="FP32", shape=[-1])]
)
LANGUAGE_SIGNATURE = Signature(
    inputs=[Field(name="text", datatype="BYTES", shape=[-1])],
    outputs=[Field(name="text", datatype="BYTES", shape=[-1])],
)
SIGNATURES: dict[TaskName, Signature] = {
    CLASSIFICATION: CLASSIFIER_SIGNATURE,
    MULTI_LABEL: MULTI_LABEL_SIGNATURE,
    REGRESSION: REGRESSION_SIGNATURE,
    LANGUAGE_MODELING: LANGUAGE_SIGNATURE,
}


REJECTED = Field(name="rejected", datatype="BOOL", shape=[-1])


def signature_of(task: TaskName, optimization: OptimizationRecord | None = None) -> Signature:
    """What a version of this task takes and gives; with a rejection threshold it also says what it rejects."""
    signature = SIGNATURES[task]
    if optimization is None or optimization.rejection_threshold is None:
        return signature
    return Signature(inputs=signature.inputs, outputs=[*signature.outputs, REJECTED])


class ModelManifest(Config):
    """`fairlead.json` of a model version."""

    format: int = 1
    """Version of this format."""
    project: str
    """The project."""
    version: int
    """N of `<project>_v<N>`."""
    name: str
    """`<project>_v<N>`."""
    created: str
    """When the number was allocated, ISO 8601 in UTC."""
    digest: str
    """SHA-256 over `files`, `labels`, `signature`, `training` and, where there is one, the identity of `optimization`:
    what answers carry."""
    files: dict[str, FileEntry]
    """Every file of the version but this one, by path relative to the folder."""
    labels: list[str]
    """Class names; the index is the class id."""
    signature: Signature
    """Inputs and outputs."""
    training: TrainingRecord
    """Everything the weights came from."""
    evaluations: list[dict[str, Any]]
    """One Evaluation summary a data set (formats.evaluation)."""
    evaluation_config: dict[str, Any] = PydanticField(default_factory=dict)
    """What judged it: bins and mistakes of the evaluation, champion_metric, and the gate's bounds by metric;
    empty in versions of before this was kept."""
    checks: list[dict[str, Any]] = PydanticField(default_factory=list)
    """The gate's checks: kind, metric, value, bound, at_most, passed; of a champion also its name and value."""
    optimization: OptimizationRecord | None = None
    """Its variants and which of them serves; None where the optimize stage did not run."""


def usable_positions(model_type: str | None, positions: int, pad_token_id: int) -> int:
    """Tokens that a model of the Hugging Face layout can read, from the rows of its table of positions."""
    return positions - pad_token_id - 1 if model_type in OFFSET_POSITIONS else positions


def manifest_digest(
    files: dict[str, FileEntry],
    labels: list[str],
    signature: Signature,
    training: TrainingRecord,
    optimization: OptimizationRecord | None = None,
) -> str:
    """The version's digest."""
    identity = {
        "files": {name: entry.to_dict() for name, entry in files.items()},
        "labels": labels,
        "signature": signature.to_dict(),
        "training": training.identity(),
    }
    # Versions of before there was this stage keep their digest.
    return of_json(identity | ({"optimization": optimization.identity()} if optimization else {}))


def make_manifest(
    number: int,
    created: str,
    training: TrainingRecord,
    files: dict[str, FileEntry],
    optimization: OptimizationRecord | None = None,
    **judged: Any,
) -> ModelManifest:
    """The manifest of version `number` of the training's project; `judged` are the fields of its evaluation."""
    signature = signature_of(training.task, optimization)
    return ModelManifest(
        project=training.project,
        version=number,
        name=version_name(training.project, number),
        created=created,
        digest=manifest_digest(files, training.labels, signature, training, optimization),
        files=files,
        labels=training.labels,
        signature=signature,
        training=training,
        optimization=optimization,
        **{"evaluations": [], **judged},
    )


def list_files(folder: Path, advance: Callable[[int], None] | None = None) -> dict[str, FileEntry]:
    """Digest and size of every file under `folder` but its own manifest, by relative path; `advance` is told bytes."""
    return digest_files({path.relative_to(folder).as_posix(): path for path in files_in(folder)}, advance)


def files_in(folder: Path) -> list[Path]:
    """Every file under `folder` but its own manifest, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MODEL_MANIFEST)


def digest_files(paths: Mapping[str, Path], advance: Callable[[int], None] | None = None) -> dict[str, FileEntry]:
    """Digest and size of files, by the name that each has in a version; `advance` is told bytes."""
    return {name: FileEntry(sha256=of_file(path, advance), size=size_of(path)) for name, path in paths.items()}


def size_of(path: Path) -> int:
    """Bytes of a file."""
    return path.stat().st_size


def read_training(folder: Path) -> TrainingRecord:
    """Read `training.json`. Raises NotFound when `folder` holds no trained model."""
    return TrainingRecord.parse(_read_json(folder / TRAINING, "trained model"), where=str(folder))


def write_training(folder: Path, record: TrainingRecord) -> None:
    """Write `training.json`, last."""
    write_json(folder / TRAINING, record.to_dict())


def read_manifest(folder: Path) -> ModelManifest:
    """Read `fairlead.json`. Raises NotFound when `folder` holds no version."""
    return ModelManifest.parse(_read_json(folder / MODEL_MANIFEST, "model version"), where=str(folder))


def parse_manifest(content: bytes, where: str) -> ModelManifest:
    """A manifest from its bytes; raises IntegrityError, naming `where`, when they are none."""
    try:
        value = json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{where}: it is not JSON ({error}); write it again") from error
    return ModelManifest.parse(value, where=where)


def verify(folder: Path) -> ModelManifest:
    """Check every file of a version against its manifest before anything is loaded.

    Raises IntegrityError, naming the first file that is missing, added or different.
    """
    manifest = read_manifest(folder)
    found = list_files(folder)
    for name in sorted(manifest.files.keys() | found.keys()):
        if name not in found:
            raise IntegrityError(f"{folder / name}: the file is missing; download the version again")
        if name not in manifest.files:
            raise IntegrityError(f"{folder / name}: the manifest does not name this file; remove it")
        if found[name] != manifest.files[name]:
            raise IntegrityError(
                f"{folder / name}: its SHA-256 or size differs from {MODEL_MANIFEST}; "
                "it was changed or truncated: download the version again"
            )
    digest = manifest_digest(
        manifest.files, manifest.labels, manifest.signature, manifest.training, manifest.optimization
    )
    if digest != manifest.digest:
        raise IntegrityError(f"{folder / MODEL_MANIFEST}: it differs from its own digest; download it again")
    return manifest


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"{path.parent}: it holds no {what} (no {path.name}); check the path") from error
    except NotADirectoryError as error:
        raise NotFound(f"{path.parent}: it is a file, not the folder of a {what}; name the folder") from error
    except OSError as error:
        raise IntegrityError(f"{path}: it cannot be read ({error.strerror or error}); check its permissions") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: it is not JSON ({error}); write it again") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: an object is expected; write it again")
    return value
