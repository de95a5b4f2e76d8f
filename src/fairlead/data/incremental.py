"""What a new data version takes from the model version that training continues.

- The parent's test split, row for row: the frozen test set that both are judged on.
- A share of its training and validation rows, each replayed in the split of the same name, so that
  what the parent has learned is not forgotten (experience replay: Rolnick et al., 2019).
- Its classes in its order, so that a class keeps its id; new ones come after them.

New rows speak before replayed ones: a replayed row whose text stands among the new rows gives way.
A new row whose text the parent was trained on is trained on again, and never measured on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairlead.data.assignment import listed
from fairlead.data.config import IncrementalConfig
from fairlead.data.keys import key_of, normal_form
from fairlead.data.rows import Batch
from fairlead.errors import ConfigError, Conflict, DataError
from fairlead.events import Progress
from fairlead.formats import dataset
from fairlead.formats.dataset import TEST, TRAIN, VALIDATION, DataManifest, Lineage
from fairlead.formats.digests import of_json
from fairlead.names import LANGUAGE_MODELING, VERSION_SCHEME, ModelRef, TaskName
from fairlead.registry import open_registry
from fairlead.registry.fetching import fetch_data_version

# Sources of rows that the parent brings, and the split that each fills.
REPLAY, REPLAY_VALIDATION = "replay", "replay_validation"
SPLIT_OF = {REPLAY: TRAIN, REPLAY_VALIDATION: VALIDATION, TEST: TEST}
# The held-out rows of the new data: the name `test` is the parent's test set's.
NEW_TEST = "new_test"
RESERVED = frozenset({REPLAY, REPLAY_VALIDATION, NEW_TEST})
ROWS_PER_BATCH = 1024


@dataclass(frozen=True)
class Parent:
    """The version that is continued, and its data version on this machine."""

    name: str
    digest: str
    labels: list[str]
    folder: Path
    data: DataManifest
    config: IncrementalConfig

    def address(self, source: str) -> str:
        """Where the rows of a source come from: `fairlead://support_topics_v3/train`."""
        return f"{VERSION_SCHEME}{self.name}/{SPLIT_OF[source]}"

    def path(self, source: str) -> Path:
        """The split's file."""
        return self.folder / f"{SPLIT_OF[source]}.parquet"

    @property
    def sources(self) -> list[str]:
        """The sources that it brings: its test split, and with a replay the two others."""
        return [TEST, *([REPLAY, REPLAY_VALIDATION] if self.config.replay > 0 else [])]


def find_parent(config: IncrementalConfig, task: TaskName) -> Parent | None:
    """The parent that `config` names, with its data version fetched and verified; None without one.

    Raises NotFound when the version or its data is gone, IntegrityError when the data was changed and
    ConfigError when the parent has another task.
    """
    if config.parent is None:
        return None
    if task == LANGUAGE_MODELING:
        raise ConfigError(
            f"incremental.parent: a language model has no labelled test rows to be held to; to train {config.parent} "
            f"further, set model.base to {VERSION_SCHEME}{config.parent}"
        )
    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(config.parent))
    folder = fetch_data_version(version.data_digest, stage="ingest")
    labels = version.manifest.labels
    data = dataset.read_manifest(folder)
    if data.task != task:
        raise ConfigError(f"data.task: {task} is not the task of {version.name}; set it to {data.task}")
    return Parent(version.name, version.digest, labels, folder, data, config)


def read_source(parent: Parent, source: str, seed: int) -> Iterator[Batch]:
    """The rows of a source that the parent brings, each with its address and its row in the parent's split."""
    wanted = None if source == TEST else draw(parent, SPLIT_OF[source], seed)
    batch, where = Batch(), parent.address(source)
    for row, (text, label) in enumerate(dataset.read_rows(parent.folder, SPLIT_OF[source])):
        if wanted is None or wanted[row]:
            batch.add(text, label, row + 1, where)
        if len(batch.texts) == ROWS_PER_BATCH:
            yield batch
            batch = Batch()
    if batch.texts:
        yield batch


def draw(parent: Parent, split: str, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows of a split are replayed: round(rows x replay), spread evenly over the classes.

    Within a class they are drawn by the digest of their text, salted with the seed and the parent,
    so that a chain of versions does not replay the same rows for ever.
    """
    key = of_json([seed, parent.digest]).encode()[-64:]
    rows = dataset.read_rows(parent.folder, split)
    keyed = [(label, blake2b(normal_form(text).encode(), digest_size=8, key=key).digest()) for text, label in rows]
    order = sorted(range(len(keyed)), key=keyed.__getitem__)
    return spread(order, round(len(keyed) * parent.config.replay))


def spread(order: Sequence[int], count: int) -> npt.NDArray[np.bool_]:
    """A mask over rows with `count` of them set, at even distances along `order` (systematic sampling)."""
    places = np.arange(len(order) + 1) * count // max(1, len(order))
    mask = np.zeros(len(order), np.bool_)
    mask[np.asarray(order, np.int64)] = np.diff(places) > 0
    return mask


def seen_keys(parent: Parent, seed: int) -> npt.NDArray[np.uint64]:
    """The keys of every text that the parent was trained on, sorted: 8 bytes a row."""
    progress = Progress("ingest", "read what the parent was trained on", parent.data.splits[TRAIN].num_rows, "rows")
    keys = []
    for text, _ in dataset.read_rows(parent.folder, TRAIN):
        keys.append(key_of(text, seed))
        progress.advance()
    return np.unique(np.array(keys, np.uint64))


def class_order(parent: Parent | None, trained: Iterable[str]) -> list[str]:
    """The classes by id: the parent's in its order, then those of the training split that it lacks, sorted."""
    known = parent.labels if parent else []
    return [*known, *sorted(set(trained) - set(known))]


def check_labels(parent: Parent, labels: Iterable[str]) -> None:
    """Raise DataError for a class that the parent lacks, unless it is told to grow."""
    new = sorted(set(labels) - set(parent.labels))
    if new and parent.config.new_labels == "refuse":
        raise DataError(
            f"data.source: {listed(new)} unknown to {parent.name}; correct the labels, "
            "or set incremental.new_labels=grow to add them"
        )


def check_frozen(parent: Parent, digest: str) -> None:
    """Raise Conflict when the test split is not the parent's, row for row."""
    if digest != parent.data.splits[TEST].digest:
        raise Conflict(
            f"ingest: the test split of {parent.name} would not stay as it is (rows over data.max_text_bytes?); "
            "give data.max_text_bytes the value that the parent had"
        )


def lineage(parent: Parent, seed: int, replayed: dict[str, int]) -> Lineage:
    """What the manifest says of the parent; `replayed` are the rows that were kept, by source."""
    return Lineage(
        parent=parent.name,
        parent_digest=parent.digest,
        data_digest=parent.data.digest,
        labels=parent.labels,
        replay=parent.config.replay,
        seed=seed,
        replayed={SPLIT_OF[source]: num_rows for source, num_rows in replayed.items()},
    )
