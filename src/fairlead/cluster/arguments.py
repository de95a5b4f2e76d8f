"""The stages by name, and what of a project's settings each of them is given."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from fairlead.config import Config
from fairlead.data.config import DataConfig
from fairlead.errors import ConfigError
from fairlead.formats.digests import of_json
from fairlead.names import SCRATCH, VERSION_SCHEME, ModelRef
from fairlead.project import ProjectConfig
from fairlead.storage.redaction import redact

STAGES = ("ingest", "tokenize", "train", "evaluate", "gate", "optimize", "register", "deploy")
# Settings that only the gate reads: a changed floor must not evaluate again.
GATE_FIELDS = frozenset({"gate", "champion_metric", "champion_max_drop", "parent_metric", "parent_max_drop"})
SCHEMES = ("s3", "https", "http", "hf", VERSION_SCHEME.removesuffix("://"))


def check_stage(name: str) -> str:
    """Return `name`, or raise ConfigError when it is not a stage."""
    if name not in STAGES:
        near = difflib.get_close_matches(name, STAGES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}" if near else f"the stages are {', '.join(STAGES)}"
        raise ConfigError(f"--until: there is no stage {name!r}; {hint}")
    return name


def stages(config: ProjectConfig, until: str | None = None) -> tuple[str, ...]:
    """The stages of a run of these settings, up to `until`. Raises ConfigError when that is none of them."""
    found = STAGES[:-1] if config.deploy.mode == "none" else STAGES
    if until and check_stage(until) not in found:
        raise ConfigError(f"--until {until}: deploy.mode is none, so there is nothing to deploy to; set it")
    return found[: found.index(until) + 1] if until else found


def pipeline_arguments(config: ProjectConfig, source_digest: str = "", base_digest: str = "") -> dict[str, Any]:
    """The arguments of the training pipeline: everything that decides a result, a section a parameter."""
    evaluation, model = _section(config.evaluation), _section(config.model)
    incremental = _section(config.incremental) if config.incremental.parent else {}
    if config.incremental.parent:
        # The version as it is: its weights, without another layer of pooling.
        model |= {"base": base_address(config), "pooling": "base"}
    return {
        "project": config.project,
        "data": _section(config.data),
        "incremental": incremental,
        "source_digest": source_digest,
        "base": base_address(config),
        "base_digest": base_digest,
        "tokenization": _section(config.tokenization),
        "model": model,
        "training": _section(config.training),
        "evaluation": {name: value for name, value in evaluation.items() if name not in GATE_FIELDS},
        "gate": {name: value for name, value in evaluation.items() if name in GATE_FIELDS},
        "optimization": _section(config.optimization),
        "deploy": {name: value for name, value in _section(config.deploy).items() if name != "mode"},
        "deploy_mode": config.deploy.mode,
    }


def _section(section: Config) -> dict[str, Any]:
    """The section without settings that are None: KFP has no null, and None is always the default."""
    return {name: value for name, value in section.to_dict().items() if value is not None}


def base_address(config: ProjectConfig) -> str:
    """Where the weights and the tokenizer come from: the version that is continued, or model.base."""
    parent = config.incremental.parent
    return f"{VERSION_SCHEME}{parent}" if parent else config.model.base


def pinned(config: ProjectConfig) -> ProjectConfig:
    """The settings with the version that is continued, or is the base, by number: an alias may move while stages run.

    Raises NotFound when there is no such version.
    """
    if parent := config.incremental.parent:
        changed = config.incremental.model_copy(update={"parent": _by_number(parent)})
        return config.model_copy(update={"incremental": changed})
    if config.model.base.startswith(VERSION_SCHEME):
        base = f"{VERSION_SCHEME}{_by_number(config.model.base.removeprefix(VERSION_SCHEME))}"
        return config.model_copy(update={"model": config.model.model_copy(update={"base": base})})
    return config


def _by_number(ref: str) -> str:
    from fairlead.registry import open_registry

    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(ref))
    return str(ModelRef(version.project, number=version.number))


def addresses(data: DataConfig) -> dict[str, str]:
    """Every address that the data is read from, by the setting that names it."""
    named = {"source": data.source, "validation": data.validation, "test": data.test}
    named |= {f"extra.{name}": address for name, address in data.extra.items()}
    return {setting: address for setting, address in named.items() if address is not None}


def input_digests(config: ProjectConfig) -> tuple[str, str]:
    """Digests of the content behind the data's addresses and behind the model's base.

    A cache keys on names, not on content; these two make the content an argument.
    """
    from fairlead.registry.fetching import base_digest
    from fairlead.storage.sources import fingerprint

    data = {setting: fingerprint(address) for setting, address in addresses(config.data).items()}
    base = base_address(config)
    digest = "" if base == SCRATCH else base_digest(base)
    # The parent's rows are read by ingest as well.
    return of_json(data | ({"parent": digest} if config.incremental.parent else {})), digest


def refuse_local(config: ProjectConfig) -> None:
    """Raise ConfigError for an address that a cluster cannot read, or that must not be written into a run there."""
    named: Mapping[str, str] = {f"data.{setting}": address for setting, address in addresses(config.data).items()}
    if config.model.base != SCRATCH and not config.incremental.parent:
        named = {**named, "model.base": config.model.base}
    for setting, address in named.items():
        if reason := _unfit(address):
            raise ConfigError(f"{setting}: {redact(address)!r} {reason}")
    if config.deploy.mode == "gitops" and not re.match(r"(https?|ssh)://|[^/]+@[^/]+:", str(config.deploy.repository)):
        raise ConfigError(
            f"deploy.repository: {config.deploy.repository!r} is not on a server, where a cluster could reach it; "
            "name it by https:// or ssh://"
        )


def _unfit(address: str) -> str:
    """What keeps an address out of a cluster's run, and what to do; empty when nothing does."""
    scheme, separator, _ = address.partition("://")
    if not separator or scheme == "file":
        return (
            "is a path on this machine, which a cluster cannot read; "
            "put it on s3://, https:// or hf:// and name that address"
        )
    if scheme not in SCHEMES:
        return f"cannot be read: {scheme}:// is not supported; put it on s3://, https:// or hf:// and name that address"
    if redact(address) != address:
        return (
            "has a user, password or query, which everyone who sees the run on the cluster would see; "
            "put it on s3:// or hf://, whose credentials the cluster keeps in a secret, or on an address without them"
        )
    return ""
