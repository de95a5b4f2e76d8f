"""A pod on the cluster that is deleted under load."""

import pytest

from fairlead.cluster.pods import is_ready
from fairlead.cluster.trouble import pods_of
from tests.on_cluster import loads
from tests.on_cluster.adapting import adapted
from tests.on_cluster.conftest import Note
from tests.on_cluster.objects import Objects, wait
from tests.on_cluster.platforms import LIGHT, Images, Model, Platform, why
from tests.on_cluster.releases import Releases
from tests.on_cluster.settings import Settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600), pytest.mark.usefixtures("servable")]


def test_a_pod_that_is_deleted_under_load_loses_no_request(
    model: Model,
    objects: Objects,
    platform: Platform,
    present: Images,
    releases: Releases,
    settings: Settings,
    note: Note,
) -> None:
    model.need("deployed")
    (wanted,) = adapted(releases.rendered(), platform.plan)
    wanted["spec"]["predictor"] |= {"minReplicas": 2, "maxReplicas": 2}
    objects.apply(wanted)
    pods, reason = _two_pods(objects, model, settings)
    load = loads.start(objects, "load-deletion", present.plan[LIGHT], model.name, "--seconds", "45")
    load.started(settings.seconds)
    objects.server.delete(f"{objects.folder('v1', 'Pod')}/{pods[0]}")
    counted = load.summary(settings.seconds + 60)
    note(loads.told(counted))
    if len(pods) < 2:
        pytest.skip(f"there is no room for two replicas ({reason}); with one {loads.told(counted)}")
    assert counted["failed"] == 0, counted


def _two_pods(objects: Objects, model: Model, settings: Settings) -> tuple[list[str], str]:
    """Names of the ready pods once there are two, or of the one there is and why there is no other."""

    def look() -> tuple[list[str], str] | None:
        found = pods_of(objects.server, model.name)
        ready = [pod["metadata"]["name"] for pod in found if is_ready(pod)]
        reason = why(objects, [pod for pod in found if not is_ready(pod)][:1]) if len(ready) == 1 else ""
        return (ready, reason) if len(ready) == 2 or "Unschedulable" in reason else None

    return wait(
        look,
        settings.seconds,
        "two pods are ready",
        lambda: why(objects, pods_of(objects.server, model.name)),
    )
