"""Dashboards and alerts speak of metrics that exist, and every alert has a page to look at."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.cluster.exporter import RegistryCollector
from fairlead.registry import open_registry
from manifests import dashboards
from serving.metrics import REGISTRY

ROOT = Path(__file__).parent.parent.parent
MONITORING = ROOT / "manifests" / "base" / "monitoring"
NAME = re.compile(r"\b(?:fairlead|kube|kubelet|minio)_[a-z_]+")
# Of Kubernetes: kubelet's, and kube-state-metrics'.
FOREIGN = {
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "kube_cronjob_status_last_successful_time",
}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of all samples that servers and the exporter can export."""
    home = tmp_path_factory.mktemp("home")
    with open_registry(f"sqlite:///{home}/registry.db") as registry:
        families = [*REGISTRY.collect(), *RegistryCollector(registry).collect()]
    return {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ("",))}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def names_in(text: str) -> set[str]:
    return set(NAME.findall(text))


def test_the_dashboards_are_those_of_the_definition() -> None:
    written = {path.name: path.read_text() for path in (MONITORING / "dashboards").glob("*.json")}
    assert written == dashboards.rendered(), "run make manifests"


@pytest.mark.parametrize("file", sorted((MONITORING / "dashboards").glob("*.json")), ids=lambda path: path.stem)
def test_every_panel_shows_metrics_that_exist(file: Path, exported: set[str]) -> None:
    page = json.loads(file.read_text())
    targets = [target["expr"] for panel in page["panels"] for target in panel.get("targets", [])]
    queries = [variable["query"]["query"] for variable in page["templating"]["list"] if variable["type"] == "query"]
    used = set().union(*map(names_in, targets + queries))
    assert len(used) > 5
    assert used <= exported
    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])


def test_every_alert_watches_metrics_that_exist_and_has_a_runbook(exported: set[str]) -> None:
    sections = {line.removeprefix("## ") for line in (ROOT / "docs" / "runbooks.md").read_text().splitlines()}
    for rule in rules():
        assert names_in(rule["expr"]) <= exported | FOREIGN, rule["alert"]
        assert rule["alert"] in sections
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"
    assert len(rules()) >= 10


def test_autoscaling_reads_metrics_that_exist(exported: set[str]) -> None:
    component = (ROOT / "manifests" / "components" / "autoscale-queue" / "kustomization.yaml").read_text()
    used = {name for name in names_in(component) if name.startswith("fairlead_")}
    assert used
    assert used <= exported
