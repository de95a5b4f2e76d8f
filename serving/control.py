"""Loading and unloading by callers: the model repository extension of the Open Inference Protocol.

Only what the registry knows can be loaded, and only where the server was started with `--model-control explicit`:
whoever can reach the port could otherwise take the model away from everyone else.
"""

from collections.abc import Mapping
from typing import Any

from fairlead.errors import Conflict
from fairlead.inference.repository import Repository
from fairlead.inference.states import State
from fairlead.names import ModelRef
from serving.desk import Desk
from serving.failures import InvalidRequest
from serving.questions import kind

# Triton's words, which clients of the extension know.
STATES = {
    State.LOADING: "LOADING",
    State.READY: "READY",
    State.FAILED: "UNAVAILABLE",
    State.UNLOADING: "UNLOADING",
    State.UNLOADED: "UNAVAILABLE",
}
PARAMETERS = {"ref": str, "variant": str, "keep": bool}


class Control:
    """What callers may do to the models of a server."""

    def __init__(self, desk: Desk, repository: Repository, allowed: bool, alone: bool) -> None:
        """`alone`: no other process answers on the same ports."""
        self._desk, self._repository, self._allowed, self._alone = desk, repository, allowed, alone

    def index(self) -> list[dict[str, str]]:
        """Every version with its state, also while nothing is loaded yet."""
        return [
            {"name": one.name, "version": one.version, "state": STATES[one.state], "reason": one.reason}
            for one in self._repository.statuses()
        ]

    async def load(self, name: str, parameters: object = None) -> None:
        """Load the version that the parameter `ref` names under `name`; without one, look again where it came from.

        Raises what kept it from being loaded: NotFound, Conflict, InvalidRequest, StorageError.
        """
        given = _read(parameters)
        if not given and not self._allowed:
            # It is there, and callers of kserve's own server load it before they ask.
            self._desk.find(name)
            return
        self._check("load", name)
        ref = given.get("ref")
        if ref is not None:
            ModelRef.parse(ref)
        await self._repository.load(name, ref, given.get("variant"), given.get("keep", False))

    async def unload(self, name: str, version: str = "") -> None:
        """Answer for a model no more, once what was accepted is answered. Raises NotFound, InvalidRequest, Conflict."""
        self._desk.find(name, version)
        self._check("unload", name)
        await self._repository.unload(name, version)

    def _check(self, verb: str, name: str) -> None:
        if not self._allowed:
            raise InvalidRequest(
                f"{verb}: this server serves {name} until it ends; start it with --model-control explicit, or stop it"
            )
        if not self._alone:
            raise Conflict(
                f"{verb}: this server has several workers, and a call reaches one; follow an alias with --follow"
            )


def _read(parameters: object) -> dict[str, Any]:
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise InvalidRequest(f"parameters: an object is expected, not {kind(parameters)}; send {{}}")
    for name, value in parameters.items():
        if name not in PARAMETERS:
            raise InvalidRequest(f"parameters.{name}: there is no such parameter; known are {', '.join(PARAMETERS)}")
        if not isinstance(value, PARAMETERS[name]):
            raise InvalidRequest(f"parameters.{name}: {PARAMETERS[name].__name__} is expected, not {kind(value)}")
    return dict(parameters)
