"""Objects by their kind instead of their path: the cluster's discovery says where each is kept."""

import time
from collections.abc import Callable
from typing import TypeVar

from fairlead.cluster.api_server import APPLY_PATCH, ApiServer, Object, items
from fairlead.errors import FairleadError, NotFound

T = TypeVar("T")
# As Argo CD would be one: other than the commands' own.
MANAGER = "fairlead-cluster-test"


class Unserved(Exception):
    """The cluster does not serve a kind."""


class Objects:
    """The objects of a cluster."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._groups: dict[str, dict[str, tuple[str, bool]]] = {}

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the cluster has a kind."""
        return kind in self._kinds(api_version)

    def is_namespaced(self, found: Object) -> bool:
        """Whether objects of this kind stand in a namespace. Raises Unserved."""
        return self._place(found["apiVersion"], found["kind"])[1]

    def path(self, found: Object) -> str:
        """Where an object is kept, in the server's namespace when its kind has one. Raises Unserved."""
        return f"{self.folder(found['apiVersion'], found['kind'])}/{found['metadata']['name']}"

    def folder(self, api_version: str, kind: str) -> str:
        """Where the objects of a kind are kept. Raises Unserved."""
        plural, is_namespaced = self._place(api_version, kind)
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        return f"{root}/namespaces/{self.server.namespace}/{plural}" if is_namespaced else f"{root}/{plural}"

    def apply(self, found: Object, dry_run: bool = False) -> Object:
        """Server-side apply, strictly. Raises Unserved, and ConfigError with what the cluster refuses."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": "true"}
        if dry_run:
            query["dryRun"] = "All"
        return self.server._patiently("PATCH", self.path(found), query, found, APPLY_PATCH)

    def find(self, api_version: str, kind: str, **selector: str) -> list[Object]:
        """The objects of a kind; none when it is not served or may not be read."""
        try:
            return list(items(self.server.get(self.folder(api_version, kind), **selector)))
        except (Unserved, FairleadError):
            return []

    def get(self, api_version: str, kind: str, name: str) -> Object | None:
        """An object by name."""
        try:
            return self.server.get(f"{self.folder(api_version, kind)}/{name}")
        except (Unserved, NotFound):
            return None

    def _place(self, api_version: str, kind: str) -> tuple[str, bool]:
        found = self._kinds(api_version).get(kind)
        if found is None:
            raise Unserved(f"{kind} ({api_version}) is not served")
        return found

    def _kinds(self, api_version: str) -> dict[str, tuple[str, bool]]:
        if api_version not in self._groups:
            root = "/apis" if "/" in api_version else "/api"
            try:
                resources = self.server.get(f"{root}/{api_version}").get("resources", [])
            except NotFound:
                resources = []
            # `pods/log` is no object.
            own = [entry for entry in resources if "/" not in entry["name"]]
            self._groups[api_version] = {entry["kind"]: (entry["name"], entry["namespaced"]) for entry in own}
        return self._groups[api_version]


def wait(look: Callable[[], T | None], seconds: float, what: str, why: Callable[[], str] = lambda: "") -> T:
    """What `look` gives as soon as it gives something. Raises AssertionError with `what`, and why it may be so."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {seconds:.0f} s" + (f" ({reason})" if (reason := why()) else ""))
        time.sleep(min(1.0, seconds / 100))
