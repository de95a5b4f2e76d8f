import ast
import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fairlead.data import sample
from fairlead.errors import DataError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.write_sample(tmp_path_factory.mktemp("sample"))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_it_has_enough_rows_and_classes_of_like_size(written: Path) -> None:
    counts = Counter(row["label"] for row in read(written))
    assert len(counts) >= 8 and counts.total() >= 5000
    assert min(counts.values()) >= max(counts.values()) / 2


def test_texts_are_distinct_sentences(written: Path) -> None:
    texts = [row["text"] for row in read(written)]
    assert len({text.casefold() for text in texts}) == len(texts)
    assert max(len(text) for text in texts) < 1000
    assert not any("\n" in text or ">>>" in text for text in texts)


def test_every_text_stands_in_the_sources_of_its_label(written: Path) -> None:
    rows = [row for row in read(written) if row["label"] == "rich"]
    root = sample._root("rich")
    assert root is not None
    sources = " ".join(
        " ".join((ast.get_docstring(node) or "").split())
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
    )
    assert [row["text"] for row in rows if row["text"] not in sources] == []


def test_classes_are_mixed_from_the_first_row_on(written: Path) -> None:
    rows = read(written)
    assert len({row["label"] for row in rows[:200]}) == len({row["label"] for row in rows})


def test_another_process_writes_the_same_bytes_and_imports_none_of_the_packages(written: Path, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys\n"
        "from fairlead.data.sample import PACKAGES, write_sample\n"
        "write_sample(pathlib.Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'transformers', 'kubernetes', 'kfp', 'sympy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / sample.SAMPLE).read_bytes() == written.read_bytes()


def test_a_file_its_owner_changed_is_left_alone(written: Path, tmp_path: Path) -> None:
    path = tmp_path / sample.SAMPLE
    path.write_bytes(written.read_bytes() + b"My own sentence about models.,torch\n")
    (tmp_path / sample.RECEIPT).write_bytes((written.parent / sample.RECEIPT).read_bytes())
    before = path.read_bytes()
    assert sample.write_sample(tmp_path).read_bytes() == before


def test_too_few_packages_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "PACKAGES", ("rich", "no_such_package"))
    with pytest.raises(DataError, match=r"only 1 of the 2 packages .*; install fairlead\[all\]"):
        sample.write_sample(tmp_path)


def test_only_summaries_are_taken() -> None:
    docstring = (
        "Make a thing out of two parts. It is then one whole thing.\n\nArgs:\n    first: The first part of the thing."
    )
    assert list(sample._sentences(docstring)) == ["Make a thing out of two parts.", "It is then one whole thing."]
    assert list(sample._sentences("Too short.")) == []


def test_an_abbreviation_does_not_end_a_sentence() -> None:
    docstring = "Give names to all of the parts, e.g. `first` and `second`."
    assert list(sample._sentences(docstring)) == [docstring]
