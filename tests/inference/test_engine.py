import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import pipeline

from fairlead.errors import IntegrityError, NotFound
from fairlead.formats.atomic import write_json
from fairlead.formats.model import WEIGHTS, manifest_digest, read_manifest
from fairlead.inference import engine as engine_module
from fairlead.inference.engine import Engine
from fairlead.names import MODEL_MANIFEST
from tests.tiny import LABELS, MAX_LENGTH, WORDS, make_version

TEXTS = [" ".join(WORDS[i % 7 : i % 7 + 1 + i % 9]) for i in range(40)] + ["", "unknown words only", "Refund PLEASE"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_version(tmp_path_factory.mktemp("version"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine.load(folder)


def reference(folder: Path, texts: list[str]) -> list[list[float]]:
    classify = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    answers = classify(texts, truncation=True, max_length=MAX_LENGTH)
    return [[{a["label"]: a["score"] for a in answer}[label] for label in LABELS] for answer in answers]


def test_probabilities_are_those_of_a_transformers_pipeline(folder: Path, engine: Engine) -> None:
    answers = engine.predict(TEXTS)
    expected = reference(folder, TEXTS)
    torch.testing.assert_close(
        torch.tensor([a.probabilities for a in answers]), torch.tensor(expected), atol=1e-5, rtol=0
    )
    assert len({a.label for a in answers}) > 1, "the model must tell texts apart for this test to mean anything"
    for answer in answers:
        assert answer.probability == max(answer.probabilities)
        assert answer.label == LABELS[answer.probabilities.index(answer.probability)]
        assert sum(answer.probabilities) == pytest.approx(1, abs=1e-5)


def test_answers_do_not_depend_on_how_texts_are_batched(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    together = engine.predict(TEXTS)
    monkeypatch.setitem(engine_module.BATCH_TOKENS, "cpu", 20)
    in_small_batches = engine.predict(TEXTS)
    for one, other in zip(together, in_small_batches, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_long_text_is_cut_at_the_trained_length(engine: Engine) -> None:
    start = "card " * (MAX_LENGTH - 2)
    cut, same = engine.predict([start + "parcel " * 5000, start])
    assert cut.probabilities == pytest.approx(same.probabilities, abs=1e-6)


def test_no_texts_no_answers(engine: Engine) -> None:
    assert engine.predict([]) == []


def test_threads_share_one_engine(engine: Engine) -> None:
    expected = engine.predict(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda _: engine.predict(TEXTS), range(12)):
            assert [a.label for a in answers] == [a.label for a in expected]


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json", "training.json"])
def test_a_tampered_file_is_named_before_anything_is_loaded(
    copy: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    loaded: list[Path] = []
    monkeypatch.setattr(engine_module, "open_runner", lambda *arguments: loaded.append(arguments[0]))
    with pytest.raises(IntegrityError, match=name):
        Engine.load(copy)
    assert not loaded


def test_an_added_file_is_refused(copy: Path) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"pytorch_model\.bin"):
        Engine.load(copy)


def test_a_manifest_with_other_classes_is_refused(copy: Path) -> None:
    manifest = read_manifest(copy)
    labels = list(reversed(manifest.labels))
    digest = manifest_digest(manifest.files, labels, manifest.signature, manifest.training)
    write_json(copy / MODEL_MANIFEST, manifest.model_copy(update={"labels": labels, "digest": digest}).to_dict())
    with pytest.raises(IntegrityError, match="classes"):
        Engine.load(copy)


def test_a_folder_without_a_version_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"fairlead\.json"):
        Engine.load(tmp_path)
