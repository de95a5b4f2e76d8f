"""The pipeline is one definition: what runs here is what is compiled for a cluster."""

import ast
import copy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from components.images import LIGHT_IMAGE, TORCH_IMAGE
from fairlead.cluster.arguments import STAGES, pipeline_arguments
from fairlead.cluster.config import CompileSettings
from fairlead.cluster.local import TRAINING
from fairlead.cluster.pipelines import compile_package, local_package
from fairlead.config import Config
from fairlead.data.config import DataConfig, IncrementalConfig, TokenizationConfig
from fairlead.errors import ConfigError
from fairlead.evaluation.config import EvaluationConfig
from fairlead.optimization.config import OptimizationConfig
from fairlead.project import DeployConfig, ProjectConfig
from fairlead.training.config import ModelConfig, TrainConfig

ROOT = Path(__file__).parent.parent.parent


def packages(folder: Path) -> tuple[Any, Any]:
    compile_package(folder / "package.yaml", CompileSettings(gpus=2, retries=1, torch_image="x/y:z"))
    return local_package(TRAINING), next(yaml.safe_load_all((folder / "package.yaml").read_text()))


def without_placement(package: Any) -> Any:
    """The package without what says where a step runs: image, resources, environment, retries, caching."""
    package = copy.deepcopy(package)
    for executor in package["deploymentSpec"]["executors"].values():
        executor["container"].pop("resources", None)
        executor["container"].pop("image")
        executor["container"].pop("env", None)
    dags = [package["root"]["dag"], *(c["dag"] for c in package["components"].values() if "dag" in c)]
    for task in (task for dag in dags for task in dag["tasks"].values()):
        task.pop("retryPolicy", None)
        task.pop("cachingOptions", None)
    return package


def test_the_local_run_and_the_compiled_package_are_one_definition(tmp_path: Path) -> None:
    here, there = packages(tmp_path)
    assert without_placement(here) == without_placement(there)
    assert here != there


def test_a_package_for_a_stage_has_what_it_needs_and_no_more() -> None:
    whole = local_package(TRAINING)["root"]["dag"]["tasks"]
    for index, stage in enumerate(STAGES):
        part = local_package(TRAINING, stage)["root"]["dag"]["tasks"]
        # The last one stands behind a condition.
        assert set(part) == {name if name != "deploy" else "condition-1" for name in STAGES[: index + 1]}
        assert all(part[name] == whole[name] for name in part)


def test_deploy_is_behind_its_condition_and_never_cached() -> None:
    package = local_package(TRAINING)
    condition = package["root"]["dag"]["tasks"]["condition-1"]
    assert (
        condition["triggerPolicy"]["condition"] == "inputs.parameter_values['pipelinechannel--deploy_mode'] != 'none'"
    )
    assert package["root"]["inputDefinitions"]["parameters"]["deploy_mode"]["defaultValue"] == "none"
    inside = package["components"]["comp-condition-1"]["dag"]["tasks"]
    assert set(inside) == {"deploy"}
    assert not inside["deploy"]["cachingOptions"].get("enableCache")


def test_every_setting_reaches_exactly_the_stages_that_depend_on_it() -> None:
    package = local_package(TRAINING)
    read: dict[str, set[str]] = {}
    for stage, task in package["root"]["dag"]["tasks"].items():
        for source in task["inputs"].get("parameters", {}).values():
            read.setdefault(source["componentInputParameter"], set()).add(stage)
    assert read == {
        "project": {"train", "evaluate", "optimize", "register"},
        "data": {"ingest"},
        "incremental": {"ingest"},
        "source_digest": {"ingest"},
        "base": {"tokenize"},
        "base_digest": {"tokenize"},
        "tokenization": {"tokenize"},
        "model": {"train"},
        "training": {"train"},
        "evaluation": {"evaluate"},
        "gate": {"gate"},
        "optimization": {"optimize"},
        "deploy": {"condition-1"},
        "deploy_mode": {"condition-1"},
    }


