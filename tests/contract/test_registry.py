"""The contract of the registry, on SQLite and on PostgreSQL."""

import dataclasses
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from fairlead.errors import ConfigError, Conflict, NotFound, RegistryError
from fairlead.formats.digests import of_bytes
from fairlead.formats.evaluation import ChampionScore
from fairlead.names import ModelRef, version_prefix
from fairlead.registry import MetricPoint, Promotion, Registry, open_registry
from tests.registry import samples
from tests.registry.racing import race
from tests.registry.samples import DATA_DIGEST, TEST_DIGEST, add_version, data_manifest, start_run

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    with open_registry(url) as registry:
        yield registry


def in_processes(url: str, tmp_path: Path, closures: list[list[str]]) -> list[list[int]]:
    """Register `closures`, one list a process and one thread a closure, all started together."""
    start = tmp_path / "start"
    program = [sys.executable, "-m", "tests.registry.racing", url]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    processes = [
        subprocess.Popen([*program, ",".join(c), str(start)], stdout=subprocess.PIPE, cwd=ROOT, env=environment)
        for c in closures
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    start.touch()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [[int(number) for number in output.split()] for output in outputs]


def test_64_concurrent_registrations_give_64_consecutive_versions(url: str, tmp_path: Path) -> None:
    # The database is empty: three processes and nothing before them make its tables too.
    numbers = in_processes(url, tmp_path, [[f"{p}-{t}" for t in range(count)] for p, count in enumerate((32, 16, 16))])
    assert sorted(number for process in numbers for number in process) == list(range(1, 65))
    with open_registry(url) as registry:
        assert [v.number for v in registry.list_versions("topics")] == list(range(1, 65))
        assert registry.pending_versions() == []
        assert registry.champion("topics") is not None


def test_processes_racing_on_one_closure_end_with_one_version(url: str, tmp_path: Path) -> None:
    numbers = in_processes(url, tmp_path, [["same"] * 4, ["same"] * 4, ["same"] * 4])
    assert numbers == [[1] * 4] * 3
    with open_registry(url) as registry:
        assert [v.name for v in registry.list_versions("topics")] == ["topics_v1"]
        assert registry.reserve_version("topics", "next").number == 2


def test_threads_of_one_registry_may_all_hold_upload_locks(registry: Registry) -> None:
    assert sorted(race(registry, [str(n) for n in range(24)])) == list(range(1, 25))


def test_a_closure_finds_its_number_again(registry: Registry) -> None:
    first = registry.reserve_version("topics", "a")
    assert (first.number, first.committed, first.name) == (1, False, "topics_v1")
    assert registry.reserve_version("topics", "b").number == 2
    assert registry.reserve_version("other", "a").number == 1
    assert registry.reserve_version("topics", "a") == first
    add_version(registry, "a")
    assert registry.reserve_version("topics", "a") == dataclasses.replace(first, committed=True)


def test_a_reserved_version_is_invisible(registry: Registry) -> None:
    registry.reserve_version("topics", "a")
    assert registry.list_models() == [] and registry.champion("topics") is None
    for ask in (
        lambda: registry.get_version("topics", 1),
        lambda: registry.list_versions("topics"),
        lambda: registry.resolve(ModelRef.parse("topics:1")),
        lambda: registry.set_alias("topics", "champion", 1),
    ):
        with pytest.raises(NotFound, match="'topics'"):
            ask()
    assert [r.number for r in registry.pending_versions()] == [1]


def test_an_abandoned_number_is_not_used_again(registry: Registry) -> None:
    registry.reserve_version("topics", "a")
    registry.abandon("topics", 1)
    assert registry.pending_versions() == []
    assert [r.number for r in registry.abandoned_versions()] == [1]
    start_run(registry)
    registry.record_data_version(data_manifest(), "data/x/")
    with pytest.raises(RegistryError, match="run register again"):
        registry.commit_version(samples.manifest(1, samples.training()), version_prefix("topics", 1))
    assert add_version(registry, "a").number == 2
    with pytest.raises(Conflict, match="committed"):
        registry.abandon("topics", 2)
    with pytest.raises(NotFound, match="never reserved"):
        registry.abandon("topics", 9)


def test_a_committed_version_reads_back_whole(registry: Registry) -> None:
    version = add_version(registry, "a")
    assert (version.name, version.number, version.prefix) == ("topics_v1", 1, "models/topics/v0001/")
    assert (version.run_id, version.data_digest, version.weights_digest) == ("run-1", DATA_DIGEST, of_bytes(b"a"))
    assert version.metrics["macro_f1"] == 0.8
    assert version.manifest == samples.manifest(1, samples.training(weights=b"a"))
    assert version.digest == version.manifest.digest
    assert registry.get_version("topics", 1) == version == registry.list_versions("topics")[0]
    (model,) = registry.list_models()
    assert (model.project, model.num_versions, model.latest) == ("topics", 1, 1)
    assert model.aliases == {"challenger": 1, "champion": 1}


def test_a_commit_is_repeated_without_effect_but_never_changed(registry: Registry) -> None:
    version = add_version(registry, "a")
    add_version(registry, "b")
    registry.set_alias("topics", "champion", 2)
    assert registry.commit_version(version.manifest, version.prefix).aliases == []
    changed = samples.manifest(1, samples.training(weights=b"changed"))
    with pytest.raises(Conflict, match="a version never changes"):
        registry.commit_version(changed, version.prefix)
    assert registry.get_version("topics", 1).digest == version.digest


@pytest.mark.parametrize("missing", ["run", "data"])
def test_a_commit_without_a_link_leaves_nothing(registry: Registry, missing: str) -> None:
    if missing != "run":
        start_run(registry)
    if missing != "data":
        registry.record_data_version(data_manifest(), "data/x/")
    registry.reserve_version("topics", "a")
    with pytest.raises(NotFound, match=f"its {missing}"):
        registry.commit_version(samples.manifest(1, samples.training()), version_prefix("topics", 1))
    assert registry.list_models() == []
    assert registry.find_evaluation(of_bytes(b"weights"), TEST_DIGEST) is None


def promotion(metric: str = "macro_f1", champion: ChampionScore | None = None) -> Promotion:
    return Promotion(metric, TEST_DIGEST, champion)


@pytest.mark.parametrize(
    ("metrics", "metric", "wins"),
    [
        ({"macro_f1": 0.81}, "macro_f1", True),
        ({"macro_f1": 0.80}, "macro_f1", True),
        ({"macro_f1": 0.79}, "macro_f1", False),
        ({"macro_f1": 0.79, "log_loss": 0.1}, "log_loss", True),
        ({"macro_f1": 0.99, "log_loss": 0.9}, "log_loss", False),
        ({"accuracy": 0.99}, "macro_f1", False),
    ],
)
def test_a_version_becomes_champion_when_it_is_not_worse(
    registry: Registry, metrics: dict[str, float], metric: str, wins: bool
) -> None:
    assert add_version(registry, "a").aliases == ["challenger", "champion"]
    second = add_version(registry, "b", metrics, promotion(metric))
    assert second.aliases == (["challenger", "champion"] if wins else ["challenger"])
    assert registry.get_version("topics", 1).aliases == ([] if wins else ["champion"])
    champion = registry.champion("topics")
    assert champion is not None and champion.number == (2 if wins else 1)


def test_the_champion_is_compared_on_the_same_rows_only(registry: Registry) -> None:
    add_version(registry, "a")
    elsewhere = of_bytes(b"other rows")
    assert "champion" not in add_version(registry, "b", {"macro_f1": 0.9}, Promotion("macro_f1", elsewhere)).aliases


def test_a_champion_measured_by_evaluation_counts_only_while_it_is_the_champion(registry: Registry) -> None:
    start_run(registry)
    registry.record_data_version(data_manifest(), "data/x/")
    rows = of_bytes(b"new rows")
    champion = add_version(registry, "a")

    def commit(closure: str, score: float, measured: str) -> list[str]:
        number = registry.reserve_version("topics", closure).number
        content = samples.manifest(
            number, samples.training(weights=closure.encode()), [samples.evaluation({"macro_f1": score}, rows)]
        )
        against = ChampionScore(version=measured, dataset_digest=rows, metrics={"macro_f1": 0.5})
        return registry.commit_version(
            content, version_prefix("topics", number), Promotion("macro_f1", rows, against)
        ).aliases

    assert commit("b", 0.9, "topics_v7") == ["challenger"]
    assert commit("c", 0.6, "topics_v1") == ["challenger", "champion"]
    # Evaluation of this one measured the champion before the last.
    assert commit("d", 0.55, "topics_v1") == ["challenger"]
    known = registry.find_evaluation(champion.weights_digest, rows)
    assert known is not None and known.metrics == {"macro_f1": 0.5} and known.summary is None


def test_evaluations_are_found_by_weights_and_rows(registry: Registry) -> None:
    version = add_version(registry, "a")
    found = registry.find_evaluation(version.weights_digest, TEST_DIGEST)
    assert found is not None and found.summary == version.manifest.evaluations[0]
    assert registry.list_evaluations("topics", 1) == [found]
    assert registry.find_evaluation(version.weights_digest, of_bytes(b"other")) is None


def test_aliases_move_and_are_removed(registry: Registry) -> None:
    add_version(registry, "a")
    add_version(registry, "b")
    registry.set_alias("topics", "blue-green", 2)
    assert registry.resolve(ModelRef.parse("topics@blue-green")).number == 2
    registry.set_alias("topics", "blue-green", 1)
    assert registry.resolve(ModelRef.parse("topics@blue-green")).number == 1
    assert registry.resolve(ModelRef.parse("topics")).number == 1
    registry.delete_alias("topics", "blue-green")
    with pytest.raises(NotFound, match="alias 'blue-green'"):
        registry.delete_alias("topics", "blue-green")
    with pytest.raises(ConfigError, match="alias"):
        registry.set_alias("topics", "Blue_Green", 1)


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("topic", "did you mean 'topics'"),
        ("topics@champoin", "did you mean 'champion'"),
        ("topics:9", "did you mean 'topics_v1'"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(registry: Registry, reference: str, hint: str) -> None:
    add_version(registry, "a")
    with pytest.raises(NotFound, match=hint):
        registry.resolve(ModelRef.parse(reference))


def test_a_run_is_started_again_with_one_more_attempt(registry: Registry) -> None:
    start_run(registry)
    registry.finish_run("run-1", "failed", reason="a rank died\0 with NUL", metrics={"loss": math.nan, "macro_f1": 0.5})
    run = registry.get_run("run-1")
    assert (run.status, run.reason, run.attempts) == ("failed", "a rank died with NUL", 1)
    assert run.finished is not None and run.metrics == {"macro_f1": 0.5}
    start_run(registry)
    run = registry.get_run("run-1")
    assert (run.status, run.reason, run.finished, run.attempts) == ("running", None, None, 2)
    assert (run.config, run.environment, run.code) == (samples.CONFIG, samples.ENVIRONMENT, samples.CODE)
    with pytest.raises(Conflict, match="seed"):
        registry.start_run(
            "run-1", "topics", DATA_DIGEST, samples.TOKENS_DIGEST, {}, 2**40, samples.ENVIRONMENT, samples.CODE
        )
    start_run(registry, "run-2", project="other")
    assert [r.run_id for r in registry.list_runs()] == ["run-2", "run-1"]
    assert [r.run_id for r in registry.list_runs("topics")] == ["run-1"]


def test_a_point_logged_again_replaces_the_one_before(registry: Registry) -> None:
    start_run(registry)
    registry.log_metrics("run-1", [MetricPoint("loss", step, 1.0 / (step + 1), 10.0) for step in range(500)])
    registry.log_metrics("run-1", [MetricPoint("loss", 499, 7.0, 11.0), MetricPoint("loss", 500, math.nan, 11.0)])
    registry.log_metrics("run-1", [MetricPoint("accuracy", 3, 0.25, 12.0)])
    points = registry.metric_history("run-1", "loss")
    assert [p.step for p in points] == list(range(501))
    assert points[499] == MetricPoint("loss", 499, 7.0, 11.0) and math.isnan(points[500].value)
    assert [p.name for p in registry.metric_history("run-1")][:2] == ["accuracy", "loss"]
    with pytest.raises(NotFound, match="did you mean 'run-1'"):
        registry.log_metrics("run-9", [MetricPoint("loss", 0, 1.0, 1.0)])


def test_points_of_steps_that_are_done_again_can_be_forgotten(registry: Registry) -> None:
    for run in ("run-1", "run-2"):
        start_run(registry, run)
        registry.log_metrics(run, [MetricPoint(name, step, 1.0, 1.0) for name in ("a", "b") for step in range(4)])
    registry.drop_metrics("run-1", 1)
    assert [(p.name, p.step) for p in registry.metric_history("run-1")] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert len(registry.metric_history("run-2")) == 8
    registry.log_metrics("run-2", [MetricPoint("b", 9, 5.0, 2.0)])
    assert registry.latest_metrics("run-2") == {"a": MetricPoint("a", 3, 1.0, 1.0), "b": MetricPoint("b", 9, 5.0, 2.0)}
    assert [p.step for p in registry.metric_history("run-2", "b", after_step=2)] == [3, 9]
    with pytest.raises(NotFound):
        registry.drop_metrics("run-9", 1)


def test_a_run_is_read_while_another_connection_writes(url: str, registry: Registry) -> None:
    start_run(registry)
    stop, errors = threading.Event(), list[Exception]()

    def write() -> None:
        with open_registry(url) as writer:
            for step in range(10_000):
                if stop.is_set():
                    return
                try:
                    writer.log_metrics("run-1", [MetricPoint("loss", step, 0.5, 1.0)])
                except Exception as error:
                    errors.append(error)
                    return

    thread = threading.Thread(target=write)
    thread.start()
    seen = [len(registry.metric_history("run-1")) for _ in range(50)]
    while not registry.metric_history("run-1"):
        assert thread.is_alive()
    stop.set()
    thread.join()
    assert errors == [] and seen == sorted(seen)


def test_data_versions_are_found_by_the_beginning_of_their_digest(registry: Registry) -> None:
    manifests = [data_manifest("sha256:" + digits * 8) for digits in ("abcd0123", "abcd4567")]
    for manifest in [*manifests, manifests[0]]:
        registry.record_data_version(manifest, "data/x/")
    assert len(registry.list_data_versions()) == 2
    found = registry.get_data_version("abcd0")
    assert found == registry.get_data_version(manifests[0].digest)
    assert (found.num_rows, found.labels, found.manifest) == (12, ["no", "yes"], manifests[0].to_dict())
    with pytest.raises(Conflict, match="write more of it"):
        registry.get_data_version("abcd")
    for unknown in ("abcd_", "ffff", "%", ""):
        with pytest.raises((NotFound, Conflict)):
            registry.get_data_version(unknown)


def test_hostile_text_is_only_text(registry: Registry) -> None:
    hostile = "x'; DROP TABLE runs; --"
    start_run(registry, hostile)
    assert registry.get_run(hostile).run_id == hostile
    registry.log_metrics(hostile, [MetricPoint(hostile, 0, 1.0, 1.0)])
    assert registry.metric_history(hostile, hostile)[0].name == hostile
    with pytest.raises(ConfigError, match="project"):
        registry.reserve_version(hostile, "a")


def test_a_lock_is_held_by_one(registry: Registry, url: str) -> None:
    reservation = registry.reserve_version("topics", "a")
    with open_registry(url) as other:
        with registry.upload_lock(reservation) as held, other.upload_lock(reservation, wait=False) as second:
            assert held and not second
        with other.upload_lock(reservation, wait=False) as held:
            assert held


@pytest.mark.postgres
def test_a_restarted_server_is_found_again_and_a_lost_lock_harms_nothing(
    postgres_url: str, postgres_server: str
) -> None:
    def cut() -> None:
        name = make_url(postgres_url).database
        with psycopg.connect(postgres_server) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    with open_registry(postgres_url) as registry:
        start_run(registry)
        cut()
        assert registry.get_run("run-1").attempts == 1
        with registry.upload_lock(registry.reserve_version("topics", "a")):
            cut()
            assert add_version(registry, "a").number == 1
