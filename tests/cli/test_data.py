"""`fairlead data` on a real registry and a real folder."""

from fairlead.formats.dataset import DataManifest, write_manifest
from fairlead.formats.digests import short
from fairlead.registry import open_registry
from tests.cli.records import add_version


def test_show_by_digest_gives_findings_splits_and_classes(fairlead, home):
    with open_registry() as registry:
        digest = add_version(registry, 1, accuracy=0.9, rows=1200).data_digest
    outcome = fairlead("data", "show", short(digest))
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["rows", "read", "1,209"] in lines and ["rejected", "reasons.no", "label", "2"] in lines
    assert ["train", "1,200", "2"] in [line[:3] for line in lines]
    assert ["billing", "1,199", "1", "1"] in lines and ["delivery", "1", "1", "1"] in lines
    assert fairlead("data", "show", digest, "--json").json["digest"] == digest
    assert fairlead("data", "list", "--json").json[0]["digest"] == digest
    assert short(digest) in fairlead("data", "list").out


def test_show_by_path(fairlead, home, tmp_path):
    with open_registry() as registry:
        record = registry.get_data_version(add_version(registry, 1, accuracy=0.9).data_digest)
    write_manifest(tmp_path / "version", DataManifest.parse(record.manifest))
    assert record.digest in fairlead("data", "show", tmp_path / "version").out


def test_many_classes_are_cut_unless_all_are_asked_for(fairlead, home, tmp_path):
    with open_registry() as registry:
        record = registry.get_data_version(add_version(registry, 1, accuracy=0.9).data_digest)
    manifest = DataManifest.parse(record.manifest)
    counts = {f"class{i:03d}": 100 - i for i in range(45)}
    many = manifest.splits["train"].model_copy(update={"label_counts": counts})
    write_manifest(tmp_path, manifest.model_copy(update={"splits": {"train": many}}))
    cut = fairlead("data", "show", tmp_path).out
    assert "class029" in cut and "class030" not in cut and "... and 15 more" in cut
    assert "class044" in fairlead("data", "show", tmp_path, "--all").out


def test_a_wrong_digest_or_folder_is_one_line(fairlead, home, tmp_path):
    outcome = fairlead("data", "show", "abcdef")
    assert outcome.code == 2 and "there is no data version 'abcdef'" in outcome.err
    outcome = fairlead("data", "show", tmp_path)
    assert outcome.code == 2 and "holds no data version" in outcome.err
