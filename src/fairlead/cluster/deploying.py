"""The deploy stage: a registered version is served, or its release is proposed.

| mode   | what is done                                                      | run again            | when it fails   |
|--------|-------------------------------------------------------------------|----------------------|-----------------|
| direct | applied to the cluster, followed until that very version answers  | goes on where it was | what served is  |
|        |                                                                   |                      | served again    |
| gitops | one line changed on a branch of its own, which is pushed          | finds its branch     | leaves nothing  |
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fairlead import events, places
from fairlead.cluster.api_server import ApiServer
from fairlead.cluster.deployment import deploy
from fairlead.cluster.endpoint import Ask, answering_at, service_address
from fairlead.cluster.inference_service import Shared
from fairlead.cluster.promotion import propose
from fairlead.errors import ConfigError, NotFound
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import short
from fairlead.names import ModelRef
from fairlead.project import DeployConfig
from fairlead.registry import open_registry
from fairlead.registry.registration import VERSION
from fairlead.stage import EXIT_TERMINATED, stage

DEPLOYMENT = "deployment.json"


@stage("deploy")
def deploy_stage(version: str, mode: str, config: dict[str, Any], output: str) -> None:
    """Deploy the version that the register stage left in the folder `version`, and write `<output>/deployment.json`.

    Raises ClusterError when it does not come up, ConfigError for a cluster that refuses, Conflict when the
    InferenceService or the branch is someone else's.
    """
    settings = DeployConfig.parse({**config, "mode": mode}, where="deploy")
    written = _read(Path(version))
    ref = ModelRef.parse(written["name"])
    with _ending_cleanly():
        put = {"direct": _direct, "gitops": _gitops, "none": _nowhere}[settings.mode]
        outcome = {"mode": settings.mode, "version": written["name"], **put(settings, ref, written["digest"])}
    write_json(Path(output) / DEPLOYMENT, outcome)
    events.result("deploy", {name: short(value) if name == "digest" else value for name, value in outcome.items()})


def _direct(settings: DeployConfig, ref: ModelRef, digest: str) -> dict[str, Any]:
    need, remedy = "deploy.mode: direct", "name one by KUBECONFIG, or set deploy.mode to none"
    server = ApiServer.connect(need, remedy).within(settings.namespace)
    answer = deploy(
        server,
        ref.project,
        int(ref.number or 0),
        f"{places.store_url().rstrip('/')}/models",
        settings.timeout_seconds,
        _say,
        digest=digest,
        ask=_ask(settings, ref.project),
        shared=Shared(settings.storage_container, settings.priority_class),
        force_conflicts=settings.force_conflicts,
    )
    return {"namespace": server.namespace, "digest": answer.digest}


def _gitops(settings: DeployConfig, ref: ModelRef, digest: str) -> dict[str, Any]:
    with open_registry() as registry:
        proposal = propose(
            registry,
            str(settings.repository),
            settings.branch,
            registry.resolve(ref),
            settings.environment,
            settings.canary_percent,
        )
    if proposal.commit is None:
        _say(f"{settings.environment} serves {ref} already; nothing to propose")
    else:
        _say(f"branch {proposal.branch}: merge it, and {settings.environment} follows")
    return {"environment": settings.environment, "branch": proposal.branch, "commit": proposal.commit, "digest": digest}


def _nowhere(settings: DeployConfig, ref: ModelRef, digest: str) -> dict[str, Any]:
    return {"digest": digest}


def _ask(settings: DeployConfig, project: str) -> Ask | None:
    """How the endpoint is asked; None is through the API server."""
    if settings.endpoint:
        return partial(answering_at, settings.endpoint, project)
    # The policy of the model servers lets pipelines in, and seldom the API server, which may be on another machine.
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return partial(answering_at, service_address(settings.namespace, project), project)
    return None


def _read(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / VERSION).read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"deploy: {folder / VERSION} is not there; run the register stage first") from error
    except ValueError as error:
        raise ConfigError(f"deploy: {folder / VERSION} is no JSON; run the register stage again") from error
    return found


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Within the block SIGTERM is an exception, so that what was applied is taken back on the way out."""

    def end(*_: object) -> None:
        sys.exit(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    print(f"deploy: {line}", flush=True)
