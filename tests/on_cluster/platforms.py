"""What a run works with: the images that the nodes have, the platform that was applied, and the model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fairlead.cluster.api_server import Object
from fairlead.cluster.pods import phase
from fairlead.cluster.trouble import trouble, warnings_of
from fairlead.cluster.watching import last_lines
from manifests.validation import building
from manifests.validation.workloads import pods
from tests.on_cluster import images
from tests.on_cluster.adapting import Plan, adapted
from tests.on_cluster.examining import Found
from tests.on_cluster.objects import Objects, wait
from tests.on_cluster.settings import Settings
from tests.on_cluster.space import RUN, Run

MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
PLATFORM = MANIFESTS / "overlays" / "dev" / "platform"
# Images by their names in the manifests.
LIGHT, SERVING = "fairlead-light", "fairlead-serving"
MINIO, MC, POSTGRES = "quay.io/minio/minio", "quay.io/minio/mc", "docker.io/library/postgres"
Key = tuple[str, str]


@dataclass
class Images:
    """What the nodes have."""

    plan: dict[str, str]
    """The reference to use, by name."""
    missing: dict[str, str]
    """Why there is none, by name."""

    def need(self, *names: str) -> None:
        """Skip when one of these is missing."""
        for name in names:
            if name in self.missing:
                pytest.skip(f"the image {name} is not to be had ({self.missing[name]})")


def images_of(objects: Objects, built: list[Any], settings: Settings) -> Images:
    """The images that the manifests name: the caller's, the manifests' own, or others of the kind that nodes have."""
    named = {
        _without_version(c["image"]): str(c["image"]) for o in built for pod in pods(o) for _, c in pod.containers()
    }
    given = {MINIO: settings.minio_image, POSTGRES: settings.postgres_image}
    candidates = {
        name: [given.get(name, ""), reference, *images.known(objects, "/".join(name.split("/")[-2:]))]
        for name, reference in named.items()
        if "/" in name
    }
    candidates |= {name: [settings.own_image(name)] for name in (LIGHT, SERVING)}
    found = images.ask(objects, candidates, settings.seconds)
    return Images(
        {name: reference for name, (reference, why) in found.items() if not why},
        {name: f"{reference}: {why}" for name, (reference, why) in found.items() if why},
    )


@dataclass(frozen=True)
class Platform:
    """What was applied."""

    plan: Plan
    applied: list[Object]
    left_out: dict[Key, str]
    """Why, by kind and name."""
    store_url: str
    """As pods reach it."""


def left_out(objects: Objects, built: list[Any], images: Images, settings: Settings) -> dict[Key, str]:
    """What of the manifests this cluster cannot run, and why."""
    found: dict[Key, str] = {}
    for one in built:
        kind, name = one["kind"], one["metadata"]["name"]
        needs = {_without_version(c["image"]) for pod in pods(one) for _, c in pod.containers()}
        # The runtime and the storage container are harmless without their images.
        missing = [n for n in sorted(needs) if n in images.missing] if kind in ("StatefulSet", "Job", "CronJob") else []
        if not objects.serves(one["apiVersion"], kind):
            found[kind, name] = f"{one['apiVersion']} is not served"
        elif settings.store and ("minio" in name or name == "registry-backup"):
            found[kind, name] = "the store is not the suite's own"
        elif missing:
            found[kind, name] = f"the image {missing[0]} is not to be had ({images.missing[missing[0]]})"
    if ("StatefulSet", "minio") in found:
        found.setdefault(("Job", "minio-set-up"), "there is no store of its own")
    if ("StatefulSet", "postgres") in found:
        found.setdefault(("Job", "registry-schema"), "there is no registry")
    return found


def plan_of(run: Run, found: Found, images: Images, out: dict[Key, str], settings: Settings) -> Plan:
    """How the manifests are fitted."""
    return Plan(
        run=run,
        images=images.plan,
        has_volumes=found.has_volumes,
        left_out=frozenset(out),
        bucket=(settings.bucket or run.namespace) if settings.store else "fairlead",
        store=settings.store,
        credentials=(settings.access_key, settings.secret_key) if settings.store else None,
        has_registry=("StatefulSet", "postgres") not in out,
    )


def apply(objects: Objects, plan: Plan, built: list[Any], out: dict[Key, str]) -> Platform:
    """Apply what the plan makes of the manifests."""
    wanted = adapted(built, plan)
    if plan.store:
        wanted.append(_way_to_the_store(plan.run))
    for one in wanted:
        objects.apply(one)
    return Platform(plan, wanted, out, plan.store or f"http://minio.{plan.run.namespace}.svc:9000")


def build(settings: Settings) -> list[Any]:
    """What the development overlay is, with the component for a store that is there already where one is named."""
    components = ("external-store",) if settings.store else ()
    return building.Build("overlays/dev/platform", PLATFORM, False, components).objects()


def _without_version(image: str) -> str:
    name = str(image).partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name


def _way_to_the_store(run: Run) -> Object:
    """Model servers may reach an S3 wherever it is; an overlay would name its address."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "external-store", "namespace": run.namespace, "labels": {RUN: run.id}},
        "spec": {
            "podSelector": {"matchLabels": {"component": "predictor"}},
            "policyTypes": ["Egress"],
            "egress": [{}],
        },
    }


@dataclass
class Model:
    """The model of the run: three versions of one project."""

    project: str
    name: str
    digests: dict[int, str]
    environment: dict[str, str]
    state: set[str] = field(default_factory=set)
    """What parts have done so far: `deployed`, `promoted`."""

    def need(self, done: str) -> None:
        """Skip when a part that this one follows did not succeed."""
        if done not in self.state:
            pytest.skip(f"the model is not {done}: see the parts before")


def wait_for_stateful_set(objects: Objects, name: str, seconds: float) -> int:
    """Wait until its one replica is ready; how many are."""

    def look() -> int | None:
        found = objects.get("apps/v1", "StatefulSet", name) or {}
        return (found.get("status") or {}).get("readyReplicas") or None

    return wait(look, seconds, f"StatefulSet {name} is ready", lambda: _why(objects, f"app.kubernetes.io/name={name}"))


def wait_for_job(objects: Objects, name: str, seconds: float) -> int:
    """Wait until it is complete; how many of its pods succeeded."""

    def look() -> int | None:
        found = objects.get("batch/v1", "Job", name) or {}
        return (found.get("status") or {}).get("succeeded") or None

    return wait(look, seconds, f"Job {name} is complete", lambda: _why(objects, f"job-name={name}"))


def _why(objects: Objects, selector: str) -> str:
    return why(objects, objects.find("v1", "Pod", labelSelector=selector))


def why(objects: Objects, found: list[Object]) -> str:
    """Why the first of some pods does not run; empty when nothing is known to be wrong."""
    return trouble(objects.server, found, warnings_of(objects.server))[0]


def trouble_of_pods(objects: Objects) -> list[str]:
    """A line a pod that has not ended well: all of it is gone in a minute."""
    lines = []
    for pod in objects.find("v1", "Pod"):
        name = pod["metadata"]["name"]
        if phase(pod) != "Succeeded" and not name.startswith("image-"):
            reason = why(objects, [pod]) or "nothing is known to be wrong"
            lines.append(f"pod {name} ({phase(pod)}): {reason}; {' | '.join(last_lines(objects.server, name, 5))}")
    return lines
