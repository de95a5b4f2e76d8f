"""The options that name a project, and how they become its settings: file, then options, then `--set`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fairlead.errors import ConfigError

if TYPE_CHECKING:
    from fairlead.cluster.config import CompileSettings
    from fairlead.project import ProjectConfig

PROJECT_FILE = "fairlead.yaml"
# The section of a project file that says what a cluster gives each step; it decides no result.
CLUSTER = "cluster"

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Project file. Default: ./fairlead.yaml if it is there.")
]
DataOption = Annotated[str | None, typer.Option("--data", help="Labelled text: path, folder, s3://, https://, hf://.")]
TextOption = Annotated[str | None, typer.Option("--text", help="Column with the text. Default: text.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="Column with the label. Default: label.")]
TaskOption = Annotated[
    Literal["classification", "multi_label", "regression", "language_modeling"] | None,
    typer.Option("--task", help="What is learned. Default: classification."),
]
ProjectOption = Annotated[str | None, typer.Option("--project", "-p", help="Name of the project: support_topics.")]
TestOption = Annotated[str | None, typer.Option("--test", help="An own test set, in the format of --data.")]
ContinueOption = Annotated[
    str | None,
    typer.Option("--continue-from", help="Go on from a registered version: support_topics@champion.", metavar="REF"),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one setting: training.learning_rate=1e-4. Repeatable.")
]


def project_values(
    config: Path | None,
    data: str | None,
    text: str | None,
    label: str | None,
    project: str | None,
    test: str | None,
    overrides: list[str] | None,
    task: str | None = None,
) -> dict[str, Any]:
    """Settings as plain values: the project file's, under the options', under `--set`.

    Raises ConfigError when there is neither a file nor `--data`.
    """
    from fairlead.config import apply_overrides

    values = _file_values(config, needed=data is None)
    given = {"source": data, "text": text, "label": label, "test": test, "task": task}
    section = values.setdefault("data", {})
    if isinstance(section, dict):
        section.update({name: value for name, value in given.items() if value is not None})
    if project is not None:
        values["project"] = project
    return apply_overrides(values, overrides or [])


def values_if_any(
    config: Path | None,
    data: str | None,
    text: str | None,
    label: str | None,
    project: str | None,
    test: str | None,
    overrides: list[str] | None,
    task: str | None = None,
) -> dict[str, Any]:
    """As project_values, but where no project is named, only what `--set` says."""
    from fairlead.config import apply_overrides

    if config is None and data is None and not Path(PROJECT_FILE).exists():
        return apply_overrides({}, overrides or [])
    return project_values(config, data, text, label, project, test, overrides, task)


def cluster_settings(values: dict[str, Any]) -> "CompileSettings":
    """The `cluster` section of the settings. Raises ConfigError."""
    from fairlead.cluster.config import CompileSettings

    section = values.get(CLUSTER) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{CLUSTER}: a section is expected, not {section!r}; write {CLUSTER}: {{gpus: 1}}")
    return CompileSettings.parse(section, where=CLUSTER)


def resolve(values: dict[str, Any]) -> "ProjectConfig":
    """Check the settings, and that every local file or folder they name is there.

    Raises ConfigError, which names the setting and the nearest known name, before anything runs.
    """
    from fairlead.project import ProjectConfig

    if CLUSTER in values:
        cluster_settings(values)
        values = {name: value for name, value in values.items() if name != CLUSTER}
    if "project" not in values:
        raise ConfigError(f"project: it has no name; add --project support_topics, or project: to {PROJECT_FILE}")
    settings = ProjectConfig.parse(values, where="config")
    named = {"data.source": settings.data.source, "data.test": settings.data.test}
    named |= {"data.validation": settings.data.validation}
    named |= {f"data.extra.{name}": address for name, address in settings.data.extra.items()}
    if settings.model.base != "scratch":
        named["model.base"] = settings.model.base
    for setting, address in named.items():
        if address is not None and "://" not in address and not Path(address).expanduser().exists():
            raise ConfigError(f"{setting}: {address}: there is no such file or folder; correct the path")
    return settings


def _file_values(config: Path | None, needed: bool) -> dict[str, Any]:
    from fairlead.config import read_yaml

    path = config or Path(PROJECT_FILE)
    if config is None and not path.exists():
        if needed:
            raise ConfigError(f"{PROJECT_FILE}: there is no project file here; name one with --config, or use --data")
        return {}
    return _relative_to(path.parent, read_yaml(path))


def _relative_to(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Read the paths in a project file from where the file stands, so that it works from any folder."""
    data, model = values.get("data"), values.get("model")
    if isinstance(data, dict):
        for name in ("source", "test", "validation"):
            data[name] = _from(folder, data[name]) if data.get(name) else data.get(name)
            if data[name] is None:
                del data[name]
        if isinstance(data.get("extra"), dict):
            data["extra"] = {name: _from(folder, address) for name, address in data["extra"].items()}
    if isinstance(model, dict) and model.get("base", "scratch") != "scratch":
        model["base"] = _from(folder, model["base"])
    return values


def _from(folder: Path, address: Any) -> Any:
    return address if not isinstance(address, str) or "://" in address else str(folder / Path(address).expanduser())
