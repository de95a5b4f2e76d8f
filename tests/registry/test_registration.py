"""Registration with a real store and a real database: complete or invisible, once, and never without a link."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairlead import places
from fairlead.errors import Conflict, FairleadError, GateFailed, IntegrityError, NotFound
from fairlead.formats import model
from fairlead.formats.digests import of_bytes
from fairlead.names import MODEL_MANIFEST
from fairlead.registry import VersionRecord, open_registry
from fairlead.registry.collection import collect_garbage
from fairlead.registry.registration import register, register_stage
from fairlead.storage import open_store
from fairlead.storage.folders import download
from tests.registry import samples
from tests.registry.stages import Stages

ROOT = Path(__file__).parent.parent.parent
# model.safetensors, config.json, training.json and fairlead.json.
NUM_UPLOADS = 4


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def registry_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    url = places.registry_url() if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    monkeypatch.setenv("FAIRLEAD_REGISTRY", url)
    return url


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path / "stages").write()


def start(folder: Path, num_uploads: int) -> "subprocess.Popen[bytes]":
    program = [sys.executable, "-m", "tests.registry.stages", str(folder), str(num_uploads)]
    return subprocess.Popen(program, cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"})


def keys(prefix: str = "models/") -> list[str]:
    return [stat.key for stat in open_store(places.store_url()).list(prefix)]


def check_store(version: VersionRecord, folder: Path) -> None:
    """The version in the store is whole and is the one in the registry."""
    download(open_store(places.store_url()), version.prefix, folder, last=MODEL_MANIFEST)
    assert model.verify(folder) == version.manifest


def test_the_stage_registers_once(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_registry() as registry:
        stages.record(registry)
    monkeypatch.setenv("FAIRLEAD_EVENTS", str(tmp_path / "events"))
    for _ in range(2):
        assert register_stage("topics", *stages.paths, str(tmp_path / "out")) == "topics_v1"
    told = [json.loads(line).get("what") for line in (tmp_path / "events").read_text().splitlines()]
    assert told[:2] == ["check the weights", "digest topics_v1"]
    with open_registry() as registry:
        (version,) = registry.list_versions("topics")
    written = json.loads((tmp_path / "out" / "version.json").read_text())
    assert written == {
        "name": "topics_v1",
        "number": 1,
        "digest": version.digest,
        "prefix": "models/topics/v0001/",
        "aliases": ["challenger", "champion"],
    }
    check_store(version, tmp_path / "download")
    assert version.manifest.evaluations[0]["metrics"] == {"macro_f1": 0.8}


@pytest.mark.parametrize("num_uploads", [0, 2, NUM_UPLOADS])
def test_a_killed_registration_is_invisible_and_ends_with_one_version(
    registry_url: str, stages: Stages, tmp_path: Path, num_uploads: int
) -> None:
    assert start(stages.folder, num_uploads).wait(60) == -signal.SIGKILL
    assert len(keys()) == num_uploads
    with open_registry() as registry:
        assert registry.list_models() == [] and len(registry.pending_versions()) == 1
    # What an upload of another Fairlead may have left there besides.
    open_store(places.store_url()).put_bytes("models/topics/v0001/stray.bin", b"stray")
    # Training was repeated too: only its clock differs.
    stages.training = {"seconds": 99.0}
    version = stages.write().register()
    check_store(version, tmp_path / "download")
    with open_registry() as registry:
        assert [v.number for v in registry.list_versions("topics")] == [1] and registry.pending_versions() == []


def test_a_registration_killed_after_its_commit_is_done(registry_url: str, stages: Stages, tmp_path: Path) -> None:
    assert start(stages.folder, NUM_UPLOADS + 1).wait(60) == -signal.SIGKILL
    version = stages.register()
    assert version.number == 1 and version.aliases == ["challenger", "champion"]
    check_store(version, tmp_path / "download")


@pytest.mark.parametrize("num_uploads", [2, NUM_UPLOADS])
def test_what_a_killed_registration_left_is_collected(registry_url: str, stages: Stages, num_uploads: int) -> None:
    start(stages.folder, num_uploads).wait(60)
    store = open_store(places.store_url())
    with open_registry() as registry:
        assert collect_garbage(registry, store, 3600).kept == ["topics_v1"]
        (reservation,) = registry.pending_versions()
        with open_registry() as other, other.upload_lock(reservation):
            assert collect_garbage(registry, store, 0).kept == ["topics_v1"]
        assert collect_garbage(registry, store, 0, dry_run=True).removed == {"topics_v1": num_uploads}
        assert len(keys()) == num_uploads
        assert collect_garbage(registry, store, 0).removed == {"topics_v1": num_uploads}
        assert keys() == []
        # A collection killed between its two steps leaves objects of a version that was given up.
        store.put_bytes("models/topics/v0001/config.json", b"{}")
        assert collect_garbage(registry, store, 3600).removed == {"topics_v1": 1}
        assert collect_garbage(registry, store, 0).removed == {} and keys() == []
    assert stages.register().number == 2


def test_a_collection_never_touches_a_committed_version(stages: Stages, tmp_path: Path) -> None:
    version = stages.register()
    with open_registry() as registry:
        assert collect_garbage(registry, open_store(places.store_url()), 0).removed == {}
    check_store(version, tmp_path / "download")


def test_processes_that_trained_the_same_model_end_with_one_whole_version(registry_url: str, tmp_path: Path) -> None:
    processes = []
    for number in range(3):
        one = Stages(tmp_path / str(number), training={"seconds": float(number)}).write()
        # Each one lives until it has committed or found the commit of another.
        processes.append(start(one.folder, NUM_UPLOADS + 1))
    assert sorted(process.wait(60) for process in processes) == [-signal.SIGKILL, 0, 0]
    with open_registry() as registry:
        (version,) = registry.list_versions("topics")
    assert version.number == 1
    check_store(version, tmp_path / "download")


def test_other_weights_other_config_or_other_test_rows_are_another_version(stages: Stages, tmp_path: Path) -> None:
    closure = stages.candidate().closure
    for changed in (
        Stages(tmp_path / "a", weights=b"other"),
        Stages(tmp_path / "b", training={"seed": 1}),
        Stages(tmp_path / "c", report={"evaluations": [_on_other_rows()]}),
    ):
        assert changed.write().candidate().closure != closure
    assert Stages(tmp_path / "d", training={"seconds": 7.0}).write().candidate().closure == closure


def _on_other_rows() -> dict[str, Any]:
    from tests.registry.samples import evaluation

    return evaluation(dataset_digest=of_bytes(b"other rows"))


@pytest.mark.parametrize(
    ("changes", "error", "link"),
    [
        ({"training": {"data_digest": ""}}, NotFound, "data_digest"),
        ({"training": {"run_id": ""}}, NotFound, "run_id"),
        ({"training": {"labels": []}}, NotFound, "labels"),
        (
            {"training": {"config": {"data": {"a": 1}, "tokenization": {"a": 1}, "model": {"a": 1}}}},
            NotFound,
            "config.training",
        ),
        (
            {"training": {"environment": samples.ENVIRONMENT.model_copy(update={"torch": "not installed"})}},
            NotFound,
            "'environment.torch' is missing",
        ),
        ({"training": {"project": "other"}}, Conflict, "project"),
        ({"training": {"data_digest": of_bytes(b"x")}}, Conflict, "data version"),
        ({"training": {"tokens_digest": of_bytes(b"x")}}, Conflict, "tokens"),
        ({"training": {"weights_digest": of_bytes(b"x")}}, IntegrityError, "model.safetensors"),
        ({"report": {"weights_digest": of_bytes(b"x")}}, Conflict, "evaluated weights"),
        ({"report": {"run_id": "run-7"}}, Conflict, "evaluated run"),
        ({"report": {"data_digest": of_bytes(b"x")}}, Conflict, "evaluated data version"),
        ({"report": {"evaluations": []}}, NotFound, "evaluation"),
        ({"verdict": {"passed": False}}, GateFailed, "gate"),
    ],
)
def test_a_missing_link_is_named(
    stages: Stages, changes: dict[str, Any], error: type[FairleadError], link: str
) -> None:
    for name, value in changes.items():
        setattr(stages, name, value)
    with pytest.raises(error, match=link):
        stages.write().register()
    assert keys() == []


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("model/training.json", "training.json"),
        ("model/model.safetensors", "weights"),
        ("evaluation/evaluation.json", "evaluation"),
        ("verdict/verdict.json", "verdict"),
        ("data/manifest.json", "data version"),
        ("tokens/tokens.json", "tokens"),
    ],
)
def test_a_missing_file_is_named(stages: Stages, path: str, link: str) -> None:
    (stages.folder / path).unlink()
    with pytest.raises(NotFound, match=link):
        stages.register()


def test_a_record_without_its_seed_is_refused(stages: Stages) -> None:
    path = stages.folder / "model" / "training.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "seed"}))
    with pytest.raises(FairleadError, match="'seed' is missing"):
        stages.register()


def test_a_data_version_that_the_store_does_not_hold_is_named(stages: Stages, tmp_path: Path) -> None:
    with open_registry() as registry:
        stages.record(registry)
        open_store(places.store_url()).delete("data/x/manifest.json")
        with pytest.raises(NotFound, match=r"a link is missing: .*data/x/manifest\.json"):
            register(registry, open_store(places.store_url()), stages.candidate())
        assert registry.pending_versions() == []


def test_a_base_model_needs_a_parent(stages: Stages) -> None:
    sections = ("data", "tokenization", "training")
    config = {**{name: {"a": 1} for name in sections}, "model": {"base": "hf://some/model"}}
    stages.training = {"config": config}
    with pytest.raises(NotFound, match="'parent'"):
        stages.write().candidate()
    stages.training["parent"] = "hf://some/model@abc"
    assert stages.write().candidate().training.parent


def test_a_run_or_data_version_that_the_registry_does_not_know_is_named(
    stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        register_stage("topics", *stages.paths, str(tmp_path / "out"))
    assert caught.value.code == 42
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("error: register topics: a link is missing: runs: there is no run 'run-1'")
    with open_registry() as registry:
        assert registry.pending_versions() == []
        stages.record(registry)
        registry.start_run(**_again(registry.get_run("run-1")))
    with pytest.raises(SystemExit):
        register_stage("topics", *stages.paths, str(tmp_path / "out"))
    assert "the link 'run' is run-1 of topics, running" in capsys.readouterr().out


def _again(run: Any) -> dict[str, Any]:
    names = ("run_id", "project", "data_digest", "tokens_digest", "config", "seed", "environment", "code")
    return {name: getattr(run, name) for name in names}


def test_a_version_of_another_registry_is_never_overwritten(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.register()
    store = open_store(places.store_url())
    before = {key: store.get_bytes(key) for key in keys()}
    monkeypatch.setenv("FAIRLEAD_REGISTRY", f"sqlite:///{places.home() / 'second.db'}")
    with pytest.raises(Conflict, match="topics_v1 that this registry did not write"):
        stages.register()
    assert {key: store.get_bytes(key) for key in keys()} == before


def test_the_manifest_holds_how_the_model_was_judged(stages: Stages) -> None:
    checks = [{"kind": "floor", "metric": "macro_f1", "value": 0.8, "bound": 0.7, "at_most": False, "passed": True}]
    gate = {"gate": {"macro_f1": 0.7}, "champion_metric": "accuracy", "champion_max_drop": 0.03}
    stages.verdict = {"checks": checks, "champion_metric": "accuracy", "config": gate}
    # The report's defaults of the gate are not what the gate was told.
    stages.report = {"config": {"calibration_bins": 9, "gate": {}, "champion_metric": "macro_f1"}}
    manifest = stages.write().register().manifest
    assert manifest.checks == checks
    assert manifest.evaluation_config == {"calibration_bins": 9, **gate}
    older = manifest.to_dict()
    del older["evaluation_config"], older["checks"]
    read = model.ModelManifest.parse(older)
    assert (read.evaluation_config, read.checks, read.digest) == ({}, [], manifest.digest)


@pytest.mark.parametrize(("verdict", "wins"), [({}, False), ({"champion_metric": "accuracy"}, True)])
def test_the_verdict_names_the_metric_that_picks_the_champion(
    stages: Stages, tmp_path: Path, verdict: dict[str, Any], wins: bool
) -> None:
    stages.metrics = {"macro_f1": 0.8, "accuracy": 0.8}
    assert "champion" in stages.write().register().aliases
    second = Stages(tmp_path / "b", b"better", {"macro_f1": 0.7, "accuracy": 0.9}, verdict=verdict).write()
    assert ("champion" in second.register().aliases) is wins


def test_what_a_run_left_goes_when_it_has_finished(registry_url: str, home: Path) -> None:
    store = open_store(places.store_url())
    with open_registry() as registry:
        samples.start_run(registry, "run_1")
        for name in ("run_1", "run_2"):
            store.put_bytes(f"checkpoints/{name}/step-00000001/state.json", b"{}")
            store.put_bytes(f"runs/{name}/finished/training.json", b"{}")
        registry.finish_run("run_1", "failed", reason="the disk is full")
        assert collect_garbage(registry, store, 0).removed == {}
        registry.finish_run("run_1", "finished")
        assert collect_garbage(registry, store, 3600).removed == {}
        both = {"checkpoints/run_1/": 1, "runs/run_1/": 1}
        assert collect_garbage(registry, store, 0, dry_run=True).removed == both
        # Somebody trained on from what the nodes left.
        base = f"{places.store_url()}/runs/run_1/finished/"
        samples.add_version(registry, "from it", config={**samples.CONFIG, "model": {"base": base}})
        assert collect_garbage(registry, store, 0).removed == {"checkpoints/run_1/": 1}
        assert collect_garbage(registry, store, 0).removed == {}
    assert keys("checkpoints/") == ["checkpoints/run_2/step-00000001/state.json"]
    assert keys("runs/") == [f"runs/{name}/finished/training.json" for name in ("run_1", "run_2")]


def optimized(stages: Stages, **values: Any) -> str:
    """What the optimize stage leaves: two files that were built, of which one is kept."""
    folder = stages.folder / "optimized"
    folder.mkdir(exist_ok=True)
    names = {"onnxruntime-int8": "int8", "onnxruntime-fp32": "fp32"}
    variants = [{"name": "torch-fp32", "runtime": "torch", "precision": "fp32", "texts_per_second": 1.0}]
    for name, precision in names.items():
        file = f"variants/onnx-{precision}/model.onnx"
        kept = precision == "int8"
        variants.append(
            {"name": name, "runtime": "onnxruntime", "precision": precision, "files": [file], "kept": kept}  # type: ignore[dict-item]
        )
        if kept:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(b"onnx")
    record = {"chosen": "onnxruntime-int8", "variants": variants, "config": {"rounds": 5}, **values}
    (folder / "optimization.json").write_text(json.dumps(record))
    return str(folder)


def test_a_version_holds_the_variants_that_were_kept(stages: Stages, registry_url: str, tmp_path: Path) -> None:
    with open_registry() as registry:
        stages.record(registry)
        folder = optimized(stages, rejection_threshold=0.3)
        assert register_stage("topics", *stages.paths, str(tmp_path / "out"), folder) == "topics_v1"
        version = registry.get_version("topics", 1)
        # Measured again the times are others, and another variant may be a little faster: it is the same version.
        optimized(stages, chosen="torch-fp32", num_rows=9)
        assert register_stage("topics", *stages.paths, str(tmp_path / "out"), folder) == "topics_v1"
        optimized(stages, config={"rounds": 6})
        assert register_stage("topics", *stages.paths, str(tmp_path / "out"), folder) == "topics_v2"
    manifest = version.manifest
    assert manifest.optimization is not None and manifest.optimization.chosen == "onnxruntime-int8"
    assert [output.name for output in manifest.signature.outputs] == ["label", "probability", "rejected"]
    assert "variants/onnx-int8/model.onnx" in manifest.files and "variants/onnx-fp32/model.onnx" not in manifest.files
    check_store(version, tmp_path / "downloaded")


def test_without_anything_to_optimize_the_version_is_as_before(
    stages: Stages, registry_url: str, tmp_path: Path
) -> None:
    (stages.folder / "optimization.json").write_text('{"skipped": "optimization.enabled is false"}')
    with open_registry() as registry:
        stages.record(registry)
        assert register_stage("topics", *stages.paths, str(tmp_path / "out")) == "topics_v1"
        assert register_stage("topics", *stages.paths, str(tmp_path / "out"), str(stages.folder)) == "topics_v1"
        assert registry.get_version("topics", 1).manifest.optimization is None
