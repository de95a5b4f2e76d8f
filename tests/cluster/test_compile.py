import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2

from fairlead.cluster.arguments import STAGES
from fairlead.cluster.config import CompileSettings
from fairlead.cluster.pipelines import compile_package
from fairlead.errors import ConfigError, StorageError
from fairlead.project import ProjectConfig

ROOT = Path(__file__).parent.parent.parent


def compiled(folder: Path, settings: CompileSettings | None = None, **options: Any) -> list[Any]:
    compile_package(folder / "out.yaml", settings, **options)
    return list(yaml.safe_load_all((folder / "out.yaml").read_text()))


def container(package: Any, stage: str) -> Any:
    return package["deploymentSpec"]["executors"][f"exec-{stage}"]["container"]


def kubernetes_config(platform: Any, stage: str) -> Any:
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{stage}"]


@pytest.mark.parametrize("native", [False, True])
def test_compiling_gives_the_same_bytes_in_every_process(tmp_path: Path, native: bool) -> None:
    program = (
        "import sys; from pathlib import Path; from fairlead.cluster.pipelines import compile_package, CompileSettings;"
        f"compile_package(Path(sys.argv[1]), CompileSettings(gpus=2, retries=1), kubernetes_native={native})"
    )
    written = []
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.yaml"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, env=environment, cwd=tmp_path)
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_images_are_set_by_kind_of_step(tmp_path: Path) -> None:
    package, _ = compiled(tmp_path, CompileSettings(light_image="a/light:1", torch_image="b/torch:2"))
    images = {stage: container(package, stage)["image"] for stage in STAGES}
    assert images == {
        "ingest": "a/light:1",
        "tokenize": "b/torch:2",
        "train": "b/torch:2",
        "evaluate": "b/torch:2",
        "gate": "a/light:1",
        "optimize": "b/torch:2",
        "register": "a/light:1",
        "deploy": "a/light:1",
    }


def test_the_digest_of_a_pinned_image_reaches_the_step(tmp_path: Path) -> None:
    package, _ = compiled(tmp_path, CompileSettings(torch_image="b/torch@sha256:12ab"))
    environment = {e["name"]: e["value"] for e in container(package, "train")["env"]}
    assert environment["FAIRLEAD_IMAGE_DIGEST"] == "sha256:12ab"
    assert json.loads(environment["FAIRLEAD_CLUSTER"]) == {"torch_image": "b/torch@sha256:12ab"}
    assert "env" not in container(package, "ingest")


def test_resources_and_retries_reach_the_package(tmp_path: Path) -> None:
    settings = CompileSettings(gpus=4, gpu_type="amd.com/gpu", memory="64Gi", cpu="16", light_memory="3Gi", retries=2)
    package, _ = compiled(tmp_path, settings)
    train = container(package, "train")["resources"]
    assert train["accelerator"]["resourceType"] == "amd.com/gpu"
    assert train["accelerator"]["resourceCount"] == "4"
    assert (train["resourceMemoryLimit"], train["resourceCpuRequest"]) == ("64Gi", "16")
    assert container(package, "evaluate")["resources"]["accelerator"]["resourceCount"] == "1"
    assert "accelerator" not in container(package, "ingest")["resources"]
    assert container(package, "ingest")["resources"]["resourceMemoryLimit"] == "3Gi"
    dags = [package["root"]["dag"], package["components"]["comp-condition-1"]["dag"]]
    tasks = {name: task for dag in dags for name, task in dag["tasks"].items() if name in STAGES}
    assert {name: task["retryPolicy"]["maxRetryCount"] for name, task in tasks.items()} == dict.fromkeys(STAGES, 2)


def test_a_step_that_only_starts_many_nodes_asks_for_little_and_passes_on_the_rest(tmp_path: Path) -> None:
    config = ProjectConfig.parse({"project": "topics", "data": {"source": "s3://raw/t.csv"}, "training": {"nodes": 2}})
    settings = CompileSettings(gpus=8, memory="64Gi", queue="gpu", light_memory="3Gi", home_claim="scratch")
    package, platform = compiled(tmp_path, settings, config=config)
    train = container(package, "train")
    assert "accelerator" not in train["resources"] and train["resources"]["resourceMemoryLimit"] == "3Gi"
    assert container(package, "evaluate")["resources"]["resourceMemoryLimit"] == "64Gi"
    passed = json.loads(next(e["value"] for e in train["env"] if e["name"] == "FAIRLEAD_CLUSTER"))
    assert passed == {"gpus": 8, "memory": "64Gi", "queue": "gpu"} and CompileSettings.parse(passed)
    fields = kubernetes_config(platform, "train")["fieldPathAsEnv"]
    assert {f["name"]: f["fieldPath"] for f in fields} == {
        "FAIRLEAD_POD": "metadata.name",
        "FAIRLEAD_NAMESPACE": "metadata.namespace",
    }
    assert "emptyDirMounts" not in kubernetes_config(platform, "train")


def test_without_gpus_none_is_asked_for(tmp_path: Path) -> None:
    package, _ = compiled(tmp_path)
    assert not any("accelerator" in container(package, stage)["resources"] for stage in STAGES)


