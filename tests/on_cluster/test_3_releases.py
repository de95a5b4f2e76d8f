"""From one version to another on the cluster, under load: promoted, rolled back, and taken back when it is damaged."""

import re

import pytest

from fairlead.cluster.endpoint import Endpoint
from fairlead.cluster.trouble import pods_of
from tests.on_cluster import loads
from tests.on_cluster.adapting import adapted
from tests.on_cluster.commands import Command, deploy
from tests.on_cluster.conftest import Note
from tests.on_cluster.objects import Objects, wait
from tests.on_cluster.platforms import LIGHT, Images, Model, Platform, why
from tests.on_cluster.releases import Releases
from tests.on_cluster.settings import Settings
from tests.on_cluster.space import Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600), pytest.mark.usefixtures("servable")]


def test_a_promotion_is_one_line_and_loses_no_request(
    model: Model,
    objects: Objects,
    platform: Platform,
    present: Images,
    releases: Releases,
    settings: Settings,
    command: Command,
    note: Note,
) -> None:
    model.need("deployed")
    load = loads.start(
        *(objects, "load-promotion", present.plan[LIGHT], model.name),
        *("--until", f"{model.project}_v2", "--seconds", str(settings.seconds)),
    )
    load.started(settings.seconds)
    code, said = command("promote", model.project, "2", "--to", "dev", "--repository", str(releases.folder))
    assert code == 0, said
    changed = [line for line in releases.merge(said["branch"]).splitlines() if re.match(r"[-+] ", line)]
    assert [line[1:].strip() for line in changed] == [
        f"storageUri: s3://{platform.plan.bucket}/models/{model.project}/v000{number}/" for number in (1, 2)
    ]
    _follow(objects, platform, releases, model, 2, settings)
    counted = load.summary(2 * settings.seconds)
    note(loads.told(counted))
    assert counted["failed"] == 0, counted
    assert set(counted["versions"]) == {f"{model.project}_v1", f"{model.project}_v2"}
    model.state.add("promoted")


def test_a_rollback_serves_what_was_before(
    model: Model, objects: Objects, platform: Platform, releases: Releases, settings: Settings, command: Command
) -> None:
    model.need("promoted")
    code, said = command("rollback", model.project, "--to", "dev", "--repository", str(releases.folder))
    assert code == 0, said
    releases.merge(said["branch"])
    _follow(objects, platform, releases, model, 1, settings)
    code, said = command("status", model.project, "--to", "dev", "--repository", str(releases.folder))
    assert (code, said["desired"], said["differences"]) == (0, f"{model.project}_v1", [])


def test_a_damaged_version_is_taken_back_and_never_served(
    model: Model, objects: Objects, run: Run, settings: Settings, command: Command, note: Note
) -> None:
    model.need("deployed")
    serving = Endpoint(objects.server, model.project).ask()
    if "promoted" in model.state:
        code, said = deploy(command, model, run, 3, settings)
        assert code != 0, said
        assert "managed by someone else" in said
    code, said = deploy(command, model, run, 3, settings, "--force-conflicts")
    assert code == 1, said
    assert "download of the model failed" in said
    assert "is served again" in said
    assert Endpoint(objects.server, model.project).ask() == serving
    note(" ".join(said.split())[-300:])


def _follow(
    objects: Objects, platform: Platform, releases: Releases, model: Model, number: int, settings: Settings
) -> None:
    """Apply what git says, as Argo CD would, and wait until that version alone answers."""
    (wanted,) = adapted(releases.rendered(), platform.plan)
    objects.apply(wanted)
    name = f"{model.project}_v{number}"

    def look() -> bool | None:
        pods = [pod for pod in pods_of(objects.server, model.name) if not pod["metadata"].get("deletionTimestamp")]
        found = Endpoint(objects.server, model.project).ask()
        return True if len(pods) == 1 and found is not None and found.version == name else None

    wait(
        look,
        settings.seconds,
        f"{name} answers",
        lambda: why(objects, pods_of(objects.server, model.name)),
    )
    # kserve takes seconds to import.
    from tests.on_cluster import asking

    said = asking.by_each_protocol(objects, model.name)
    assert {(one.version, one.digest) for one in said} == {(name, model.digests[number])}
