"""A trained classifier small enough to make in a second: two or three topics that single words give away."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

from fairlead.data.config import TokenizationConfig
from fairlead.data.tokenization import tokenize
from fairlead.formats import dataset, tokens
from fairlead.formats.digests import of_file
from fairlead.formats.model import WEIGHTS, Code, Environment, TrainingRecord, write_training
from fairlead.training.config import ModelConfig
from fairlead.training.models.building import build_model

TOPICS = {"fish": ["salmon", "trout", "reef"], "rock": ["granite", "basalt", "quartz"], "tree": ["oak", "pine", "elm"]}
FILLER = ["a", "the", "very", "old", "was", "seen", "near", "town"]


def rows_about(labels: list[str], num_rows: int, seed: int) -> list[tuple[str, str]]:
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(num_rows):
        label = labels[i % len(labels)]
        words = [*draw.choice(FILLER, draw.integers(2, 9)), draw.choice(TOPICS[label])]
        rows.append((" ".join(draw.permutation(words)), label))
    return rows


@dataclass(frozen=True)
class Trained:
    """Folders as the stages before evaluate leave them."""

    data: Path
    tokens: Path
    model: Path


@pytest.fixture(scope="session")
def train_tiny(write_data: Callable[..., Path]) -> Callable[..., Trained]:
    """Trains a tiny model on a data version's training split and writes it as train would."""

    def train(folder: Path, splits: dict[str, list[tuple[str, str]]], seed: int = 0, steps: int = 60) -> Trained:
        data = write_data(folder / "data", splits)
        manifest = tokenize(data, TokenizationConfig(vocab_size=200, max_length=16), "scratch", folder / "tokens")
        torch.manual_seed(seed)
        config = ModelConfig(depth=1, dropout=0.0)
        model = build_model(config, manifest)
        fit(model, folder / "tokens", manifest, steps)
        save(model, folder / "model", folder / "tokens", manifest, seed)
        return Trained(data, folder / "tokens", folder / "model")

    return train


def fit(model: torch.nn.Module, folder: Path, manifest: tokens.TokensManifest, steps: int) -> None:
    arrays = tokens.open_split(folder, manifest, "train")
    rows = [torch.from_numpy(arrays.row(i).astype(np.int64)) for i in range(arrays.num_rows)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=manifest.pad_token_id)
    labels = torch.from_numpy(np.array(arrays.labels, np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        mask = (ids != manifest.pad_token_id).long()
        loss = torch.nn.functional.cross_entropy(model(input_ids=ids, attention_mask=mask).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def save(model: torch.nn.Module, folder: Path, token_folder: Path, manifest: tokens.TokensManifest, seed: int) -> None:
    folder.mkdir()
    model.config.save_pretrained(folder)
    save_model(model, str(folder / WEIGHTS), metadata={"format": "pt"})
    for path in (token_folder / tokens.TOKENIZER).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    zeros = "sha256:" + "0" * 64
    machine = Environment(python="3", torch="2", packages_digest=zeros, hardware="cpu", world_size=1, num_threads=1)
    record = TrainingRecord(
        run_id=f"run-{seed}",
        project="topics",
        data_digest=manifest.data_digest,
        tokens_digest=manifest.digest,
        weights_digest=of_file(folder / WEIGHTS),
        labels=manifest.labels,
        max_length=manifest.max_length,
        config={
            "data": {"source": "x"},
            "tokenization": {"kind": "wordpiece"},
            "model": {"base": "scratch"},
            "training": {"seed": seed},
        },
        seed=seed,
        steps=1,
        best_step=1,
        validation={},
        seconds=1.0,
        environment=machine,
        code=Code(package="fairlead", source_digest=zeros),
    )
    write_training(folder, record)


@pytest.fixture(scope="session")
def three_topics(tmp_path_factory: pytest.TempPathFactory, train_tiny: Callable[..., Trained]) -> Trained:
    """Three classes; a mislabelled test row, and a further data set with a label that training never saw."""
    labels = ["fish", "rock", "tree"]
    splits = {
        dataset.TRAIN: rows_about(labels, 60, 0),
        dataset.VALIDATION: rows_about(labels, 6, 1),
        dataset.TEST: [*rows_about(labels, 30, 2), ("<script>alert('oak')</script> & the very old oak pine", "fish")],
        "abroad": [*rows_about(["fish", "rock"], 12, 3), ("a cloud was seen", "sky"), ("the cloud", "sky")],
    }
    return train_tiny(tmp_path_factory.mktemp("three"), splits)


@pytest.fixture(scope="session")
def two_topics(tmp_path_factory: pytest.TempPathFactory, train_tiny: Callable[..., Trained]) -> Trained:
    """Two classes, `fish` half as frequent as `rock`, and a further data set with one of them."""
    labels = ["rock", "rock", "fish"]
    splits = {
        dataset.TRAIN: rows_about(labels, 60, 0),
        dataset.VALIDATION: rows_about(labels, 6, 1),
        dataset.TEST: [*rows_about(labels, 30, 2), ("the old salmon reef", "rock")],
        "stones": rows_about(["rock"], 5, 3),
    }
    return train_tiny(tmp_path_factory.mktemp("two"), splits)