def test_shared_memory_and_home_are_mounted_in_train(tmp_path: Path) -> None:
    _, platform = compiled(tmp_path, CompileSettings(shm_size="4Gi", home_claim="scratch"))
    train = kubernetes_config(platform, "train")
    assert train["emptyDirMounts"] == [
        {"volumeName": "dshm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "4Gi"}
    ]
    assert (train["pvcMount"][0]["constant"], train["pvcMount"][0]["mountPath"]) == ("scratch", "/var/lib/fairlead")
    assert "emptyDirMounts" not in kubernetes_config(platform, "ingest")


def test_every_step_gets_its_environment_and_is_not_root(tmp_path: Path) -> None:
    _, platform = compiled(tmp_path, CompileSettings(secret="keys", config_map="places"))
    for stage in STAGES:
        config = kubernetes_config(platform, stage)
        required = {
            pair["envVar"]
            for source in [*config["secretAsEnv"], *config["configMapAsEnv"]]
            for pair in source["keyToEnv"]
            if not source["optional"]
        }
        assert required == {"FAIRLEAD_STORE", "FAIRLEAD_REGISTRY"}
        assert {source["secretName"] for source in config["secretAsEnv"]} == {"keys"}
        assert {source["configMapName"] for source in config["configMapAsEnv"]} == {"places"}
        assert config["securityContext"]["runAsNonRoot"] is True


def test_train_alone_gets_the_environment_of_its_sinks_by_reference(tmp_path: Path) -> None:
    _, platform = compiled(tmp_path, CompileSettings(secret="keys", config_map="places"))

    def given(stage: str, kind: str, key: str) -> set[str]:
        sources = [source for source in kubernetes_config(platform, stage)[kind] if source["optional"]]
        return {pair["envVar"] for source in sources for pair in source["keyToEnv"] if pair[key] == pair["envVar"]}

    plain = {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "FAIRLEAD_TENSORBOARD"}
    secret = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"}
    assert plain < given("train", "configMapAsEnv", "configMapKey")
    assert secret < given("train", "secretAsEnv", "secretKey")
    for stage in set(STAGES) - {"train"}:
        both = given(stage, "configMapAsEnv", "configMapKey") | given(stage, "secretAsEnv", "secretKey")
        assert not (plain | secret) & both


def test_deploy_alone_gets_the_credentials_of_git_by_reference(tmp_path: Path) -> None:
    _, platform = compiled(tmp_path, CompileSettings(secret="keys"))
    for stage in STAGES:
        sources = kubernetes_config(platform, stage)["secretAsEnv"]
        optional = {pair["envVar"] for source in sources if source["optional"] for pair in source["keyToEnv"]}
        git = {"FAIRLEAD_GIT_USERNAME", "FAIRLEAD_GIT_PASSWORD"}
        assert optional & git == (git if stage == "deploy" else set())


def test_the_platform_spec_is_what_the_backend_reads(tmp_path: Path) -> None:
    _, platform = compiled(tmp_path, CompileSettings(home_claim="scratch"))
    for stage in STAGES:
        message = kubernetes_executor_config_pb2.KubernetesExecutorConfig()
        json_format.ParseDict(kubernetes_config(platform, stage), message)  # unknown fields raise
        assert message.ListFields()


def test_ingest_is_cached_only_when_the_run_names_the_content(tmp_path: Path) -> None:
    def caching(**settings: Any) -> bool:
        package, _ = compiled(tmp_path, CompileSettings(**settings))
        return bool(package["root"]["dag"]["tasks"]["ingest"]["cachingOptions"].get("enableCache"))

    assert not caching()
    assert caching(cache_ingest=True)


def test_a_project_becomes_the_defaults_of_the_parameters(tmp_path: Path) -> None:
    config = ProjectConfig.parse({"project": "topics", "data": {"source": "s3://raw/t.csv"}, "training": {"epochs": 7}})
    package, _ = compiled(tmp_path, config=config)
    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert parameters["project"]["defaultValue"] == "topics"
    assert parameters["training"]["defaultValue"]["epochs"] == 7
    assert parameters["data"]["defaultValue"]["source"] == "s3://raw/t.csv"


def test_a_version_is_named_by_its_content(tmp_path: Path) -> None:
    def name(settings: CompileSettings) -> str:
        pipeline, version = compiled(tmp_path, settings, kubernetes_native=True)
        assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
        assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
        return str(version["metadata"]["name"])

    plain, same, other = name(CompileSettings()), name(CompileSettings()), name(CompileSettings(shm_size="2Gi"))
    assert plain == same != other


def test_no_setting_is_undocumented() -> None:
    assert [name for name, field in CompileSettings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    "values", [{"memory": "lots"}, {"memory": "8GB"}, {"cpu": "2x"}, {"gpus": -1}, {"secret": "A_B"}, {"shm": "1Gi"}]
)
def test_values_that_the_cluster_would_refuse_are_refused_here(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CompileSettings.parse(values)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"^compile: .*; free space or correct the path"):
        compile_package(tmp_path / "file" / "out.yaml")
