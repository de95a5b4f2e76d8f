"""What a tokenizer is trained on."""

from collections.abc import Iterator
from pathlib import Path

from fairlead.events import Progress
from fairlead.formats import dataset
from fairlead.formats.dataset import DataManifest


def training_texts(data: Path, manifest: DataManifest) -> Iterator[str]:
    """Yield the texts of the training split and report progress."""
    progress = Progress("tokenize", "reading the training split", manifest.splits[dataset.TRAIN].num_rows, "rows")
    for text, _ in dataset.read_rows(data, dataset.TRAIN):
        yield text
        progress.advance()