def test_the_arguments_are_the_parameters_and_hold_every_setting() -> None:
    config = ProjectConfig.parse({"project": "topics", "data": {"source": "t.csv"}})
    arguments = pipeline_arguments(config, "sha256:1", "sha256:2")
    parameters = local_package(TRAINING)["root"]["inputDefinitions"]["parameters"]
    assert set(arguments) == set(parameters)
    assert not arguments["evaluation"].keys() & arguments["gate"].keys()
    assert EvaluationConfig.parse({**arguments["evaluation"], **arguments["gate"]}) == config.evaluation
    assert TrainConfig.parse(arguments["training"]) == config.training
    assert ModelConfig.parse(arguments["model"]) == config.model
    assert OptimizationConfig.parse(arguments["optimization"]) == config.optimization
    assert DeployConfig.parse({**arguments["deploy"], "mode": arguments["deploy_mode"]}) == config.deploy
    assert DataConfig.parse(arguments["data"]) == config.data
    assert TokenizationConfig.parse(arguments["tokenization"]) == config.tokenization
    assert (arguments["source_digest"], arguments["base_digest"]) == ("sha256:1", "sha256:2")


def test_a_run_that_continues_a_version_takes_its_weights_and_tokenizer_whatever_the_base() -> None:
    values = {"project": "topics", "data": {"source": "t.csv"}, "model": {"base": "hf://x/y", "pooling": "mean"}}
    config = ProjectConfig.parse({**values, "incremental": {"parent": "topics:3", "replay": 0.1}})
    arguments = pipeline_arguments(config)
    assert arguments["base"] == arguments["model"]["base"] == "fairlead://topics:3"
    assert arguments["model"]["pooling"] == "base", "the version as it is, without another layer"
    assert IncrementalConfig.parse(arguments["incremental"]) == config.incremental
    assert pipeline_arguments(ProjectConfig.parse(values))["incremental"] == {}


def test_a_version_of_another_project_is_no_parent() -> None:
    values = {"project": "topics", "data": {"source": "t.csv"}, "incremental": {"parent": "other:3"}}
    with pytest.raises(ConfigError, match="'other:3' is no version of topics"):
        ProjectConfig.parse(values)


SECTIONS = [
    DataConfig,
    IncrementalConfig,
    TokenizationConfig,
    ModelConfig,
    TrainConfig,
    EvaluationConfig,
    OptimizationConfig,
    DeployConfig,
]


@pytest.mark.parametrize("section", SECTIONS)
def test_none_is_only_ever_the_default(section: type[Config]) -> None:
    """KFP has no null: a setting that is None is left out, and must come back as None."""
    for name, field in section.model_fields.items():
        if type(None) in get_args(field.annotation):
            assert field.default is None, name


def test_settings_survive_the_doubles_of_a_struct() -> None:
    doubles = {name: float(value) if type(value) is int else value for name, value in TrainConfig().to_dict().items()}
    assert TrainConfig.parse(doubles) == TrainConfig()
    assert ModelConfig.parse({"depth": 3.0}).depth == 3


@pytest.mark.parametrize("stage", STAGES)
def test_a_component_is_one_import_and_one_call(stage: str) -> None:
    module = ast.parse((ROOT / "components" / f"{stage}.py").read_text())
    (function,) = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    assert function.name == stage
    docstring, *doors, call = function.body
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    assert all(isinstance(door, ast.ImportFrom) and str(door.module).startswith("fairlead.") for door in doors)
    # The training room does not see the cluster, so its component hands it who starts other machines.
    assert len(doors) == (2 if stage == "train" else 1)
    assert isinstance(call, ast.Expr) and isinstance(call.value, ast.Call)


def test_images_say_which_steps_need_torch() -> None:
    executors = local_package(TRAINING)["deploymentSpec"]["executors"]
    light = {name for name, value in executors.items() if value["container"]["image"] == LIGHT_IMAGE}
    assert light == {"exec-ingest", "exec-gate", "exec-register", "exec-deploy"}
    assert {value["container"]["image"] for value in executors.values()} == {LIGHT_IMAGE, TORCH_IMAGE}


def test_a_step_installs_nothing_when_it_starts() -> None:
    executors = local_package(TRAINING)["deploymentSpec"]["executors"]
    assert not any("pip install" in part for e in executors.values() for part in e["container"]["command"])


def test_the_pipeline_is_readable_on_one_screen() -> None:
    assert len((ROOT / "pipelines" / "training.py").read_text().splitlines()) <= 70
