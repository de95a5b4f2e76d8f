"""The registry as Prometheus metrics, over real HTTP."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairlead import places
from fairlead.registry import MetricPoint, open_registry
from fairlead.training.checkpoints.format import AGE
from tests.cli.records import PROJECT, add_version

ROOT = Path(__file__).parent.parent.parent


def scrape(url: str) -> dict[tuple[str, frozenset[str]], float]:
    text = httpx.get(url, timeout=30, trust_env=False).text
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path))
    places.home().mkdir(exist_ok=True)
    return tmp_path


def test_runs_and_versions_are_exported_as_they_change(home: Path) -> None:
    with open_registry() as registry:
        add_version(registry, 1, accuracy=0.9)
        run = registry.list_runs()[0]
        identity = (run.project, run.data_digest, run.tokens_digest, run.config, run.seed, run.environment, run.code)
        registry.start_run("run_live", *identity)
        registry.start_run("run_forgotten", *identity)
        registry.log_metrics("run_forgotten", [MetricPoint("loss", 1, 0.5, time.time() - 2 * 86_400)])
        then = time.time() - 100
        said = [MetricPoint("loss", 7, 0.25, then), MetricPoint(AGE, 7, 50, then)]
        registry.log_metrics("run_live", said)
        command = [sys.executable, "-m", "fairlead.cli.main", "registry", "export", "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ, cwd=ROOT)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            found = scrape(url)
            assert found["fairlead_registry_up", frozenset()] == 1
            assert found["fairlead_run_loss", frozenset({PROJECT, "run_live"})] == 0.25
            assert found["fairlead_run_step", frozenset({PROJECT, "run_live"})] == 7
            assert 100 <= found["fairlead_run_silent_seconds", frozenset({PROJECT, "run_live"})] < 1000
            assert 150 <= found["fairlead_run_checkpoint_age_seconds", frozenset({PROJECT, "run_live"})] < 1050
            assert found["fairlead_runs", frozenset({PROJECT, "running"})] == 1
            assert found["fairlead_runs", frozenset({"finished", PROJECT})] == 1
            assert found["fairlead_latest_version", frozenset({PROJECT})] == 1
            assert not any("run_forgotten" in labels for _, labels in found)
            registry.log_metrics("run_live", [MetricPoint("validation/accuracy", 8, 0.75, time.time())])
            assert scrape(url)["fairlead_run_validation", frozenset({"accuracy", "run_live", PROJECT})] == 0.75
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_a_registry_that_cannot_be_read_is_down(home: Path) -> None:
    from fairlead.cluster.exporter import RegistryCollector

    with open_registry() as registry:
        collector = RegistryCollector(registry)
        for file in home.glob("registry.db*"):
            if file.is_file():
                file.write_bytes(b"no database" * 1000)
        (up,) = collector.collect()
    assert [(sample.name, sample.value) for sample in up.samples] == [("fairlead_registry_up", 0)]
