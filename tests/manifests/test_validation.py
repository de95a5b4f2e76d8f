"""Every kustomization and combination is valid and up to date, and the validator finds a fault of each class."""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.validation import building
from manifests.validation.__main__ import faults_of, main
from manifests.validation.canonical import canonical

ROOT = Path(__file__).parent.parent.parent
MANIFESTS = ROOT / "manifests"

pytestmark = pytest.mark.skipif(not building.is_here(), reason="neither kustomize nor kubectl is here")


def test_every_kustomization_and_combination_is_valid(crds: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "FAIRLEAD_CRDS": str(crds)}
    done = subprocess.run([MANIFESTS / "validate.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.endswith(", 0 invalid")
    assert " 0 broken" in last
    for overlay in ("dev", "prod"):
        assert f"valid    overlays/{overlay}/models/library-docs + scale-to-zero + canary-knative + gpu" in done.stdout
    assert "scale-to-zero + canary-standard" not in done.stdout


def test_without_the_schemas_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert main(MANIFESTS, tmp_path / "nowhere") == 0
    assert "SKIPPED  the CRD schemas are not at" in capsys.readouterr().out
    monkeypatch.setenv("CI", "true")
    assert main(MANIFESTS, tmp_path / "nowhere") == 1


@pytest.fixture(scope="module")
def applied() -> dict[str, Any]:
    """What production would apply, by kind and name."""
    built = [building.kustomize(MANIFESTS / "overlays" / "prod" / name) for name in ("platform", "models", "pipelines")]
    return {f"{found['kind']}/{found['metadata']['name']}": found for objects in built for found in objects}


def test_what_production_would_apply_is_sound(applied: dict[str, Any], crds: Path) -> None:
    found = [fault for one in applied.values() for fault in faults_of(one, crds, is_production=True, is_whole=True)]
    assert found == []


def container(found: Any) -> Any:
    return found["spec"]["template"]["spec"]["containers"][0]


def pod(found: Any) -> Any:
    return found["spec"]["template"]["spec"]


STORE, RUNTIME, SERVICE = "StatefulSet/minio", "ClusterServingRuntime/fairlead", "InferenceService/library-docs"
QUOTA, FETCH = "ResourceQuota/fairlead", "ClusterStorageContainer/fairlead-s3"
Edit = Callable[[Any], Any]
FAULTS: dict[str, tuple[str, Edit, str]] = {
    "no temporary files": (FETCH, lambda o: o["spec"]["container"].pop("env"), "no place for temporary files"),
    "unknown field": (STORE, lambda o: o["spec"].update(colour="red"), "colour"),
    "unknown field of a CRD": (SERVICE, lambda o: o["spec"]["predictor"].update(colour="red"), "colour"),
    "wrong type": (STORE, lambda o: o["spec"].update(replicas="one"), "replicas"),
    "missing field": (RUNTIME, lambda o: o["spec"].pop("containers"), "'containers' is a required property"),
    "pod settings in a runtime": (RUNTIME, lambda o: o["spec"].update(securityContext={}), "securityContext"),
    "unknown kind": (SERVICE, lambda o: o.update(kind="InferenceServise"), "no CRD serves"),
    "unserved version": (SERVICE, lambda o: o.update(apiVersion="serving.kserve.io/v1"), "no CRD serves"),
    "unknown kind of Kubernetes": (STORE, lambda o: o.update(kind="StatefulSett"), "serves no apps/v1 StatefulSett"),
    "illegal name": (STORE, lambda o: o["metadata"].update(name="Not_Legal"), "$.metadata.name"),
    "illegal label": (STORE, lambda o: o["metadata"]["labels"].update(a="b c"), "$.metadata.labels.a"),
    "unknown metadata": (SERVICE, lambda o: o["metadata"].update(label={}), "'label' was unexpected"),
    "root": (STORE, lambda o: pod(o)["securityContext"].pop("runAsNonRoot"), "runAsNonRoot: it must be true"),
    "root by number": (STORE, lambda o: pod(o)["securityContext"].update(runAsUser=0), "must not be 0"),
    "no seccomp": (SERVICE, lambda o: o["spec"]["predictor"]["securityContext"].pop("seccompProfile"), "seccomp"),
    "host network": (STORE, lambda o: pod(o).update(hostNetwork=True), "hostNetwork: a restricted pod may not"),
    "host path": (STORE, lambda o: pod(o)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}), "hostPath"),
    "escalation": (
        FETCH,
        lambda o: o["spec"]["container"]["securityContext"].pop("allowPrivilegeEscalation"),
        "allowPrivilegeEscalation: it must be false",
    ),
    "capabilities": (
        STORE,
        lambda o: container(o)["securityContext"]["capabilities"].pop("drop"),
        "capabilities.drop: it must have ALL",
    ),
    "privileged": (STORE, lambda o: container(o)["securityContext"].update(privileged=True), "privileged"),
    "writable root": (
        RUNTIME,
        lambda o: o["spec"]["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False),
        "readOnlyRootFilesystem: it must be true",
    ),
    "token": (STORE, lambda o: pod(o).pop("automountServiceAccountToken"), "automountServiceAccountToken"),
    "floating image": (STORE, lambda o: container(o).update(image="minio/minio:latest"), "not pinned by digest"),
    "own image that floats": (
        FETCH,
        lambda o: o["spec"]["container"].update(image="fairlead-light:0.1.0"),
        "not pinned by digest",
    ),
    "invented digest": (
        STORE,
        lambda o: container(o).update(image="minio/minio@sha256:" + "0" * 64),
        "a digest that no image has",
    ),
    "password in clear": (
        STORE,
        lambda o: container(o)["env"].append({"name": "MINIO_ROOT_PASSWORD", "value": "x"}),
        "MINIO_ROOT_PASSWORD is a secret in clear",
    ),
    "password in an address": (
        "ConfigMap/fairlead",
        lambda o: o["data"].update(FAIRLEAD_REGISTRY="postgresql://user:word@host/db"),
        "$.data.FAIRLEAD_REGISTRY: a secret in clear",
    ),
    "no request": (STORE, lambda o: container(o)["resources"]["requests"].pop("cpu"), "requests.cpu: it is missing"),
    "no limit": (STORE, lambda o: container(o)["resources"].pop("limits"), "limits.memory: it is missing"),
    "no probe": (STORE, lambda o: container(o).pop("readinessProbe"), "readinessProbe: it is missing"),
    "no label": (STORE, lambda o: o["metadata"]["labels"].pop("app.kubernetes.io/name"), "app.kubernetes.io/name is"),
    "another form of a quantity": (
        STORE,
        lambda o: container(o)["resources"]["requests"].update(cpu="1000m"),
        "'1000m' comes back as '1'",
    ),
    "a quota's quantity": (QUOTA, lambda o: o["spec"]["hard"].update({"limits.memory": "1024Mi"}), "back as '1Gi'"),
    "null": (RUNTIME, lambda o: o["spec"]["containers"][0].update(command=None), "command"),
    "port without protocol": (STORE, lambda o: container(o)["ports"][0].pop("protocol"), "write TCP"),
    "claim without kind": (STORE, lambda o: o["spec"]["volumeClaimTemplates"][0].pop("kind"), "the API server adds it"),
    "namespace of what has none": (RUNTIME, lambda o: o["metadata"].update(namespace="fairlead"), "stands in no"),
    "no namespace": (STORE, lambda o: o["metadata"].pop("namespace"), "name one"),
    "a step of no pipeline": (
        "PipelineVersion",
        lambda o: o["spec"]["platformSpec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].update(tran={}),
        "there is no executor 'tran'",
    ),
    "a broken pipeline": (
        "PipelineVersion",
        lambda o: o["spec"]["pipelineSpec"].update(rot={}),
        'no field named "rot"',
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, applied: dict[str, Any], crds: Path) -> None:
    name, edit, message = FAULTS[fault]
    (sound,) = [found for key, found in applied.items() if key == name or key.startswith(f"{name}/")]
    broken = copy.deepcopy(sound)
    edit(broken)
    assert message in "\n".join(faults_of(broken, crds, is_production=True, is_whole=True))


def test_a_secret_in_clear_is_for_development_only(crds: Path) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b"}, "data": {"c": "ZA=="}}
    assert list(faults_of(secret, crds)) == []
    assert "a secret in clear" in "\n".join(faults_of(secret, crds, is_production=True))
    with_text = secret | {"stringData": {"c": "d"}}
    assert "stringData" in "\n".join(faults_of(with_text, crds))


def test_known_passwords_do_not_build_for_production(tmp_path: Path) -> None:
    copied = Path(shutil.copytree(MANIFESTS, tmp_path / "manifests"))
    file = copied / "overlays" / "prod" / "platform" / "kustomization.yaml"
    file.write_text(file.read_text().replace("components/external-secrets", "components/dev-secrets"))
    with pytest.raises(ValueError, match="development"):
        building.kustomize(file.parent)


@pytest.mark.parametrize("found", [None, [], "text", {"apiVersion": "v1"}, {"kind": 7}])
def test_what_is_no_object_is_said(found: Any, crds: Path) -> None:
    assert list(faults_of(found, crds)) == ["it is not an object of Kubernetes"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1000m", "1"), ("1500m", "1500m"), ("1", "1"), ("0.5", "500m"), ("1.5", "1500m"), ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"), ("1.5Gi", "1536Mi"), ("1000", "1k"), ("250m", "250m"), ("100Gi", "100Gi"), ("0", "0"),
    ],
)  # fmt: skip
def test_quantities_have_one_form(written: str, kept: str) -> None:
    assert canonical(written) == kept


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A tree with the pipeline alone."""
    shutil.copytree(MANIFESTS / "base" / "pipelines", tmp_path / "manifests" / "base" / "pipelines")
    return tmp_path / "manifests"


def test_a_pipeline_that_is_not_what_compiles_now_is_stale(
    small: Path, crds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small / "base" / "pipelines" / "training.yaml"
    path.write_text(path.read_text().replace("memoryLimit", "memoryLimit ", 1))
    assert main(small, crds) == 1
    assert "STALE    base/pipelines/training.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content"),
    [("training.yaml", "kind: ["), ("kustomization.yaml", "resources: [missing.yaml]"), ("training.yaml", "- 1")],
)
def test_what_does_not_build_is_broken(
    small: Path, crds: Path, file: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (small / "base" / "pipelines" / file).write_text(content)
    assert main(small, crds) == 1
    assert "BROKEN   base/pipelines" in capsys.readouterr().out


def test_a_promotion_is_one_line(tmp_path: Path) -> None:
    copied = Path(shutil.copytree(MANIFESTS, tmp_path / "manifests"))
    overlay = copied / "overlays" / "prod" / "models" / "library-docs"
    before = building.kustomize(overlay)[0]
    release = overlay / "release.yaml"
    text = release.read_text()
    address = "storageUri: s3://fairlead/models/library_docs/v000"
    release.write_text(text.replace(f"{address}1/", f"{address}2/"))
    after = building.kustomize(overlay)[0]
    assert after["spec"]["predictor"]["model"]["storageUri"] == "s3://fairlead/models/library_docs/v0002/"
    assert after["metadata"]["labels"]["fairlead.dev/version"] == "v0002"
    release.write_text(text)
    assert building.kustomize(overlay)[0] == before
    changed = [
        key for key in after["spec"]["predictor"] if after["spec"]["predictor"][key] != before["spec"]["predictor"][key]
    ]
    assert changed == ["model"]


def test_the_pipeline_is_built_as_committed() -> None:
    built = building.kustomize(MANIFESTS / "base" / "pipelines")
    committed = list(yaml.safe_load_all((MANIFESTS / "base" / "pipelines" / "training.yaml").read_text()))
    assert sorted(built, key=lambda found: str(found["kind"])) == sorted(
        committed, key=lambda found: str(found["kind"])
    )
