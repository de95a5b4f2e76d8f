"""Ingest of documents: read from every form, cut by position or drawn whole, nothing lost and nothing leaked."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.data.config import DataConfig
from fairlead.data.documents import PART_CHARACTERS, cut_parts
from fairlead.data.ingest import ingest, localize_sources
from fairlead.errors import DataError
from fairlead.formats.dataset import CONTINUES, DataManifest, read_rows, verify

FRENCH = "Où est passé l'élève qui était à l'école très tôt, dès sept heures, près de la fenêtre ?"
SPLITS = ("train", "validation", "test")


def run(folder: Path, source: Path, **values: Any) -> DataManifest:
    config = DataConfig.parse({"source": str(source), "task": "language_modeling", **values})
    manifest = ingest(config, localize_sources(config, "digest"), folder)
    assert verify(folder) == manifest and manifest.labels == []
    return manifest


def documents(folder: Path, split: str) -> list[str]:
    """The documents of a split; one that began in another split counts as one."""
    found: list[str] = []
    for text, label in read_rows(folder, split):
        if label == CONTINUES and found:
            found[-1] += text
        else:
            found.append(text)
    return found


def lines(num: int, word: str = "line") -> str:
    return "".join(f"{word} {i}\n" for i in range(num))


def test_one_text_is_cut_by_position_after_lines(tmp_path: Path) -> None:
    text = lines(40_000)
    (tmp_path / "book.txt").write_text(text)
    manifest = run(tmp_path / "out", tmp_path / "book.txt", validation_fraction=0.05, test_fraction=0.15)
    found = [documents(tmp_path / "out", split) for split in SPLITS]
    assert [len(parts) for parts in found] == [1, 1, 1]
    assert "".join(parts[0] for parts in found) == text
    assert all(parts[0].endswith("\n") for parts in found)
    sizes = [summary.num_characters or 0 for summary in (manifest.splits[split] for split in SPLITS)]
    assert sizes == [len(parts[0]) for parts in found]
    assert sizes[0] == pytest.approx(0.8 * len(text), abs=20) and sizes[2] == pytest.approx(0.15 * len(text), abs=20)
    assert [manifest.splits[split].num_documents for split in SPLITS] == [1, 0, 0]
    assert manifest.findings["split"] == "position"


def test_a_text_without_lines_is_cut_all_the_same(tmp_path: Path) -> None:
    text = "".join(chr(97 + i * i % 26) for i in range(5 * PART_CHARACTERS))
    (tmp_path / "book.txt").write_text(text)
    run(tmp_path / "out", tmp_path / "book.txt")
    found = [documents(tmp_path / "out", split)[0] for split in SPLITS]
    assert (
        "".join(found) == text and max(len(row) for row, _ in read_rows(tmp_path / "out", "train")) <= PART_CHARACTERS
    )


@pytest.mark.parametrize("form", ["folder", "jsonl", "csv", "parquet"])
def test_many_documents_are_drawn_whole_by_seed(form: str, tmp_path: Path) -> None:
    texts = [lines(i % 7 + 1, f"document {i},\nit says") for i in range(60)]
    source = write(tmp_path / "source", form, texts)
    run(tmp_path / "out", source, text="body")
    found = {split: documents(tmp_path / "out", split) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [48, 6, 6]
    assert sorted(text for split in SPLITS for text in found[split]) == sorted(texts)
    again = run(tmp_path / "again", source, text="body")
    assert again.digest == run(tmp_path / "out", source, text="body").digest
    assert run(tmp_path / "other", source, text="body", seed=1).digest != again.digest


def test_documents_that_repeat_or_leak_are_dropped(tmp_path: Path) -> None:
    texts = [lines(3, f"tale {i}") for i in range(40)]
    source = write(tmp_path / "source", "jsonl", [*texts, texts[0], texts[1].upper()])
    test = write(tmp_path / "test", "jsonl", [texts[2], "another\n"])
    findings = run(tmp_path / "out", source, text="body", test=str(test)).findings
    assert (findings["duplicates_exact"], findings["duplicates_normalised"], findings["leaked"]) == (1, 1, 1)
    kept = [text for split in ("train", "validation") for text in documents(tmp_path / "out", split)]
    assert sorted(kept) == sorted(set(texts) - {texts[2]})
    assert documents(tmp_path / "out", "test") == [texts[2], "another\n"]
    kept_all = run(tmp_path / "kept", source, text="body", duplicates="keep").findings
    assert kept_all["policies"]["duplicates"]["dropped"] == 0
    for split in SPLITS:
        found = {text.lower() for text in documents(tmp_path / "kept", split)}
        others = {text.lower() for other in SPLITS if other != split for text in documents(tmp_path / "kept", other)}
        assert not found & others


def test_what_cannot_be_used_is_set_aside_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "good.txt").write_bytes(
        b"".join(b"line %d\n" % i for i in range(300)) + b"bad \xff byte\nlast \xc3\xa9\xc3\xa9\n"
    )
    (folder / "blank.txt").write_text(" \n\n\t\n")
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0\0")
    (folder / ".hidden").write_text("not read")
    manifest = run(tmp_path / "out", folder, encoding="utf-8")
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(row["source"], row["line"]) for row in rejected] == [
        ("blank.txt", 1),
        ("good.txt", 301),
        ("picture.png", 1),
    ]
    assert manifest.findings["rejected"] == 3
    text = "".join("".join(documents(tmp_path / "out", split)) for split in SPLITS)
    assert text.endswith("line 299\nlast éé\n")
    with pytest.raises(DataError, match=r"were set aside.*bytes that do not decode"):
        run(tmp_path / "strict", folder, encoding="utf-8", max_rejected_share=0.001)


def test_encoding_is_detected_and_own_sources_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(lines(400, FRENCH).encode("cp1252"))
    (tmp_path / "b.txt").write_bytes("\ufefffür später\n".encode("utf-16-le"))
    manifest = run(tmp_path / "out", tmp_path / "a.txt", test=str(tmp_path / "b.txt"))
    assert documents(tmp_path / "out", "train")[0].startswith(f"{FRENCH} 0\n")
    assert documents(tmp_path / "out", "test") == ["für später\n"]
    assert manifest.findings["by_source"]["test"]["encoding"] == "utf-16"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"  \n \n", "set aside"),
        (b"one line\n", "no text is left for the"),
        (b"PAR1....", "Parquet"),
    ],
)
def test_too_little_text_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        run(tmp_path / "out", tmp_path / "a.txt")


def test_parts_joined_are_the_text() -> None:
    for text in ("", "a", "x" * 200_000, lines(30_000), "\n" * 70_000):
        assert "".join(cut_parts(text)) == text
        assert max(map(len, cut_parts(text))) <= PART_CHARACTERS


def write(path: Path, form: str, texts: list[str]) -> Path:
    """Write documents in one of the forms that ingest reads."""
    if form == "folder":
        for index, text in enumerate(texts):
            file = path / f"{index % 3}" / f"{index}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return path
    path = path.with_suffix(f".{form}")
    if form == "jsonl":
        path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    elif form == "csv":
        path.write_text("id,body\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(texts)))
    else:
        pq.write_table(pa.table({"body": texts}), path)
    return path
