"""A version on the cluster: deployed, asked by each protocol, and seen by `fairlead status`."""

import pytest

from tests.on_cluster.commands import Command, deploy
from tests.on_cluster.objects import Objects
from tests.on_cluster.platforms import Model
from tests.on_cluster.settings import Settings
from tests.on_cluster.space import Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600), pytest.mark.usefixtures("servable")]


def test_a_version_is_deployed(model: Model, run: Run, settings: Settings, command: Command) -> None:
    code, said = deploy(command, model, run, 1, settings)
    assert code == 0, said
    assert said["version"] == f"{model.project}_v1"
    model.state.add("deployed")


def test_it_answers_by_each_protocol_and_says_which_version_it_is(model: Model, objects: Objects) -> None:
    # kserve takes seconds to import.
    from tests.on_cluster import asking

    model.need("deployed")
    said = asking.by_each_protocol(objects, model.name)
    assert {one.version for one in said} == {f"{model.project}_v1"}
    assert {one.digest for one in said} == {model.digests[1]}
    assert len({one.label for one in said}) == 1


def test_status_sees_that_all_agrees(model: Model, command: Command) -> None:
    model.need("deployed")
    code, said = command("status", model.project)
    assert (code, said["answering"], said["differences"]) == (0, f"{model.project}_v1", [])
