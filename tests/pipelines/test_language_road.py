"""A language model goes the whole road: text in, a registered version out, and a prompt continued by it."""

import json
from pathlib import Path

import pytest

from fairlead.cli.main import main
from fairlead.formats.evaluation import HTML, read_report
from fairlead.formats.model import LANGUAGE_SIGNATURE
from fairlead.inference.config import GenerationConfig
from fairlead.inference.generation import Writer
from fairlead.names import ModelRef
from fairlead.project import ProjectConfig
from fairlead.registry import open_registry
from fairlead.registry.fetching import fetch_version
from tests.pipelines.road import walk

TEXT = "".join(f"the {a} saw the {b} and ran\n" for a in ("cat", "dog", "fox") for b in ("hen", "rat")) * 40


def project(source: Path, **gate: float) -> ProjectConfig:
    values = {
        "project": "tiny_tales",
        "data": {"source": str(source), "task": "language_modeling", "test_fraction": 0.2},
        "tokenization": {"kind": "character", "max_length": 16},
        "model": {"depth": 1, "dropout": 0},
        "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "optimizer": "muon", "threads": 1},
        "evaluation": {"gate": gate},
    }
    return ProjectConfig.parse(values)


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What `fairlead <arguments>` prints; it must end well."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


@pytest.mark.timeout(900)
def test_a_text_becomes_a_version_that_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "tales.txt"
    source.write_text(TEXT)
    evaluated = walk(project(source, nats_per_character=0.9, perplexity=3), tmp_path / "first")["evaluate"]
    metrics = read_report(evaluated).evaluations[0].metrics
    assert 0 < metrics["nats_per_character"] < 0.9 and metrics["bits_per_byte"] > metrics["nats_per_character"]
    page = (evaluated / HTML).read_text("utf-8")
    assert "What it writes" in page and "nats a character" in page
    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse("tiny_tales"))
    assert version.manifest.signature == LANGUAGE_SIGNATURE and version.manifest.labels == []
    assert version.metrics["nats_per_character"] == metrics["nats_per_character"]
    writer = Writer.load(fetch_version("tiny_tales"))
    found = writer.write(["the dog saw the "], GenerationConfig(temperature=0, stop=["\n"], max_new_tokens=40))[0]
    assert found.text and set(found.text) <= set(TEXT) - {"\n"} and found.ended == "stop"
    # Another text makes another version, compared with the champion by its own tokenizer.
    source.write_text(TEXT.replace("fox", "owl"))
    again = walk(project(source), tmp_path / "again")
    champion = read_report(again["evaluate"]).champion
    assert champion is not None and champion.version == "tiny_tales_v1"
    assert champion.metrics["nats_per_character"] > 0
    shown = say(capsys, "models", "show", "tiny_tales")
    assert "nats_per_character" in shown and "language_modeling" in shown and "labels" not in shown
    # It goes on from its own weights, as the command does it and in two processes.
    ways = ("--set", "training.processes=2", "--set", "training.epochs=1", "--json")
    second = json.loads(say(capsys, "run", "--continue-from", "tiny_tales:1", "--data", source, *ways))
    with open_registry() as registry:
        continued = registry.resolve(ModelRef.parse("tiny_tales:3"))
    assert second["version"]["name"] == continued.name
    assert continued.manifest.training.parent == version.digest
    assert continued.manifest.training.environment.world_size == 2
    assert continued.metrics["nats_per_character"] < metrics["nats_per_character"] + 0.2
    answers = json.loads(
        say(capsys, "predict", "tiny_tales:3", "--prompt", "the owl saw ", "--temperature", 0, "--json")
    )
    assert answers[0]["text"] and answers[0]["version"] == "tiny_tales_v3"
