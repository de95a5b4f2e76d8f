"""Settings: what is refused, and in which words."""

import ast
import inspect

import pytest
from pydantic import BaseModel

from fairlead.config import Config, apply_overrides, known_names, read_yaml
from fairlead.errors import ConfigError
from fairlead.project import ProjectConfig

MINIMAL = {"project": "support_topics", "data": {"source": "tickets.csv"}}


def with_training(**values: object) -> dict[str, object]:
    return {**MINIMAL, "training": values}


def test_whole_doubles_are_integers_again() -> None:
    assert ProjectConfig.parse(with_training(batch_size=32.0)).training.batch_size == 32


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (with_training(learning_rat=1), "did you mean 'training.learning_rate'"),
        (with_training(batch_size=32.5), "training.batch_size = 32.5"),
        (with_training(learning_rate="fast"), "training.learning_rate = 'fast'"),
        (with_training(learning_rate=float("nan")), "training.learning_rate"),
        ({**MINIMAL, "project": "Support Topics"}, "is not a project name"),
        ({**MINIMAL, "trainin": {}}, "did you mean 'training'"),
        ({"project": "a", "data": {}}, "'data.source' is missing"),
        (with_training(loss="mse"), "training.loss: mse is not for data where a row has one label; set it to cross"),
        (with_training(focal_gamma=1), "training.focal_gamma = 1.0 does nothing with loss = auto; set loss to focal"),
        ({"project": "a", "data": "tickets.csv"}, "data = 'tickets.csv'"),
    ],
)
def test_a_mistake_names_field_value_and_way_out(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=r"fairlead\.yaml: ") as refusal:
        ProjectConfig.parse(values, where="fairlead.yaml")
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_overrides_are_read_as_yaml_and_leave_their_input_alone() -> None:
    before = {"training": {"epochs": 1}}
    after = apply_overrides(before, ["training.learning_rate=1e-4", "data.header=false", "data.extra.old=old.csv"])
    assert before == {"training": {"epochs": 1}}
    config = ProjectConfig.parse({**MINIMAL, **after, "data": {**MINIMAL["data"], **after["data"]}})  # type: ignore[dict-item]
    assert config.training.learning_rate == 1e-4
    assert config.training.epochs == 1
    assert config.data.header is False
    assert config.data.extra == {"old": "old.csv"}


@pytest.mark.parametrize("override", ["training.epochs", "=1", "project.name=x", "a.b=[1"])
def test_an_override_that_cannot_be_read_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_overrides({"project": "x"}, [override])


@pytest.mark.parametrize("content", [b"- a list", b"a: [", b"\xff\xfe\x00", b"just text"])
def test_a_project_file_that_is_no_mapping_is_refused(tmp_path, content: bytes) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "fairlead.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"fairlead\.yaml: "):
        read_yaml(path)


def test_a_missing_project_file_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="there is no such file"):
        read_yaml(tmp_path / "none.yaml")


def settings_classes(cls: type[BaseModel]) -> list[type[BaseModel]]:
    nested = [f.annotation for f in cls.model_fields.values()]
    return [cls, *(n for n in nested if isinstance(n, type) and issubclass(n, Config))]


@pytest.mark.parametrize("cls", settings_classes(ProjectConfig), ids=lambda c: c.__name__)
def test_every_setting_is_documented_with_its_default(cls: type[BaseModel]) -> None:
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.__name__}.{name} has no docstring"
        if cls is not ProjectConfig:
            assert "efault" in field.description, f"{cls.__name__}.{name} does not say its default"


def test_a_setting_is_named_in_one_place_only() -> None:
    tree = ast.parse(inspect.getsource(inspect.getmodule(ProjectConfig)))  # type: ignore[arg-type]
    assert "learning_rate" not in ast.dump(tree)
    assert "training.learning_rate" in known_names(ProjectConfig)
