"""The current champion, and the version that training continued, on the same test rows: all judged by one measure.

A recorded evaluation on these very rows is taken; otherwise the version is downloaded, every file
of it checked, and it scores the texts with its own tokenizer.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from fairlead.data.tokenization import Encoder
from fairlead.errors import Conflict, IntegrityError
from fairlead.evaluation.judges import JUDGES, Terms
from fairlead.events import Progress
from fairlead.formats import model as model_format
from fairlead.formats.dataset import TEST, DataManifest
from fairlead.formats.evaluation import ChampionScore, Evaluation
from fairlead.formats.tokens import TokenArrays, known_rows, map_split, split_files
from fairlead.names import MODEL_MANIFEST, ModelRef, TaskName
from fairlead.places import store_url
from fairlead.registry import VersionRecord, open_registry
from fairlead.storage.folders import download
from fairlead.storage.opening import open_store


@dataclass(frozen=True)
class Question:
    """What another version is asked: the test rows, and how the new model did on them."""

    project: str
    data: Path
    manifest: DataManifest
    own: Evaluation
    own_weights_digest: str
    own_task: TaskName
    terms: Terms


def score_champion(question: Question) -> tuple[ChampionScore | None, str | None]:
    """The champion's score on the test rows, or None with the reason a reader should know (None: no champion)."""
    with open_registry() as registry:
        champion = registry.champion(question.project)
        if champion is None:
            return None, None
    if champion.manifest.training.task != question.own_task:
        return None, f"{champion.name} learned another task and was not compared"
    # A version that continues another has the new classes last, not in order.
    if set(champion.manifest.labels) != set(question.own.labels):
        return None, f"{champion.name} knows other labels and was not compared"
    return _score(champion, question), None


def score_parent(question: Question) -> ChampionScore | None:
    """The score of the version that training continued on the test rows, which are its own; None when there is none.

    Raises NotFound when it is not registered any more and Conflict when another version has its name.
    """
    lineage = question.manifest.lineage
    if lineage is None:
        return None
    with open_registry() as registry:
        parent = registry.resolve(ModelRef.parse(lineage.parent))
    if parent.digest != lineage.parent_digest:
        raise Conflict(f"evaluate: {parent.name} is not the version that the data continues; run ingest again")
    return _score(parent, question)


def _score(version: VersionRecord, question: Question) -> ChampionScore:
    with open_registry() as registry:
        recorded = registry.find_evaluation(version.weights_digest, question.own.dataset_digest)
    if version.weights_digest == question.own_weights_digest:
        metrics = question.own.metrics
    elif recorded is not None and question.own.metrics.keys() <= recorded.metrics.keys():
        metrics = recorded.metrics
    else:
        metrics = _score_again(version, question)
    return ChampionScore(version=version.name, dataset_digest=question.own.dataset_digest, metrics=metrics)


def _score_again(version: VersionRecord, question: Question) -> dict[str, float]:
    # torch and transformers take 3 s to import, which a recorded evaluation spares.
    from fairlead.evaluation.scoring import score
    from fairlead.training.models.building import load_classifier

    with tempfile.TemporaryDirectory(prefix="fairlead-champion-") as temporary:
        folder = Path(temporary) / "model"
        _download(version, folder)
        model = load_classifier(folder)
        pad_token_id = int(getattr(model.config, "pad_token_id", None) or 0)
        arrays = _tokenize(version, folder, question, Path(temporary))
        outputs_NC = score(model, arrays, pad_token_id, version.name)
        targets = np.asarray(arrays.labels)
    known_N = known_rows(targets, question.own_task)
    terms = _terms(version, question)
    return JUDGES[question.own_task].measure(terms, targets[known_N], outputs_NC[known_N]).metrics


def _terms(version: VersionRecord, question: Question) -> Terms:
    labels, positive = version.manifest.labels, question.terms.positive
    name = None if positive is None else question.own.labels[positive]
    return replace(
        question.terms,
        labels=labels,
        thresholds=version.manifest.training.thresholds,
        positive=labels.index(name) if name in labels else None,
    )


def _download(version: VersionRecord, folder: Path) -> None:
    digests = {name: entry.sha256 for name, entry in version.manifest.files.items()}
    store = open_store(store_url())
    download(store, version.prefix, folder, last=MODEL_MANIFEST, digests=digests, stage="evaluate")
    if model_format.verify(folder).digest != version.digest:
        raise IntegrityError(
            f"{version.name}: the digest in the store differs from the registry's; "
            "it was replaced: set the champion alias to a version that is whole"
        )


def _tokenize(version: VersionRecord, folder: Path, question: Question, output: Path) -> TokenArrays:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    # The file itself cuts at the length the model was trained with, at the side that its base has it.
    if tokenizer.truncation is None:
        tokenizer.enable_truncation(version.manifest.training.max_length)
    progress = Progress("evaluate", f"tokenizing for {version.name}", question.manifest.splits[TEST].num_rows, "rows")
    training = version.manifest.training
    encoder = Encoder(tokenizer, None, np.dtype("uint32"), training.labels, training.task)
    encoder.write_split(question.data, output, TEST, progress)
    return map_split(split_files(output, TEST), "uint32", training.task, len(training.labels))
