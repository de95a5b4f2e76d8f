"""The platform on the cluster that KUBECONFIG names: what is applied, and whether the cluster and the store take it."""

import pytest

from tests.on_cluster import stores
from tests.on_cluster.commands import Command
from tests.on_cluster.conftest import Note
from tests.on_cluster.examining import Found
from tests.on_cluster.objects import Objects
from tests.on_cluster.platforms import LIGHT, POSTGRES, Images, Platform, wait_for_job, wait_for_stateful_set
from tests.on_cluster.settings import Settings
from tests.on_cluster.space import Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


def test_the_platform_is_applied_and_the_same_again_changes_nothing(
    objects: Objects, platform: Platform, note: Note
) -> None:
    for (kind, name), reason in platform.left_out.items():
        note(f"without {kind} {name}: {reason}")
    before = {
        objects.path(one): objects.get(one["apiVersion"], one["kind"], one["metadata"]["name"])
        for one in platform.applied
    }
    for one in platform.applied:
        again = objects.apply(one)
        generation = (before[objects.path(one)] or {})["metadata"].get("generation")
        assert again["metadata"].get("generation") == generation, objects.path(one)
    note(f"{len(before)} objects")


def test_the_doctor_finds_what_the_manifests_need(command: Command, found: Found, run: Run, note: Note) -> None:
    _, said = command("doctor", "--cluster")
    wrong = [f"{finding['what']}: {finding['detail']}" for finding in said["cluster"] if finding["level"] == "problem"]
    if not found.has_storage_container_name or found.kserve == "absent":
        assert wrong, "the doctor should have seen that this KServe is not what the manifests need"
        pytest.skip(f"as it should, the doctor refuses this cluster: {'; '.join(wrong)}")
    assert wrong == []
    note(f"{len(said['cluster'])} findings, none a problem")


def test_the_store_takes_from_each_user_what_its_policy_says(
    objects: Objects, store: str, platform: Platform, settings: Settings, note: Note
) -> None:
    if settings.store:
        pytest.skip("the store is not the suite's own: its users and policies are not ours to change")
    serving, pipelines = (stores.connect(store, name, stores.PASSWORD) for name in ("serving", "pipelines"))
    key = "models/policy_probe/v0001/fairlead.json"
    assert stores.may(stores.put, pipelines, "fairlead", key)
    assert stores.may(serving.stat_object, "fairlead", key)
    assert not stores.may(stores.put, serving, "fairlead", key)
    assert stores.may(stores.put, serving, "fairlead", "predictions/policy_probe")
    assert not stores.may(stores.put, serving, "fairlead-backups", "policy_probe")
    pipelines.remove_object("fairlead", key)
    note("its users by " + ("the Job" if ("Job", "minio-set-up") not in platform.plan.left_out else "this machine"))


def test_the_registry_has_its_schema(objects: Objects, platform: Platform, present: Images, settings: Settings) -> None:
    present.need(POSTGRES, LIGHT)
    assert wait_for_stateful_set(objects, "postgres", settings.seconds) == 1
    assert wait_for_job(objects, "registry-schema", settings.seconds) == 1
