"""Whatever texts and labels are written in any format and encoding are read back exactly."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.data.config import DataConfig
from fairlead.data.reading import Meter, open_source
from tests.data.ingesting import FILLER, rows, run

Rows = list[tuple[str, str]]

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(CHARACTERS | st.sampled_from('",\t\n\r;\ufeff'), min_size=1, max_size=20).filter(str.strip)
LABELS = st.text(CHARACTERS | st.sampled_from('",\t\n'), min_size=1, max_size=5).filter(str.strip)
FILL = [(f"filler number {i}", "ab"[i % 2]) for i in range(12)]
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KEEP: dict[str, Any] = {"duplicates": "keep", "conflicts": "keep"}


def write_delimited(path: Path, content: Rows, delimiter: str, end: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *content])


def ingest(folder: Path, name: str, **values: Any) -> tuple[str, Rows]:
    manifest = run(folder / f"{name}.out", source=str(folder / name), **KEEP, **values)
    return manifest.digest, rows(folder / f"{name}.out")


def write_all(folder: Path, content: Rows, end: str) -> list[str]:
    """The content in every format, by file name."""
    write_delimited(folder / "a.csv", content, ",", end)
    write_delimited(folder / "a.tsv", content, "\t", end)
    lines = [json.dumps({"label": label, "text": text}, ensure_ascii=len(end) == 1) for text, label in content]
    (folder / "a.jsonl").write_bytes(end.join(lines).encode())
    texts, labels = zip(*content, strict=True)
    pq.write_table(pa.table({"label": labels, "text": texts}), folder / "a.parquet")
    return ["a.csv", "a.tsv", "a.jsonl", "a.parquet"]


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("a.csv", ["find the encoding", "find the layout"]),
        ("a.jsonl", ["find the encoding", "find the layout"]),
        ("a.parquet", []),
    ],
)
def test_every_pass_over_the_rows_is_told(tmp_path: Path, monkeypatch: Any, name: str, before: list[str]) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("FAIRLEAD_EVENTS", str(events))
    write_all(tmp_path, FILL, "\n")
    ingest(tmp_path, name)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    whats = list(dict.fromkeys(event["what"] for event in told))
    assert whats == [*before, "read", "find duplicates", "draw the splits", "write the splits"]
    assert all(any(e["what"] == what and e["done"] == e["total"] > 0 for e in told) for what in whats)


@settings(QUICK, max_examples=60)
@given(content=st.lists(st.tuples(TEXTS, LABELS), min_size=1, max_size=8), end=st.sampled_from(["\n", "\r\n"]))
def test_every_format_is_read_back_exactly(tmp_path: Path, content: Rows, end: str) -> None:
    for name in write_all(tmp_path, content, end):
        config = DataConfig(source=str(tmp_path / name))
        batches = list(open_source(tmp_path / name, config, Meter(lambda _: None), name).batches)
        found = [row for batch in batches for row in zip(batch.texts, batch.labels, strict=True)]
        assert (name, found) == (name, content)
        assert not any(batch.rejected for batch in batches)


@settings(QUICK, max_examples=6)
@given(content=st.lists(st.tuples(TEXTS, LABELS), max_size=8))
def test_every_format_gives_the_same_data_version(tmp_path: Path, content: Rows) -> None:
    # Two rows of each class can be split.
    content = FILL + [(text + str(i), label) for i in range(2) for text, label in content]
    found = {name: ingest(tmp_path, name) for name in write_all(tmp_path, content, "\n")}
    assert {name: kept for name, (_, kept) in found.items()} == dict.fromkeys(found, sorted(content))
    assert len({digest for digest, _ in found.values()}) == 1


PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r") | st.just('"'), min_size=1)


@settings(QUICK, max_examples=15)
@given(content=st.lists(st.tuples(PLAIN.filter(str.strip), PLAIN.filter(str.strip)), max_size=8))
def test_tsv_without_header_or_quoting(tmp_path: Path, content: Rows) -> None:
    content = FILL + [(text + str(i), label) for i in range(2) for text, label in content]
    (tmp_path / "a").write_text("".join(f"{label}\t{text}\n" for text, label in content), "utf-8", newline="")
    _, kept = ingest(tmp_path, "a", label="0", text="1", quoting=False)
    assert kept == sorted(content)


def test_quotes_in_a_tsv_that_do_not_balance_are_text(tmp_path: Path) -> None:
    lines = ["a\t" + '"to be" or not', 'b\t"never closed', *(f"{label}\t{text}" for text, label in FILL)]
    (tmp_path / "in.tsv").write_text("\n".join(lines))
    _, kept = ingest(tmp_path, "in.tsv", label="0", text="1")
    assert ('"never closed', "b") in kept and ('"to be" or not', "a") in kept


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp1252", "shift_jis"])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_a_named_or_marked_encoding(tmp_path: Path, encoding: str, name: str) -> None:
    word = "テスト" if encoding == "shift_jis" else "größe"
    content = [(f"{word} {i}", "ab"[i % 2]) for i in range(3000)]
    table = "text,label\n" + "".join(f"{text},{label}\n" for text, label in content)
    lines = "".join(json.dumps({"text": t, "label": c}, ensure_ascii=False) + "\n" for t, c in content)
    (tmp_path / name).write_bytes((table if name == "in.csv" else lines).encode(encoding))
    marked = encoding in ("utf-8-sig", "utf-16", "utf-32")
    manifest = run(tmp_path / "out", source=str(tmp_path / name), encoding="auto" if marked else encoding)
    assert rows(tmp_path / "out") == sorted(content)
    assert manifest.findings["by_source"]["train"]["encoding_from"] == ("byte-order mark" if marked else "configured")


GERMAN = "Die Größe der Straße ändert sich täglich, und über die Brücke führt kein schöner Weg nach Süden zurück"


def test_an_encoding_that_is_detected_is_told(tmp_path: Path) -> None:
    words = GERMAN.replace(",", "").split()
    content = [(" ".join(words[i % 9 :]) + f" {i}", "ab"[i % 2]) for i in range(200)]
    table = FILLER * 3000 + "".join(f"{text},{label}\n" for text, label in content)
    (tmp_path / "in.csv").write_bytes(("text,label\n" + table).encode("cp1252"))
    manifest = run(tmp_path / "out", source=str(tmp_path / "in.csv"))
    assert manifest.findings["by_source"]["train"]["encoding_from"] == "detected"
    assert manifest.findings["encoding"]["train"] != "utf-8"
    assert set(content) <= set(rows(tmp_path / "out"))


def test_a_header_after_a_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbf" + ("text,label\n" + FILLER).replace("\n", "\r\n").encode())
    manifest = run(tmp_path / "out", source=str(tmp_path / "in.csv"), encoding="utf-8")
    assert manifest.findings["rows_read"] == 40 and manifest.labels == ["a", "b"]


def test_lines_that_end_in_carriage_returns(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(("text,label\n" + FILLER).replace("\n", "\r").encode())
    assert run(tmp_path / "out", source=str(tmp_path / "in.csv")).findings["rows_read"] == 40


@pytest.mark.parametrize(
    ("content", "values", "kind"),
    [
        ("text,label\n" + FILLER, {}, "csv"),
        (("text,label\n" + FILLER).replace(",", "\t"), {}, "tsv"),
        (FILLER.replace(",", "\t"), {"text": "0", "label": "1"}, "tsv"),
        ("".join(json.dumps({"text": f"t{i}", "label": i % 2}) + "\n" for i in range(9)), {}, "jsonl"),
    ],
)
def test_a_format_that_only_the_content_tells(tmp_path: Path, content: str, values: dict[str, Any], kind: str) -> None:
    (tmp_path / "data").write_text(content)
    manifest = run(tmp_path / "out", source=str(tmp_path / "data"), **values)
    assert manifest.findings["by_source"]["train"]["format"] == kind


def test_a_header_whose_columns_are_named_by_numbers(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("1,0\n" + FILLER)
    assert run(tmp_path / "out", source=str(tmp_path / "in.csv"), text="1", label="0").labels == ["a", "b"]


def test_columns_named_by_index_under_a_header(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,text\n" + FILLER)
    manifest = run(tmp_path / "out", source=str(tmp_path / "in.csv"), text="0", label="1", header=True)
    assert manifest.findings["rows_read"] == 40 and manifest.labels == ["a", "b"]


def test_the_same_content_is_the_same_data_version_wherever_it_is(tmp_path: Path) -> None:
    digests = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "in.csv").write_text("text,label\n" + FILLER)
        digests.add(run(tmp_path / folder / "out", source=str(tmp_path / folder / "in.csv")).digest)
    assert len(digests) == 1
