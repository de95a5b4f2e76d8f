"""A few hundred of the malformed calls of `make fuzz`, and the request paths that it found."""

import pytest

from tests.serving.conftest import Server
from tests.serving.fuzz import raw_http, rest, rpc, schema
from tests.serving.fuzz.tally import Tally


@pytest.mark.parametrize(("part", "calls"), [(rest, 300), (rpc, 120), (raw_http, 40), (schema, 48)])
def test_malformed_calls_are_refused_and_valid_ones_answered(server: Server, part: object, calls: int) -> None:
    tally = Tally()
    part.run(server.grpc if part is rpc else server.http, calls, 0, tally)  # type: ignore[attr-defined]
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.malformed > calls / 3
    assert server.post(rest.V1, json={"instances": ["my card"]}).status_code == 200


@pytest.mark.parametrize("path", ["//GET", "/v2//GET", "/v2/models/support-topics//GET", "/v2/models/{}"])
def test_paths_that_read_like_the_routes_own_keys(server: Server, path: str) -> None:
    assert server.get(path).status_code == 404


def test_values_that_equal_one_are_no_mask(server: Server) -> None:
    ids = {"name": "input_ids", "datatype": "INT64", "shape": [1, 2], "data": [2, 3]}
    for mask in ([True, True], [1.0, 0.0]):
        tensor = ids | {"name": "attention_mask", "data": mask}
        answer = server.post(rest.V2, json={"inputs": [ids, tensor]})
        assert (answer.status_code, "mask" in answer.text) == (400, True)


def test_the_description_names_every_model_served(server: Server) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    model = paths["/v2/models/{model}/infer"]["post"]["parameters"][0]
    assert model["schema"]["enum"] == [server.model]
