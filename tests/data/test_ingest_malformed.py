"""Malformed rows are set aside with their line and reason, and everything else is read."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.errors import DataError
from tests.data.ingesting import FILLER, rejected, rows, run

HEADER = "text,label\n"
NUM_FILLER = FILLER.count("\n")


def ingest(tmp_path: Path, content: str | bytes, name: str = "in.csv", **values: object) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    run(tmp_path / "out", source=str(path), **{"max_rejected_share": 0.9, **values})
    return tmp_path / "out"


def test_a_wrong_number_of_fields(tmp_path: Path) -> None:
    out = ingest(tmp_path, HEADER + "one,a,extra\nonly\n" + FILLER)
    assert rejected(out) == [
        (2, "wrong number of fields: 3 where 2 are expected"),
        (3, "wrong number of fields: 1 where 2 are expected"),
    ]
    assert len(rows(out)) == NUM_FILLER


def test_lines_are_physical_lines_also_after_newlines_in_quotes_and_blank_lines(tmp_path: Path) -> None:
    out = ingest(tmp_path, HEADER + '"two\nlines",a\n\n"three\r\n\r\nlines",b\nbad\n' + FILLER)
    assert rejected(out) == [(8, "wrong number of fields: 1 where 2 are expected")]
    assert {("two\nlines", "a"), ("three\r\n\r\nlines", "b")} <= set(rows(out))
    lines = {row["text"]: row["line"] for path in out.glob("*.parquet") for row in pq.read_table(path).to_pylist()}
    assert (lines["two\nlines"], lines["three\r\n\r\nlines"], lines["filler number 0"]) == (2, 5, 9)


def test_a_quote_that_never_closes_costs_its_own_line(tmp_path: Path) -> None:
    out = ingest(tmp_path, HEADER + "first,a\n" + '"never closed,b\n' + FILLER)
    assert rejected(out) == [(3, "a quote opens here and is never closed")]
    assert len(rows(out)) == NUM_FILLER + 1


def test_a_quote_that_meets_the_next_opening_quote_costs_its_own_line(tmp_path: Path) -> None:
    out = ingest(tmp_path, HEADER + '"never closed,b\n' + FILLER + '"good, one",a\nlast,"b"\n')
    assert rejected(out) == [(2, "a quote opens here and is never closed")]
    assert ("good, one", "a") in rows(out) and len(rows(out)) == NUM_FILLER + 2


def test_a_quote_that_never_closes_in_a_file_of_many_blocks(tmp_path: Path) -> None:
    many = "".join(f"a row of some length with the number {i},{'ab'[i % 2]}\n" for i in range(60_000))
    out = ingest(tmp_path, HEADER + '"never closed,b\n' + many)
    assert rejected(out) == [(2, "a quote opens here and is never closed")]
    assert len(rows(out)) == 60_000


def test_text_after_a_closing_quote(tmp_path: Path) -> None:
    out = ingest(tmp_path, HEADER + '"closed" too early,b\n' + FILLER)
    assert rejected(out) == [(2, "text after a closing quote")]
    assert len(rows(out)) == NUM_FILLER


def test_quotes_inside_an_unquoted_field_are_text(tmp_path: Path) -> None:
    out = ingest(tmp_path, HEADER + 'he said "hi",b\n' + FILLER)
    assert ('he said "hi"', "b") in rows(out)


def test_lines_lost_in_a_broken_record_count_towards_the_share(tmp_path: Path) -> None:
    broken = '"opens\n' + FILLER + 'closes here" too early,b\n'
    with pytest.raises(DataError, match="were set aside, the first at line 42: 1 text after a closing quote"):
        ingest(tmp_path, HEADER + FILLER + broken, max_rejected_share=0.3)


def test_bytes_that_do_not_decode_set_the_row_aside(tmp_path: Path) -> None:
    good = "".join(f"größe {i},a\n" for i in range(5)).encode()
    out = ingest(tmp_path, HEADER.encode() + b"bad \xff byte,a\n" + good + FILLER.encode())
    assert rejected(out) == [(2, "bytes that do not decode: \\udcff in the text")]
    assert ("größe 1", "a") in rows(out) and len(rows(out)) == NUM_FILLER + 5


def test_a_nul_after_the_head_of_the_file_sets_the_row_aside(tmp_path: Path) -> None:
    many = "".join(f"a row of some length with the number {i},{'ab'[i % 2]}\n" for i in range(300))
    out = ingest(tmp_path, HEADER + many + "a\0b,a\n")
    assert rejected(out) == [(302, "a NUL character: in the text")]


@pytest.mark.parametrize("quoted", [True, False])
def test_a_row_of_5_mb(tmp_path: Path, quoted: bool) -> None:
    long = "long text " * 500_000
    out = ingest(tmp_path, HEADER + (f'"{long}"' if quoted else long) + ",a\n" + FILLER)
    assert rejected(out) == [(2, "longer than data.max_text_bytes: 5000000 bytes")]
    assert len(rows(out)) == NUM_FILLER


def test_a_quoted_row_of_5_mb_on_many_lines(tmp_path: Path) -> None:
    out = ingest(tmp_path, HEADER + '"' + "long text\n" * 500_000 + '",a\n' + FILLER + "bad\n")
    assert rejected(out) == [
        (2, "longer than data.max_text_bytes: 5000000 bytes"),
        (NUM_FILLER + 500_003, "wrong number of fields: 1 where 2 are expected"),
    ]


def test_empty_texts_and_labels(tmp_path: Path) -> None:
    out = ingest(tmp_path, HEADER + ",a\n  \t ,a\ntext, \n" + FILLER)
    assert rejected(out) == [(2, "the text is empty"), (3, "the text is empty"), (4, "the label is empty")]


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        '{"text": "kept", "label": 1.50}',
        "",
        "[1]",
        '{"text": "no label"}',
        '{"text": 3, "label": "a"}',
        '{"text": "a", "label": null}',
        '{"text": "a", "label": {"b": 1}}',
        "not json",
        '{"text": "x", "label": NaN}',
        '{"text": "\\ud800", "label": "a"}',
        '{"text": "a\\u0000b", "label": "a"}',
        "[" * 100_000,
        '{"text": "yes", "label": true}',
    ]
    lines += [json.dumps({"text": f"filler {i}", "label": ["true", 1.5][i % 2]}) for i in range(10)]
    lines += [json.dumps({"label": "1.50", "text": f"more {i}"}) for i in range(4)]
    out = ingest(tmp_path, "\r\n".join(lines), "in.jsonl")
    found = dict(rejected(out))
    assert list(found) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert found[3] == "not an object: the line is a list"
    assert found[4] == "a key is missing: 'label'"
    assert found[5] == "a value of the wrong type: 'text' is a number, not a string"
    assert found[6] == "a value of the wrong type: 'label' is null, not a string, number or boolean"
    assert found[8].startswith("not JSON: ") and found[9].startswith("not JSON: NaN")
    assert found[10] == "bytes that do not decode: \\ud800 in the text"
    assert found[12].startswith("not JSON")
    assert {("kept", "1.50"), ("yes", "true"), ("filler 1", "1.5")} <= set(rows(out))


def test_parquet(tmp_path: Path) -> None:
    texts = ["first", None, "third", *(f"filler {i}" for i in range(8))]
    labels = [1, 2, None, *(1 + i % 2 for i in range(8))]
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "in.parquet")
    run(tmp_path / "out", source=str(tmp_path / "in.parquet"), max_rejected_share=0.9)
    assert rejected(tmp_path / "out") == [(2, "a null value: text"), (3, "a null value: label")]
    assert ("first", "1") in rows(tmp_path / "out")


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for label in ("ham", "spam"):
        (tmp_path / "in" / label / "deep").mkdir(parents=True)
        for i in range(4):
            (tmp_path / "in" / label / "deep" / f"{i}.txt").write_text(f"{label} {i}\n", "utf-8")
    (tmp_path / "in" / "ham" / "mark.txt").write_bytes("mit BOM ü".encode("utf-8-sig"))
    (tmp_path / "in" / "ham" / "binary").write_bytes(b"a\0b")
    (tmp_path / "in" / "ham" / "long.txt").write_text("x" * 101)
    (tmp_path / "in" / "ham" / ".hidden").write_text("not read")
    (tmp_path / "in" / "README").write_text("no label")
    run(tmp_path / "out", source=str(tmp_path / "in"), max_rejected_share=0.5, max_text_bytes=100)
    assert sorted(reason for _, reason in rejected(tmp_path / "out")) == [
        "a NUL character: in the text",
        "longer than data.max_text_bytes: more than 100 bytes",
        "the file is in no label's folder",
    ]
    assert {("ham 0\n", "ham"), ("spam 3\n", "spam"), ("mit BOM ü", "ham")} <= set(rows(tmp_path / "out"))
