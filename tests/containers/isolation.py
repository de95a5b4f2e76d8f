"""A container as Kubernetes starts it: an image that buildah holds, run by runc with no more than a manifest grants.

The root filesystem is read-only, there are no capabilities, and no new privileges. The network is one of the
container's own with nothing on it but its own loopback, or one that it shares (tests/containers/network.py).
"""

import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 600
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")


@dataclass(frozen=True)
class Image:
    """An image by its name, as its configuration describes it, with its files at `rootfs`."""

    name: str
    config: dict[str, Any]
    rootfs: Path

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.config.get("Env", []))


@contextmanager
def mounted(name: str) -> Iterator[Image]:
    """The image, its files to be read until the end."""
    working = _buildah("from", "--pull-never", name)
    try:
        described = json.loads(_buildah("inspect", "--type", "image", name))
        yield Image(name, described["OCIv1"]["config"], Path(_buildah("mount", working)))
    finally:
        _buildah("rm", working)


def _buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Container:
    """What a manifest says of a container."""

    image: Image
    command: tuple[str, ...]
    """The whole of it, Kubernetes' `command` and `args`."""
    user: int
    env: Mapping[str, str] = field(default_factory=dict)
    writable: Mapping[str, Path] = field(default_factory=dict)
    """Folders here by their place in the container, as an emptyDir is."""
    readable: Mapping[str, Path] = field(default_factory=dict)
    network: Path | None = None
    """The namespace of the network that it shares; None for one without anything."""
    memory_bytes: int | None = None


def run(container: Container, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, with stderr in stdout; `folder` holds its bundle."""
    name = _bundle(container, folder)
    command = ["runc", "run", "--bundle", str(folder / name), name]
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
    finally:
        remove(name)


@dataclass
class Started:
    """A container that runs."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def network(self) -> Path:
        """Its network namespace, once it runs: runc knows it a moment after it was told to start it."""
        while (state := subprocess.run(["runc", "state", self.name], capture_output=True, text=True)).returncode:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        return Path(f"/proc/{json.loads(state.stdout)['pid']}/ns/net")

    def end(self) -> int:
        """Tell it to end as Kubernetes does, and return its exit code."""
        subprocess.run(["runc", "kill", self.name, "TERM"], check=True)
        return self.process.wait(SECONDS)


@contextmanager
def started(container: Container, folder: Path) -> Iterator[Started]:
    """Run it meanwhile; the log has both of its streams."""
    name = _bundle(container, folder)
    log = folder / name / "log"
    with log.open("wb") as file:
        command = ["runc", "run", "--bundle", str(folder / name), name]
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        yield Started(name, process, log)
    finally:
        remove(name)
        process.wait(SECONDS)


def remove(name: str) -> None:
    subprocess.run(["runc", "delete", "--force", name], capture_output=True, check=False)


def empty_folder(path: Path) -> Path:
    """An emptyDir: anyone may write."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    return path


# What runc reads --------------------------------------------------------------------------------------------


def _bundle(container: Container, folder: Path) -> str:
    name = f"fairlead-{uuid.uuid4().hex[:12]}"
    (folder / name).mkdir(parents=True)
    (folder / name / "config.json").write_text(json.dumps(_specification(container)))
    return name


def _specification(container: Container) -> dict[str, Any]:
    """https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md"""
    environment = container.image.environment | dict(container.env)
    limit = {"memory": {"limit": container.memory_bytes}} if container.memory_bytes else {}
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(container.image.rootfs), "readonly": True},
        "hostname": "container",
        "process": {
            "user": {"uid": container.user, "gid": container.user},
            "args": list(container.command),
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": container.image.config.get("WorkingDir") or "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "mounts": [*_system_mounts(), *_mounts(container.writable, "rw"), *_mounts(container.readable, "ro")],
        "linux": {
            "namespaces": [_namespace(kind, container.network) for kind in NAMESPACES],
            "resources": {"devices": [{"allow": False, "access": "rwm"}], **limit},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _namespace(kind: str, network: Path | None) -> dict[str, str]:
    return {"type": kind, "path": str(network)} if kind == "network" and network else {"type": kind}


def _system_mounts() -> list[dict[str, Any]]:
    """What containerd mounts; /dev/shm has 64 MB, as there."""
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ]


def _mounts(folders: Mapping[str, Path], mode: str) -> list[dict[str, Any]]:
    return [
        {"destination": place, "type": "bind", "source": str(folder), "options": ["rbind", mode, "nosuid", "nodev"]}
        for place, folder in folders.items()
    ]


def missing() -> str:
    """What keeps containers from being run here; empty when nothing does."""
    absent = [program for program in ("buildah", "runc", "ip", "nsenter", "openssl") if not shutil.which(program)]
    return f"{', '.join(absent)} not installed" if absent else ""
