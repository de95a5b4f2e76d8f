"""Input that cannot be used at all: one sentence that names the file, what is wrong and the way out."""

import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.data.config import DataConfig
from fairlead.data.ingest import Source, ingest, ingest_stage
from fairlead.errors import ConfigError, DataError, FairleadError, NotFound
from tests.data.ingesting import FILLER, rejected, run

HEADER = "text,label\n"


def refusal(tmp_path: Path, content: str | bytes, name: str = "in.csv", **values: object) -> str:
    """The message with which ingest refuses the content; it is one line."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(FairleadError) as caught:
        run(tmp_path / "out", source=str(path), **values)
    assert isinstance(caught.value, DataError | ConfigError)
    message = str(caught.value)
    assert "\n" not in message and not (tmp_path / "out" / "manifest.json").exists()
    return message.removeprefix(f"{path}: ")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nothing\.csv: there is no such file"):
        run(tmp_path / "out", source=str(tmp_path / "nothing.csv"))


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.jsonl", "in.parquet", "in"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, "", name).startswith("it is empty; ")


@pytest.mark.parametrize(("name", "content"), [("in.csv", "\n\n"), ("in.jsonl", "\n \n"), ("in", "\n")])
def test_a_file_of_blank_lines(tmp_path: Path, name: str, content: str) -> None:
    assert refusal(tmp_path, content, name).startswith("it is empty; ")


def test_a_header_without_rows(tmp_path: Path) -> None:
    assert refusal(tmp_path, HEADER).startswith("it has no rows; ")


def test_no_such_column(tmp_path: Path) -> None:
    message = refusal(tmp_path, "body,topic\n" + FILLER, text="body", label="topik")
    assert message == "there is no column 'topik' (nearest: 'topic'); it has 'body', 'topic': set data.label"


def test_no_such_column_in_jsonl_and_parquet(tmp_path: Path) -> None:
    message = "there is no column 'text' (nearest: 'texts'); it has 'texts', 'label': set data.text"
    assert refusal(tmp_path, '{"texts": "a", "label": "b"}\n', "in.jsonl") == message
    pq.write_table(pa.table({"texts": ["a"], "label": ["b"]}), tmp_path / "made.parquet")
    assert refusal(tmp_path, (tmp_path / "made.parquet").read_bytes(), "in.parquet") == message


def test_a_header_that_names_a_column_twice(tmp_path: Path) -> None:
    message = refusal(tmp_path, "text,label,text\na,b,c\n")
    assert message == "the header names 'text' more than once (columns 0 and 2); set data.text to an index"


def test_a_name_for_a_file_without_header(tmp_path: Path) -> None:
    message = refusal(tmp_path, FILLER, header=False)
    assert message.startswith("data.text = 'text' names a column, but the file has no header; set data.text to")


def test_an_index_past_the_last_column(tmp_path: Path) -> None:
    message = refusal(tmp_path, FILLER, text="0", label="7")
    assert message == "there is no column 7; its first row has columns 0 to 1: set data.label"


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.jsonl", "in"])
def test_a_binary_file(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, b"text,la\0bel\n" + os.urandom(5000), name).startswith(
        "it is a binary file (NUL at byte 7); give a text file"
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"text,label", mtime=0), "gzip-compressed; decompress it first"),
        (b"PAR1 and so on", "a Parquet file; set data.format=parquet"),
        (b"PK\x03\x04 and so on", "a zip archive (or a spreadsheet); export it as CSV"),
    ],
)
def test_a_wrong_extension(tmp_path: Path, content: bytes, what: str) -> None:
    assert refusal(tmp_path, content) == f"it is not text but {what}"


def test_text_with_the_extension_of_parquet(tmp_path: Path) -> None:
    assert refusal(tmp_path, HEADER + FILLER, "in.parquet").startswith("it is not a Parquet file; ")


def test_parquet_columns_of_the_wrong_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1], "label": ["b"], "share": [0.5]}), tmp_path / "made.parquet")
    content = (tmp_path / "made.parquet").read_bytes()
    assert refusal(tmp_path, content, "in.parquet") == "column 'text' is int64, not a string; set data.text"
    message = refusal(tmp_path, content, "in.parquet", text="label", label="share")
    assert message == "column 'share' is double, not a string, integer or boolean; set data.label"


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"] * 99, "label": ["b"] * 99}), tmp_path / "made.parquet")
    content = (tmp_path / "made.parquet").read_bytes()
    assert "Parquet" in refusal(tmp_path, content[:-50], "in.parquet")


def test_one_class_only(tmp_path: Path) -> None:
    message = refusal(tmp_path, HEADER + "".join(f"text {i},ham\n" for i in range(9)))
    assert message == "every row has the label 'ham'; give rows of at least two classes, or set data.label"


def test_classes_with_one_row(tmp_path: Path) -> None:
    message = refusal(tmp_path, HEADER + FILLER + "x,rare\ny,odd\n")
    assert message.startswith("classes 'odd', 'rare' with one text only cannot be split; add rows")


def test_a_class_with_one_row_once_duplicates_are_gone(tmp_path: Path) -> None:
    message = refusal(tmp_path, HEADER + FILLER + "same,rare\nSame ,rare\n")
    assert message.startswith("class 'rare' with one text only after duplicates, conflicts and leaks were dropped")


def test_ten_thousand_classes(tmp_path: Path) -> None:
    message = refusal(tmp_path, HEADER + "".join(f"text,label {i}\n" for i in range(10_000)))
    assert message.startswith("column 'label' has more than 1000 different labels in its first 10000 rows; it looks")
    assert "set data.label, or raise data.max_classes" in message


def test_too_many_rows_set_aside(tmp_path: Path) -> None:
    message = refusal(tmp_path, HEADER + FILLER + "a,b,c\nd\n,a\n")
    assert message.startswith("3 of 43 rows (7.0% of its lines) were set aside, the first at line 42: ")
    assert "2 wrong number of fields, 1 the text is empty" in message
    assert len(rejected(tmp_path / "out")) == 3


def test_a_first_record_that_cannot_be_read(tmp_path: Path) -> None:
    message = refusal(tmp_path, '"text,label\n' + FILLER)
    assert message.startswith("its first record, at line 1, cannot be read (a quote opens here and is never closed)")


def test_a_label_that_only_the_test_source_has(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(HEADER + "one,c\ntwo,a\n")
    message = refusal(tmp_path, HEADER + FILLER, test=str(tmp_path / "test.csv"))
    assert message == "data.test: class 'c' not among the labels to train on; correct the labels or add rows"


def test_a_folder_without_labels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("text")
    with pytest.raises(DataError, match="no subfolder holds a file; put each text in a subfolder"):
        run(tmp_path / "out", source=str(tmp_path / "in"))


def test_a_folder_of_tables(tmp_path: Path) -> None:
    (tmp_path / "in" / "data").mkdir(parents=True)
    (tmp_path / "in" / "data" / "a.csv").write_text(HEADER + FILLER)
    with pytest.raises(DataError, match=r"it holds tables \(data/a.csv\), not a text a file; name one of them"):
        run(tmp_path / "out", source=str(tmp_path / "in"))


def test_a_killed_run_leaves_nothing_that_the_next_one_takes_for_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".spool" / "keys").mkdir(parents=True)
    for name in ("manifest.json", "train.parquet", "old.parquet", ".spool/rows.arrow"):
        (out / name).write_text("half")
    (tmp_path / "in.csv").write_text(HEADER + FILLER)
    run(out, source=str(tmp_path / "in.csv"))
    names = ["manifest.json", "rejected.jsonl", "test.parquet", "train.parquet", "validation.parquet"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_credentials_do_not_reach_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(HEADER + FILLER)
    config = DataConfig(source="https://user:secret@host/in.csv?token=secret")
    manifest = ingest(config, [Source("train", config.source, tmp_path / "in.csv")], tmp_path / "out")
    assert "secret" not in manifest.model_dump_json() and "host/in.csv" in manifest.sources["train"]


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave no rows to train on"):
        run(tmp_path, source="x", validation_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ConfigError, match="'train' cannot name a data set"):
        run(tmp_path, source="x", extra={"train": "y"})
    assert (
        refusal(tmp_path, HEADER, encoding="utf9") == "data.encoding: there is no encoding 'utf9'; did you mean 'utf_8'"
    )


def test_the_stage_fails_with_one_sentence_and_says_that_a_retry_cannot_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        ingest_stage({"source": str(tmp_path / "nothing.csv")}, "digest", str(tmp_path / "out"))
    assert caught.value.code == 42
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"error: {tmp_path}/nothing.csv: there is no such")


FULL_DISK = """
import json, resource, sys
from fairlead.data.config import DataConfig
from fairlead.data.ingest import Source, ingest, ingest_stage
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
ingest_stage({"source": sys.argv[2]}, "digest", sys.argv[3])
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
@pytest.mark.parametrize("num_bytes", [0, 2000, 100_000])
def test_a_full_disk(tmp_path: Path, num_bytes: int) -> None:
    """The system refuses to write past a size, as it does on a full disk."""
    rows = [{"text": os.urandom(100).hex(), "label": "ab"[i % 2]} for i in range(3000)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = [sys.executable, "-c", FULL_DISK, str(num_bytes), str(tmp_path / "in.jsonl"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("error: ingest: ") and "free space or correct the path" in last
    assert not (tmp_path / "out" / "manifest.json").exists() and not (tmp_path / "out" / ".spool").exists()
