"""Sample data that is real, needs no download and redistributes nothing.

Docstring sentences of the packages installed here, labelled by the package that they document:
"which library does this sentence describe?". Sources are parsed, never imported. A sentence may
name its own package, as a ticket may name its own product: the text is left as its authors wrote it.

The rows depend on the versions of the packages alone: files and sentences are taken in the order of
their SHA-256, which is as good as random and the same everywhere.
"""

import ast
import csv
import importlib.metadata
import importlib.util
import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from fairlead.errors import DataError
from fairlead.events import Progress
from fairlead.formats.atomic import write_bytes, write_json
from fairlead.formats.digests import of_file, of_json

SAMPLE = "docstrings.csv"
RECEIPT = "docstrings.json"
# Import names of packages that an installation brings, by what they are for; absent ones are left out.
PACKAGES = (
    "huggingface_hub",
    "kfp",
    "kubernetes",
    "matplotlib",
    "networkx",
    "numpy",
    "polars",
    "pydantic",
    "rich",
    "sklearn",
    "sqlalchemy",
    "sympy",
    "torch",
    "transformers",
)
NOT_THEIR_OWN = {"test", "tests", "testing", "_vendor", "vendor", "_vendored_packages", "externals"}
# 600 rows a class keep a model of 3 layers under a minute of training on two cores.
ROWS_PER_CLASS = 600
MIN_ROWS_PER_CLASS = 100
MIN_CLASSES = 8
# A few more than are kept, as some are shared between packages; parsing stops there, because the
# largest package has 3,000 files. Files above 200 kB are tables more than prose.
CANDIDATES_PER_CLASS = ROWS_PER_CLASS * 5 // 4
MAX_SOURCE_BYTES = 200_000
SENTENCES_PER_DOCSTRING = 2
MIN_WORDS, MAX_WORDS = 5, 60
VERSION = 1

_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z`\"'])")
_WORD = re.compile(r"[^\W\d_]{2,}")


def write_sample(folder: Path) -> Path:
    """Write `docstrings.csv` (columns text, label) into `folder` and return its path.

    A file that is there for the same package versions is left alone, with whatever its owner
    changed in it. Raises DataError when fewer than 8 of the packages are installed.
    """
    packages = {name: root for name in PACKAGES if (root := _root(name))}
    key = of_json({"version": VERSION, "packages": {name: _installed_version(name) for name in packages}})
    path, receipt = folder / SAMPLE, folder / RECEIPT
    if path.is_file() and _key_of(receipt) == key:
        return path
    rows = _collect(packages)
    labels = Counter(label for _, label in rows)
    if len(labels) < MIN_CLASSES:
        raise DataError(
            f"sample: only {len(labels)} of the {len(PACKAGES)} packages it is made from are installed "
            f"({', '.join(labels) or 'none'}); install fairlead[all], or bring your own file with --data"
        )
    write_bytes(path, _as_csv(rows))
    write_json(receipt, {"key": key, "sha256": of_file(path), "rows": dict(labels)})
    return path


def _collect(packages: dict[str, Path]) -> list[tuple[str, str]]:
    progress = Progress("sample", "reading docstrings", len(packages), "packages")
    found = {}
    for name, root in packages.items():
        found[name] = _candidates(root)
        progress.advance(note=name)
    # A sentence that two packages share has no right answer.
    owners = Counter(key for sentences in found.values() for key in sentences)
    rows = []
    for name, sentences in found.items():
        own = [text for key, text in sentences.items() if owners[key] == 1]
        if len(own) >= MIN_ROWS_PER_CLASS:
            rows += [(text, name) for text in sorted(own, key=_shuffle)[:ROWS_PER_CLASS]]
    # Not by the digest that chose the rows: the largest packages would come first.
    return sorted(rows, key=lambda row: _shuffle(f"row {row[0]}"))


def _candidates(root: Path) -> dict[str, str]:
    """Sentences of one package by their normalised form, from as many files as it takes."""
    found: dict[str, str] = {}
    for path in sorted(_sources(root), key=lambda p: _shuffle(p.relative_to(root).as_posix())):
        for docstring in _docstrings(path):
            for sentence in _sentences(docstring):
                found.setdefault(sentence.casefold(), sentence)
        if len(found) >= CANDIDATES_PER_CLASS:
            break
    return found


def _sources(root: Path) -> Iterator[Path]:
    for path in root.rglob("*.py"):
        is_test = path.stem.startswith("test_") or path.stem.endswith("_test")
        if not is_test and not NOT_THEIR_OWN & set(path.relative_to(root).parts):
            yield path


def _docstrings(path: Path) -> Iterator[str]:
    try:
        source = path.read_bytes() if path.stat().st_size <= MAX_SOURCE_BYTES else b""
        with warnings.catch_warnings():
            # Stray escapes in other people's sources.
            warnings.simplefilter("ignore")
            nodes: list[ast.AST] = [ast.parse(source)]
    except (SyntaxError, ValueError, OSError):
        return
    # Only into modules and classes: expressions hold no docstrings and are most of a tree.
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            yield ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef | ast.Module):
            nodes.extend(node.body)


def _sentences(docstring: str) -> Iterator[str]:
    """The first prose sentences of a docstring: its summary, not its tables of parameters."""
    summary = " ".join(re.split(r"\n\s*\n", docstring, maxsplit=1)[0].split())
    for sentence in _SENTENCE_END.split(summary)[:SENTENCES_PER_DOCSTRING]:
        words = _WORD.findall(sentence)
        is_prose = sentence.isprintable() and not any(mark in sentence for mark in (">>>", "---", "===", "::"))
        if is_prose and MIN_WORDS <= len(words) <= MAX_WORDS:
            yield sentence


def _root(package: str) -> Path | None:
    """Folder of an installed package; a top-level name is found without importing anything."""
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


def _installed_version(package: str) -> str:
    distribution = {"sklearn": "scikit-learn"}.get(package, package)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _key_of(receipt: Path) -> str | None:
    try:
        key = json.loads(receipt.read_text("utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(key)


def _shuffle(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _as_csv(rows: list[tuple[str, str]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("text", "label"))
    writer.writerows(rows)
    return buffer.getvalue().encode()
