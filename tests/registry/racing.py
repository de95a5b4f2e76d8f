"""Registrations from separate processes and their threads, started together.

python -m tests.registry.racing <registry url> <closures, comma separated> <file to wait for>
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

from fairlead.names import version_prefix
from fairlead.registry import Registry, open_registry
from tests.registry.samples import data_manifest, manifest, start_run, training


def register(registry: Registry, closure: str) -> int:
    reservation = registry.reserve_version("topics", closure)
    with registry.upload_lock(reservation):
        if not registry.reserve_version("topics", closure).committed:
            content = manifest(reservation.number, training(weights=closure.encode()))
            registry.commit_version(content, version_prefix("topics", reservation.number))
    return reservation.number


def race(registry: Registry, closures: list[str]) -> list[int]:
    start_run(registry)
    registry.record_data_version(data_manifest(), "data/x/")
    with ThreadPoolExecutor(len(closures)) as pool:
        return list(pool.map(lambda closure: register(registry, closure), closures))


def main(url: str, closures: str, start: str) -> None:
    # What opening imports is imported before the start.
    import_module("fairlead.registry.store")

    print("ready", flush=True)
    while not Path(start).exists():
        time.sleep(0.01)
    with open_registry(url) as registry:
        print(*race(registry, closures.split(",")))


if __name__ == "__main__":
    main(*sys.argv[1:])
