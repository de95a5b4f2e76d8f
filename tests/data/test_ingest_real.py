"""The real data sets, counted here a second way."""

from pathlib import Path

from fairlead.data.config import DataConfig
from fairlead.data.ingest import ingest, ingest_stage, localize_sources
from fairlead.formats.dataset import DataManifest, read_rows, verify
from fairlead.places import store_url
from fairlead.registry import open_registry
from fairlead.storage.opening import open_store


def run(folder: Path, **values: object) -> DataManifest:
    config = DataConfig.parse(values)
    return ingest(config, localize_sources(config, "digest"), folder)


def test_banking77_keeps_its_test_file_and_loses_what_leaks_from_training(datasets: Path, tmp_path: Path) -> None:
    source, test = (str(datasets / "banking77" / name) for name in ("train.csv", "test.csv"))
    manifest = run(tmp_path / "out", source=source, test=test, label="category")
    assert verify(tmp_path / "out") == manifest
    found = manifest.findings
    assert found["by_source"]["train"]["rows_read"] == 10_003
    assert found["by_source"]["test"]["rows_read"] == manifest.splits["test"].num_rows == 3_080
    assert found["leaked"] == found["policies"]["leakage"]["dropped"] == 7
    assert found["rejected"] == 0
    assert len(manifest.labels) == 77
    dropped = sum(policy["dropped"] for policy in found["policies"].values())
    assert sum(split.num_rows for split in manifest.splits.values()) == 13_083 - dropped
    texts = [{" ".join(t.lower().split()) for t, _ in read_rows(tmp_path / "out", name)} for name in manifest.splits]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


def test_sms_spam_is_read_line_for_line(datasets: Path, tmp_path: Path) -> None:
    path = datasets / "sms-spam" / "SMSSpamCollection"
    lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    manifest = run(tmp_path / "out", source=str(path), label="0", text="1", duplicates="keep")
    assert manifest.findings["rows_read"] == len(lines) == 5_574
    kept = [f"{label}\t{text}" for name in manifest.splits for text, label in read_rows(tmp_path / "out", name)]
    assert sorted(kept) == sorted(lines)
    assert manifest.findings["duplicates_exact"] == len(lines) - len(set(lines)) == 403
    assert not manifest.findings["by_source"]["train"]["quoting"]


def test_sms_spam_without_its_duplicates(datasets: Path, tmp_path: Path) -> None:
    path = datasets / "sms-spam" / "SMSSpamCollection"
    manifest = run(tmp_path / "out", source=str(path), label="0", text="1")
    assert manifest.findings["policies"]["duplicates"]["dropped"] == 415
    assert sum(split.num_rows for split in manifest.splits.values()) == 5_574 - 415
    spam = {name: s.label_counts["spam"] / s.num_rows for name, s in manifest.splits.items()}
    assert max(spam.values()) - min(spam.values()) < 0.002


def test_the_stage_publishes_and_records_the_data_version(datasets: Path, tmp_path: Path) -> None:
    config = {"source": str(datasets / "sms-spam" / "SMSSpamCollection"), "label": "0", "text": "1", "seed": 0.0}
    for name in ("one", "two"):
        ingest_stage(config, "digest", str(tmp_path / name))
    digest = verify(tmp_path / "one").digest
    prefix = f"data/{digest.removeprefix('sha256:')}/"
    keys = {stat.key.removeprefix(prefix) for stat in open_store(store_url()).list("data/")}
    assert keys == {"manifest.json", "rejected.jsonl", "train.parquet", "validation.parquet", "test.parquet"}
    with open_registry() as registry:
        assert [record.digest for record in registry.list_data_versions()] == [digest]
