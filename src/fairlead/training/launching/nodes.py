"""Where this machine stands among those that train together, as Kubeflow Trainer tells it.

Trainer's torch policy sets in every pod what `torchrun` reads: PET_NNODES, PET_NODE_RANK,
PET_NPROC_PER_NODE, PET_MASTER_ADDR and PET_MASTER_PORT (pkg/runtime/framework/plugins/torch, v2.0 to
v2.3). The machines meet as `torchrun` lets them: node 0 keeps the store, and a node's rank is the
index of its pod, so that rank 0, which writes, is always in the pod `<name>-node-0-0`.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.errors import ConfigError

# Images are pulled and queues waited for at each machine's own pace; torch's default, too.
JOIN_SECONDS = 900


@dataclass(frozen=True)
class Node:
    """This machine among `count`; alone by default."""

    count: int = 1
    rank: int = 0
    processes: int | None = None
    """Ranks on each machine; None where the job decides."""
    address: str = "127.0.0.1"
    port: int = 0
    """Port of the store on node 0; 0 for any free one, which only a machine alone can use."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Node":
        """Read the PET_ variables. Raises ConfigError when one is missing or is no number."""
        return cls(
            count=_number(environment, "PET_NNODES"),
            rank=_number(environment, "PET_NODE_RANK"),
            processes=_processes(environment),
            address=_text(environment, "PET_MASTER_ADDR"),
            port=_number(environment, "PET_MASTER_PORT"),
        )

    @property
    def is_first(self) -> bool:
        """Whether rank 0 is here."""
        return self.rank == 0

    def rendezvous(self) -> dict[str, Any]:
        """How torch's launcher lets the machines meet: arguments of its LaunchConfig."""
        if self.count == 1:
            endpoint = {"rdzv_backend": "c10d", "rdzv_endpoint": f"127.0.0.1:{self.port or _free_port()}"}
            return endpoint | {"min_nodes": 1, "max_nodes": 1, "local_addr": "127.0.0.1"}
        return {
            "min_nodes": self.count,
            "max_nodes": self.count,
            "rdzv_backend": "static",
            "rdzv_endpoint": f"{self.address}:{self.port}",
            "rdzv_configs": {"rank": self.rank, "timeout": JOIN_SECONDS},
        }


def _text(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise ConfigError(
            f"{name}: it is not set, so this is not a pod of a TrainJob with the torch policy; "
            "check the runtime that the TrainJob names"
        )
    return value


def _number(environment: Mapping[str, str], name: str) -> int:
    value = _text(environment, name)
    if not value.isdecimal():
        raise ConfigError(f"{name}: {value!r} is not a number; check the runtime that the TrainJob names")
    return int(value)


def _processes(environment: Mapping[str, str]) -> int | None:
    """None for `auto` and its like, which leave the choice to what the machine has."""
    value = environment.get("PET_NPROC_PER_NODE", "")
    return int(value) if value.isdecimal() and int(value) > 0 else None


def _free_port() -> int:
    """A port for the rendezvous: two launches from one process then never share a store."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
