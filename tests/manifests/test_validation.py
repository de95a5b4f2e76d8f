"""The committed manifests are valid and up to date, and the validator finds a fault of each class."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests import validate

ROOT = Path(__file__).parent.parent.parent


def test_the_committed_manifests_are_valid(crds: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "FAIRLEAD_CRDS": str(crds)}
    done = subprocess.run([ROOT / "manifests" / "validate.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 objects: 7 valid, 0 invalid" in done.stdout


def test_without_the_schemas_it_says_so_and_still_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate.main(ROOT / "manifests", tmp_path / "nowhere") == 0
    assert "SKIPPED  the CRD schemas are not at" in capsys.readouterr().out


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "manifests" / "pipelines", tmp_path / "manifests" / "pipelines")
    return tmp_path / "manifests"


def change(manifests: Path, edit: Callable[[Any, Any], Any]) -> None:
    path = manifests / "pipelines" / "training.yaml"
    pipeline, version = yaml.safe_load_all(path.read_text())
    edit(pipeline, version)
    path.write_text(yaml.safe_dump_all([pipeline, version]))


FAULTS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "unknown field": (lambda p, v: p["spec"].update(colour="red"), "colour"),
    "wrong type": (lambda p, v: p["spec"].update(displayName=7), "$.spec.displayName: 7 is not of type 'string'"),
    "missing field": (lambda p, v: v["spec"].pop("pipelineSpec"), "'pipelineSpec' is a required property"),
    "illegal value": (lambda p, v: v["spec"].update(versionName="Not_Legal"), "$.spec.versionName"),
    "illegal name": (lambda p, v: v["metadata"].update(name="Not_Legal"), "$.metadata.name"),
    "illegal label": (lambda p, v: p["metadata"].update(labels={"a": "b c"}), "$.metadata.labels.a"),
    "unknown metadata": (lambda p, v: p["metadata"].update(label={}), "'label' was unexpected"),
    "unknown kind": (lambda p, v: p.update(kind="Pipelin"), "no CRD serves pipelines.kubeflow.org/v2beta1 Pipelin"),
    "unserved version": (lambda p, v: p.update(apiVersion="pipelines.kubeflow.org/v1"), "no CRD serves"),
    "broken pipeline": (lambda p, v: v["spec"]["pipelineSpec"].update(rot={}), 'no field named "rot"'),
    "broken platform": (
        lambda p, v: executors(v)["exec-train"].update(emptyDirMount=[]),
        'no field named "emptyDirMount"',
    ),
    "platform of no step": (
        lambda p, v: executors(v).update({"exec-tran": {}}),
        "there is no executor 'exec-tran'",
    ),
}


def executors(version: Any) -> Any:
    return version["spec"]["platformSpec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, manifests: Path, crds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit, message = FAULTS[name]
    change(manifests, edit)
    assert validate.main(manifests, crds) == 1
    output = capsys.readouterr().out
    assert message in output
    assert "2 objects: 1 valid, 1 invalid" in output


def test_a_manifest_that_is_not_what_compiles_now_is_stale(
    manifests: Path, crds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifests / "pipelines" / "training.yaml"
    path.write_text(path.read_text().replace("memoryLimit", "memoryLimit ", 1))
    assert validate.main(manifests, crds) == 1
    assert "STALE    pipelines/training.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content"),
    [("training.yaml", "kind: ["), ("kustomization.yaml", "resources: [missing.yaml]"), ("training.yaml", "- 1")],
)
def test_what_cannot_be_read_is_not_valid(manifests: Path, crds: Path, file: str, content: str) -> None:
    (manifests / "pipelines" / file).write_text(content)
    assert validate.main(manifests, crds) == 1


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")
def test_kustomize_builds_what_was_validated() -> None:
    command = ["kubectl", "kustomize", str(ROOT / "manifests" / "pipelines")]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    committed = (ROOT / "manifests" / "pipelines" / "training.yaml").read_text()

    def objects(text: str) -> list[Any]:
        return sorted(yaml.safe_load_all(text), key=lambda found: str(found["kind"]))

    assert objects(built) == objects(committed)
