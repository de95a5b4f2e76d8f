"""`fairlead optimize` on a registered version with a real data version: what is new, and what stays."""

import csv
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fairlead import places
from fairlead.data.config import DataConfig
from fairlead.data.ingest import ingest, localize_sources, publish_data
from fairlead.errors import ConfigError
from fairlead.formats.atomic import write_json
from fairlead.formats.model import list_files, manifest_digest, read_manifest, verify, write_training
from fairlead.inference.engine import Engine
from fairlead.names import MODEL_MANIFEST, version_prefix
from fairlead.optimization import again
from fairlead.registry import VersionRecord, open_registry
from fairlead.registry.fetching import fetch_version
from fairlead.storage import open_store
from fairlead.storage.folders import publish
from fairlead.variants.opening import variant_to_serve
from tests.tiny import WORDS, make_version

# 180 validation rows: 100 set a temperature, and 11 could show a drop below 0.2.
ROWS = 400
SMALL = {"target": "edge", "candidates": ["onnxruntime-int8"], "rounds": 1, "max_drop": 0.2}
# Without an export, which takes most of the time.
QUICK = {"target": "cpu", "candidates": ["torch-bf16"], "rounds": 1, "max_drop": 0.2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with one version, whose validation rows it labelled itself."""
    folder = tmp_path_factory.mktemp("optimized")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_HOME", str(folder / "home"))
        _register(folder)
    return folder / "home"


@pytest.fixture(autouse=True)
def here(place: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_HOME", str(place))


@pytest.fixture(scope="module")
def optimized(place: Path) -> tuple[VersionRecord, str]:
    """The version made for edge, and the path of its report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_HOME", str(place))
        return again.optimize_version(again.Request(ref="support_topics:1", settings=SMALL))


def _register(folder: Path) -> None:
    # Weights of which 8 bits save more than the graph of a file adds.
    version = make_version(folder / "version", depth=2)
    _write_rows(folder / "rows.csv", Engine.load(version))
    config = DataConfig.parse({"source": str(folder / "rows.csv"), "validation_fraction": 0.45}, "data")
    data = ingest(config, localize_sources(config, "rows"), folder / "data")
    publish_data(data, folder / "data")
    training = read_manifest(version).training.model_copy(update={"data_digest": data.digest})
    write_training(version, training)
    manifest = read_manifest(version)
    files = list_files(version)
    digest = manifest_digest(files, manifest.labels, manifest.signature, training)
    changes = {"files": files, "training": training, "digest": digest}
    manifest = manifest.model_copy(update=changes)
    write_json(version / MODEL_MANIFEST, manifest.to_dict())
    with open_registry() as registry:
        number = registry.reserve_version(manifest.project, "trained").number
        run = (training.data_digest, training.tokens_digest, training.config, 0, training.environment, training.code)
        registry.start_run(training.run_id, manifest.project, *run)
        prefix = version_prefix(manifest.project, number)
        publish(open_store(places.store_url()), version, prefix, last=MODEL_MANIFEST)
        registry.commit_version(manifest, prefix)


def _write_rows(path: Path, engine: Engine) -> None:
    chosen = random.Random(0)
    texts = sorted({" ".join(chosen.choices(WORDS, k=chosen.randint(3, 12))) for _ in range(ROWS)})
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = zip(texts, (said.label for said in engine.predict(texts)), strict=True)  # type: ignore[union-attr]
        csv.writer(file).writerows([("text", "label"), *rows])


def test_a_full_disk_is_one_sentence_and_leaves_no_version(tmp_path):
    fetch_version("support_topics:1")
    request, result = tmp_path / "request.json", tmp_path / "result.json"
    write_json(request, {"ref": "support_topics:1", "settings": QUICK})
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file above this size, which is between the registry's and a model's.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, usual[1]))
    try:
        again.main(str(request), str(result))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    outcome = json.loads(result.read_text("utf-8"))
    assert outcome["kind"] == "StorageError" and "the disk is full; free space" in outcome["message"]
    with open_registry() as registry:
        assert [version.number for version in registry.list_versions("support_topics")] == [1]


def test_the_command_makes_a_version_and_the_same_request_finds_it(fairlead):
    words = ["support_topics:1", "--target", "cpu", "--set", "candidates=[torch-bf16]"]
    printed = fairlead("optimize", *words, "--set", "rounds=1", "--set", "max_drop=0.2", "--json").json
    # The number that the request reserved when the disk was full.
    assert printed["version"] == "support_topics_v2"
    with open_registry() as registry:
        first, second = registry.list_versions("support_topics")
    assert first.manifest.optimization is None and first.aliases == ["champion"] and second.aliases == ["challenger"]
    assert first.weights_digest == second.weights_digest and first.run_id == second.run_id
    record = second.manifest.optimization
    assert record is not None and record.to_dict() == printed["optimization"] and record.target == "cpu"
    same = again.Request(ref="support_topics:1", settings=QUICK)
    found, page = again.optimize_version(same)
    assert (found.name, page) == (second.name, printed["report"]) and record.reason in Path(page).read_text("utf-8")
    anew, page = again.optimize_version(same.model_copy(update={"again": True}))
    assert anew.number == 3 and Path(page).exists()
    assert again.optimize_version(same)[0].number == 2


def test_on_edge_the_smallest_serves_and_the_version_answers_with_it(fairlead, optimized):
    version, page = optimized
    record = version.manifest.optimization
    assert record is not None and record.target == "edge" and record.chosen == "onnxruntime-int8"
    assert "times smaller" in record.reason and "differ from torch" in Path(page).read_text("utf-8")
    assert all(variant.size_bytes and variant.speeds for variant in record.variants)
    folder = fetch_version(f"support_topics:{version.number}")
    assert variant_to_serve(verify(folder)) == "onnxruntime-int8"
    engines = (Engine.load(folder), Engine.load(fetch_version("support_topics:1")))
    said, expected = (engine.predict(["where is the parcel please"])[0] for engine in engines)
    assert engines[0].variant == "onnxruntime-int8" and said.label == expected.label  # type: ignore[union-attr]
    shown = fairlead("models", "show", f"support_topics:{version.number}").out
    for part in (
        "onnxruntime-int8 *",
        "drop at most",
        "p50 / p99 ms of a batch",
        "calibration error",
        "rejected below",
    ):
        assert part in shown


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nothing"], "nothing"),
        (["support_topics:9"], "support_topics_v9"),
        (["no such name!"], "no such name!"),
        (["support_topics", "--target", "phone"], "phone"),
        (["support_topics", "--set", "candidates=[torch-int4]"], "torch-int4"),
        (["support_topics", "--set", "max_dorp=0.1"], "max_drop"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_built(fairlead, place, words, named):
    outcome = fairlead("optimize", *words)
    assert outcome.code == 2 and named in outcome.err and "Traceback" not in outcome.err


def test_texts_out_of_scope_must_be_a_data_set_of_the_version():
    settings = QUICK | {"out_of_scope": "other"}
    with pytest.raises(ConfigError, match="no data set 'other'; it has test, train, validation"):
        again.optimize_version(again.Request(ref="support_topics:1", settings=settings))


def test_what_measures_ends_when_the_command_is_killed():
    command = [sys.executable, "-m", "fairlead.cli.main", "optimize", "support_topics:1", "--set", "rounds=1000"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as killed:
        while not (children := psutil.Process(killed.pid).children()):
            assert killed.poll() is None
            time.sleep(0.05)
        killed.kill()
    psutil.wait_procs(children, timeout=600)
    assert not any(child.is_running() for child in children)
