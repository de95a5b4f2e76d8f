"""`fairlead doctor`: what is here, what is missing, and what to do about it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from fairlead.cli.output import JsonOption, heading, print_json, print_table
from fairlead.cluster.findings import Finding

OLDEST_PYTHON = (3, 11)
# A model of 110 M weights with its checkpoints takes a few GB.
FREE_BYTES = 5 << 30


def doctor(
    cluster: Annotated[
        bool | None, typer.Option("--cluster/--no-cluster", help="Look at the cluster. Default: if one is configured.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at this machine, the store, the registry and the cluster; exit 1 when something needed is missing."""
    found: dict[str, list[Finding]] = {"this machine": list(_machine())}
    if cluster or (cluster is None and _is_configured()):
        found["cluster"] = list(_cluster())
    if as_json:
        print_json({section: [vars(finding) for finding in findings] for section, findings in found.items()})
    else:
        for section, findings in found.items():
            heading(section)
            print_table([_row(finding) for finding in findings], "nothing")
    if any(finding.level == "problem" for findings in found.values() for finding in findings):
        raise typer.Exit(1)


def _row(finding: Finding) -> dict[str, Any]:
    detail = finding.detail if finding.level == "ok" else f"{finding.detail}: {finding.remedy}".rstrip(": ")
    return {"": finding.level, "what": finding.what, "found": detail}


def _machine() -> Iterator[Finding]:
    yield _asked("Python", _python)
    yield _asked("torch", _torch)
    yield _asked("home", _home)
    yield _asked("store", _store)
    yield _asked("registry", _registry)


def _cluster() -> Iterator[Finding]:
    from fairlead.cluster.api_server import ApiServer
    from fairlead.cluster.examination import examine
    from fairlead.errors import FairleadError

    try:
        yield from examine(ApiServer.connect("doctor: --cluster", "name one by KUBECONFIG"))
    except FairleadError as error:
        yield Finding("API server", "problem", str(error))


def _is_configured() -> bool:
    from pathlib import Path

    default = Path("~/.kube/config").expanduser()
    return bool(os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST")) or default.is_file()


def _asked(what: str, ask: Callable[[], Finding]) -> Finding:
    from fairlead.errors import FairleadError

    try:
        return ask()
    except FairleadError as error:
        detail, _, remedy = str(error).partition("; ")
        return Finding(what, "problem", detail, remedy)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("Python", "problem", version, "use 3.11 or later")
    return Finding("Python", "ok", version)


def _torch() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("torch", "note", "not installed: no training or serving here", "pip install 'fairlead[all]'")
    cpus = len(os.sched_getaffinity(0))
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
        return Finding("torch", "ok", f"{torch.__version__}, {torch.cuda.device_count()} x {', '.join(sorted(names))}")
    return Finding("torch", "ok", f"{torch.__version__}, no GPU, {cpus} CPUs")


def _home() -> Finding:
    from fairlead import places

    folder = places.home()
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Finding("home", "problem", f"{places.home()} cannot be written", "set FAIRLEAD_HOME")
    free = shutil.disk_usage(folder).free
    detail = f"{places.home()}, {free / (1 << 30):.0f} GB free"
    return Finding("home", "note" if free < FREE_BYTES else "ok", detail, "make room, or set FAIRLEAD_HOME")


def _store() -> Finding:
    from fairlead import places
    from fairlead.storage import open_store

    store = open_store(places.store_url())
    some = next(iter(store.list("models/")), None)
    return Finding("store", "ok", f"{store.url}, " + ("with models" if some else "no model yet"))


def _registry() -> Finding:
    from fairlead import places
    from fairlead.registry.database import Database
    from fairlead.registry.migration import current_revision
    from fairlead.registry.tables import HEAD

    database = Database(places.registry_url())
    if database.is_sqlite and not database.path.exists():
        return Finding("registry", "ok", f"{database.url}, made when it is first used")
    try:
        with database.reading() as connection:
            revision = current_revision(connection)
    finally:
        database.close()
    if revision == HEAD:
        return Finding("registry", "ok", f"{database.url}, tables of revision {revision}")
    return Finding("registry", "note", f"{database.url}, tables of revision {revision}", "fairlead registry upgrade")
