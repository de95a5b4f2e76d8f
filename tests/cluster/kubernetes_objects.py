"""What a small Kubernetes keeps: objects, what became of them, and what it promises to who writes them.

A resourceVersion a change, 409 for an old one, `status` apart from `spec`, immutable fields, server-side apply with
managers of fields, and `Strict` validation against the structural schema of the CRDs.
"""

import threading
import uuid
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.kubernetes_rules import conflicts, default, immutable, merge, parsed, selected, validator

Object = dict[str, Any]


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
        }


@dataclass(frozen=True)
class Change:
    """One entry of a watch."""

    version: int
    kind: str
    event: str
    found: Object


@dataclass
class Cluster:
    """Everything the server knows."""

    crds: dict[str, Object] = field(default_factory=dict)
    """CRDs by plural name."""
    validators: dict[str, Any] = field(default_factory=dict)
    """Of their schemas."""
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    """By plural, namespace, name."""
    services: dict[str, Callable[[str], Object | None]] = field(default_factory=dict)
    """What a service answers to a path, through the API server; None is a connection refused."""
    logs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Lines with their times by pod."""
    ports: dict[tuple[str, int], int] = field(default_factory=dict)
    """Ports of this machine by pod and port, to which a port forward leads."""
    has_namespaces: bool = False
    """Whether objects are refused in namespaces that nobody made."""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """Verb and plural that the caller may not."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    cut_watches: int = 0
    """Watches that are cut within a line, from now on."""
    minor: str = "36"
    """Of Kubernetes 1."""
    unavailable: int = 0
    """Requests that are answered with 503, from now on."""
    starting: int = 0
    """Requests that are answered with 403, from now on: a server that has not yet read its roles refuses everybody."""
    admit: list[Callable[[Object | None, Object], None]] = field(default_factory=list)
    """Webhooks: they change the new object, or raise Refusal."""
    changes: list[Change] = field(default_factory=list)
    oldest: int = 0
    version: int = 100
    lock: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    def install(self, path: Path, change: Callable[[Object], None] | None = None) -> None:
        """Install the CRD in a file, with a change if wanted."""
        crd, found = parsed(path)
        if change:
            crd = deepcopy(crd)
            change(crd)
            found = validator(crd)
        self.crds[crd["spec"]["names"]["plural"]] = crd
        self.validators[crd["spec"]["names"]["plural"]] = found

    # Storage ---------------------------------------------------------------------------------------------------

    def put(self, plural: str, found: Object, event: str = "MODIFIED") -> Object:
        """Write an object as a controller does, and tell the watchers."""
        with self.lock:
            self.version += 1
            found = deepcopy(found)
            found["metadata"]["resourceVersion"] = str(self.version)
            key = (plural, found["metadata"].get("namespace", ""), found["metadata"]["name"])
            if event == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = found
            self.changes.append(Change(self.version, plural, event, found))
            self.lock.notify_all()
            return found

    def make(self, plural: str, found: Object) -> Object:
        """Create an object as a controller does."""
        found = deepcopy(found)
        found["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        return self.put(plural, found, "ADDED")

    def get(self, plural: str, name: str, namespace: str = "team") -> Object | None:
        with self.lock:
            return deepcopy(self.objects.get((plural, namespace, name)))

    def update(self, plural: str, name: str, change: Callable[[Object], None], namespace: str = "team") -> None:
        """Change an object in place, if it is there."""
        with self.lock:
            found = self.get(plural, name, namespace)
            if found is not None:
                before = deepcopy(found)
                change(found)
                if found != before:
                    self.put(plural, found)

    def remove(self, plural: str, name: str, namespace: str = "team") -> None:
        with self.lock:
            found = self.get(plural, name, namespace)
            if found is not None:
                self.put(plural, found, "DELETED")

    def select(self, plural: str, namespace: str, selector: dict[str, str]) -> list[Object]:
        with self.lock:
            return [
                deepcopy(found)
                for (kind, where, _), found in sorted(self.objects.items())
                if kind == plural and namespace in ("", where) and selected(found, selector)
            ]

    def forget_changes(self) -> None:
        """Compact: watches from before now are told 410."""
        with self.lock:
            self.oldest = self.version
            self.changes.clear()

    def log(self, pod: str, line: str) -> None:
        with self.lock:
            self.logs.setdefault(pod, []).append((now(), line))
            self.lock.notify_all()

    # Requests --------------------------------------------------------------------------------------------------

    def create(self, plural: str, namespace: str, body: Object, query: dict[str, str]) -> Object:
        name = body["metadata"]["name"]
        with self.lock:
            if (plural, namespace, name) in self.objects:
                raise Refusal(409, "AlreadyExists", f'{plural} "{name}" already exists')
            self._check_namespace(namespace, body)
            body = deepcopy(body)
            body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            body["metadata"] |= {"namespace": namespace} if namespace else {}
            body["metadata"] |= {"generation": 1, "managedFields": [_manager(query, "Update", body)]}
            body.pop("status", None)
            self._check(plural, None, body, query)
            if query.get("dryRun") == "All":
                return body
            if plural == "namespaces" and self.has_namespaces:
                self.make("serviceaccounts", {"metadata": {"name": "default", "namespace": name}})
            return self.put(plural, body, "ADDED")

    def _check_namespace(self, namespace: str, body: Object) -> None:
        if not self.has_namespaces or not namespace:
            return
        if ("namespaces", "", namespace) not in self.objects:
            raise missing("namespaces", namespace)
        if body["metadata"].get("namespace", namespace) != namespace:
            raise Refusal(400, "BadRequest", "the namespace of the object does not match the namespace on the request")

    def patch(
        self, plural: str, namespace: str, name: str, kind: str, body: Object, query: dict[str, str]
    ) -> tuple[int, Object]:
        with self.lock:
            old = self.get(plural, name, namespace)
            if kind == "application/apply-patch+yaml":
                return self._apply(plural, namespace, name, old, body, query)
            if kind != "application/merge-patch+json":
                raise Refusal(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
            if old is None:
                raise missing(plural, name)
            wanted = (body.get("metadata") or {}).get("resourceVersion")
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                raise Refusal(
                    409, "Conflict", f'Operation cannot be fulfilled on {plural} "{name}": it has been modified'
                )
            new = merge(old, body)
            new = {k: v for k, v in new.items() if k != "status"} | {k: old[k] for k in ("status",) if k in old}
            return 200, self._replace(plural, old, new, query)

    def _apply(
        self, plural: str, namespace: str, name: str, old: Object | None, body: Object, query: dict[str, str]
    ) -> tuple[int, Object]:
        manager = query.get("fieldManager") or ""
        if not manager:
            raise Refusal(400, "BadRequest", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        if old is None:
            body = merge({"metadata": {"name": name}}, body)
            return 201, self.create(plural, namespace, body, query)
        for other in old["metadata"].get("managedFields", []):
            taken = conflicts(other["fieldsV1"], body.get("spec") or {}, old.get("spec") or {})
            if other["manager"] != manager and taken and query.get("force") != "true":
                raise Refusal(
                    409, "Conflict", f'Apply failed with 1 conflict: conflict with "{other["manager"]}": {taken}'
                )
        new = merge(old, body)
        new["metadata"]["managedFields"] = [
            *(m for m in old["metadata"].get("managedFields", []) if m["manager"] != manager),
            _manager(query, "Apply", body),
        ]
        return 200, self._replace(plural, old, new, query)

    def _replace(self, plural: str, old: Object, new: Object, query: dict[str, str]) -> Object:
        self._check(plural, old, new, query)
        if new == old or query.get("dryRun") == "All":
            return new
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        return self.put(plural, new)

    def delete(self, plural: str, namespace: str, name: str) -> Object:
        with self.lock:
            found = self.get(plural, name, namespace)
            if found is None:
                raise missing(plural, name)
            if plural == "namespaces":
                for kind, where, inner in [key for key in self.objects if key[1] == name]:
                    self.remove(kind, inner, where)
            if not found["metadata"].get("finalizers"):
                return self.put(plural, found, "DELETED")
            found["metadata"]["deletionTimestamp"] = now()
            return self.put(plural, found)

    def _check(self, plural: str, old: Object | None, new: Object, query: dict[str, str]) -> None:
        """What the schema of the CRD says, then the webhooks."""
        crd = self.crds.get(plural)
        if crd:
            schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            default(schema, new)
            subject = {k: v for k, v in new.items() if k not in ("metadata", "apiVersion", "kind")}
            wrong = list(self.validators[plural].iter_errors(subject))
            unknown = [e for e in wrong if e.validator == "additionalProperties"]
            if unknown and query.get("fieldValidation") != "Strict":
                raise Refusal(500, "InternalError", "the caller did not ask for strict field validation")
            if unknown:
                raise Refusal(400, "BadRequest", f"strict decoding error: unknown field {unknown[0].message}")
            if wrong:
                said = f"{wrong[0].json_path}: {wrong[0].message[:200]}"
                raise Refusal(
                    422, "Invalid", f'{crd["spec"]["names"]["kind"]} "{new["metadata"]["name"]}" is invalid: {said}'
                )
            for path in immutable(schema, old or {}, new) if old else ():
                raise Refusal(422, "Invalid", f"{path}: field is immutable")
        for webhook in self.admit:
            webhook(old, new)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def missing(plural: str, name: str) -> Refusal:
    return Refusal(404, "NotFound", f'{plural} "{name}" not found')


def _manager(query: dict[str, str], operation: str, body: Object) -> Object:
    manager = query.get("fieldManager") or "unknown"
    return {"manager": manager, "operation": operation, "time": now(), "fieldsV1": deepcopy(body.get("spec") or {})}
