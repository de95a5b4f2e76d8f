"""Right questions, in all three protocols, over real HTTP and gRPC."""

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from fairlead.inference.answers import Prediction
from fairlead.inference.engine import Engine
from serving.answers import Column
from serving.v2 import raw_bytes
from tests.serving.conftest import ROOT, Server
from tests.tiny import LABELS

TEXTS = ["my card was charged twice", "where is the parcel", "the app crashes", "Ünknown 日本語 words 🙂"]
# Float32 sums in another order, as other threads and batches make them.
SUMS = 1e-6
V1 = "/v1/models/support-topics:predict"
V2 = "/v2/models/support-topics/infer"


@pytest.fixture(scope="module")
def expected(version: Path) -> list[Prediction]:
    return Engine.load(version).predict(TEXTS)


def check_stamp(carried: dict[str, str], server: Server) -> None:
    uuid.UUID(carried["prediction_id"])
    assert carried["model_version"] == server.version == "support_topics_v3"
    assert carried["digest"] == server.digest
    assert server.digest.startswith("sha256:")
    assert carried["variant"] == "torch-fp32"


def check_headers(response: httpx.Response, carried: dict[str, str]) -> None:
    for name in ("prediction-id", "model-version", "digest", "variant"):
        assert response.headers[f"x-fairlead-{name}"] == carried[name.replace("-", "_")]


def test_v1(server: Server, expected: list[Prediction]) -> None:
    response = server.post(V1, json={"instances": TEXTS})
    body = response.json()
    assert response.status_code == 200
    assert [row["label"] for row in body["predictions"]] == [p.label for p in expected]
    assert [row["probability"] for row in body["predictions"]] == pytest.approx([p.probability for p in expected])
    assert set(body["predictions"][0]) == {"label", "probability"}
    assert body["model_name"] == "support-topics"
    check_stamp(body, server)
    check_headers(response, body)


def test_v1_gives_the_probability_of_every_class_on_request(server: Server, expected: list[Prediction]) -> None:
    body = server.post(V1, json={"instances": TEXTS, "parameters": {"probabilities": True}}).json()
    for row, prediction in zip(body["predictions"], expected, strict=True):
        assert row["probabilities"] == pytest.approx(dict(zip(LABELS, prediction.probabilities, strict=True)), abs=SUMS)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/plain", None])
def test_v1_reads_json_whatever_it_is_called(server: Server, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = server.post(V1, content=json.dumps({"instances": TEXTS}), headers=headers)
    assert response.status_code == 200, response.text


def tensor(texts: list[str]) -> dict[str, object]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}


def test_v2_rest(server: Server, expected: list[Prediction]) -> None:
    response = server.post(V2, json={"id": "mine", "inputs": [tensor(TEXTS)]})
    body = response.json()
    assert response.status_code == 200
    assert body["id"] == "mine"
    assert (body["model_name"], body["model_version"]) == ("support-topics", "support_topics_v3")
    label, probability = body["outputs"]
    assert (label["name"], label["datatype"], label["shape"]) == ("label", "BYTES", [4])
    assert label["data"] == [p.label for p in expected]
    assert (probability["name"], probability["datatype"], probability["shape"]) == ("probability", "FP32", [4])
    assert probability["data"] == pytest.approx([p.probability for p in expected])
    check_stamp(body["parameters"], server)
    check_headers(response, body["parameters"])


@pytest.mark.parametrize("path", ["support_topics_v3", "v3", "3"])
def test_v2_rest_answers_at_the_version_it_serves(server: Server, path: str) -> None:
    base = f"/v2/models/support-topics/versions/{path}"
    assert server.post(f"{base}/infer", json={"inputs": [tensor(TEXTS)]}).status_code == 200
    assert server.get(f"{base}/ready").json() == {"name": "support-topics", "ready": True}
    assert server.get(base).json() == server.get("/v2/models/support-topics").json()


@pytest.mark.parametrize("id", [None, "", "absent"])
def test_v2_rest_makes_an_id_where_there_is_none(server: Server, id: str | None) -> None:
    request = {"inputs": [tensor(TEXTS)]} | ({} if id == "absent" else {"id": id})
    body = server.post(V2, json=request).json()
    assert body["id"] == body["parameters"]["prediction_id"]


def test_v2_rest_gives_the_outputs_asked_for(server: Server, expected: list[Prediction]) -> None:
    request = {"inputs": [tensor(TEXTS)], "outputs": [{"name": "probabilities"}]}
    (output,) = server.post(V2, json=request).json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [4, 3])
    assert json.loads(output["parameters"]["labels"]) == LABELS
    assert output["data"] == pytest.approx([p for prediction in expected for p in prediction.probabilities], abs=SUMS)


def test_v2_rest_adds_probabilities_by_parameter(server: Server) -> None:
    names = lambda request: [o["name"] for o in server.post(V2, json=request).json()["outputs"]]  # noqa: E731
    request = {"inputs": [tensor(TEXTS)], "parameters": {"probabilities": True}}
    assert names(request) == ["label", "probability", "probabilities"]
    assert names(request | {"outputs": [{"name": "label"}]}) == ["label", "probabilities"]


def test_v2_rest_takes_a_column_of_texts(server: Server) -> None:
    flat = tensor(TEXTS) | {"shape": [4, 1]}
    nested = flat | {"data": [[text] for text in TEXTS]}
    for column in (flat, nested):
        outputs = server.post(V2, json={"inputs": [column]}).json()["outputs"]
        assert [o["shape"] for o in outputs] == [[4], [4]]


def test_kserves_rest_client(server: Server, expected: list[Prediction]) -> None:
    for response in asyncio.run(ask_by_rest_client(server)):
        label, probability = response.outputs
        assert [str(x, "utf-8") if isinstance(x, bytes) else x for x in label.as_numpy()] == [p.label for p in expected]
        assert probability.as_numpy().tolist() == pytest.approx([p.probability for p in expected])
        check_stamp(response.parameters, server)


async def ask_by_rest_client(server: Server) -> list[InferResponse]:
    """What it is answered with texts as JSON, and as bytes."""
    client, found = InferenceRESTClient(RESTConfig(protocol="v2")), []
    assert await client.is_server_live(server.http)
    assert await client.is_server_ready(server.http)
    assert await client.is_model_ready(server.http, "support-topics")
    for binary in (False, True):
        texts = InferInput("text", [len(TEXTS)], "BYTES")
        texts.set_data_from_numpy(np.array([t.encode() for t in TEXTS], dtype=np.object_), binary_data=binary)
        request = InferRequest("support-topics", [texts], parameters={"binary_data_output": True} if binary else None)
        found.append(await client.infer(server.http, request, model_name="support-topics"))
    await client.close()
    return found


def test_kserves_grpc_client(server: Server, expected: list[Prediction]) -> None:
    response = asyncio.run(ask_by_grpc_client(server))
    assert response.id == "mine"
    assert [o.name for o in response.outputs] == ["label", "probability"]
    assert [x.decode() for x in response.outputs[0].data] == [p.label for p in expected]
    check_stamp({name: value.string_param for name, value in response.parameters.items()}, server)


async def ask_by_grpc_client(server: Server) -> InferResponse:
    async with InferenceGRPCClient(server.grpc) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("support-topics")
        texts = InferInput("text", [len(TEXTS)], "BYTES", data=[t.encode() for t in TEXTS])
        return await client.infer(InferRequest("support-topics", [texts], request_id="mine"))


def ask(server: Server, **fields: object) -> tuple[pb.ModelInferResponse, dict[str, str]]:
    texts = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(TEXTS)])
    request = pb.ModelInferRequest(model_name="support-topics", inputs=[texts], **fields)
    if not request.raw_input_contents:
        request.inputs[0].contents.bytes_contents.extend(t.encode() for t in TEXTS)
    with grpc.insecure_channel(server.grpc) as channel:
        response, call = GRPCInferenceServiceStub(channel).ModelInfer.with_call(request, timeout=60)
    return response, dict(call.trailing_metadata())


def test_grpc_with_typed_contents(server: Server, expected: list[Prediction]) -> None:
    response, metadata = ask(server, model_version="support_topics_v3")
    assert [x.decode() for x in response.outputs[0].contents.bytes_contents] == [p.label for p in expected]
    assert list(response.outputs[1].contents.fp32_contents) == pytest.approx([p.probability for p in expected])
    assert response.model_version == "support_topics_v3"
    assert response.id == response.parameters["prediction_id"].string_param
    carried = {name: value.string_param for name, value in response.parameters.items()}
    check_stamp(carried, server)
    assert metadata["x-fairlead-prediction-id"] == carried["prediction_id"]
    assert metadata["x-fairlead-digest"] == server.digest
    assert metadata["x-fairlead-variant"] == "torch-fp32"


def test_grpc_with_raw_contents(server: Server, expected: list[Prediction]) -> None:
    raw = b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in TEXTS)
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("probability", "probabilities")]
    response, _ = ask(server, raw_input_contents=[raw], outputs=wanted)
    probability, probabilities = (np.frombuffer(raw, np.float32) for raw in response.raw_output_contents)
    assert [o.name for o in response.outputs] == ["probability", "probabilities"]
    assert probability.tolist() == pytest.approx([p.probability for p in expected])
    assert probabilities.reshape(4, 3)[0].tolist() == pytest.approx(expected[0].probabilities)


def test_grpc_adds_probabilities_by_parameter(server: Server) -> None:
    response, _ = ask(server, parameters={"probabilities": pb.InferParameter(bool_param=True)})
    assert [o.name for o in response.outputs] == ["label", "probability", "probabilities"]
    assert json.loads(response.outputs[2].parameters["labels"].string_param) == LABELS


def test_metadata_names_what_really_goes_in_and_out(server: Server) -> None:
    metadata = server.get("/v2/models/support-topics").json()
    assert metadata["versions"] == ["support_topics_v3"]
    assert metadata["parameters"] == {"digest": server.digest}
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    outputs = server.post(
        V2, json={"inputs": [tensor(TEXTS)], "outputs": [{"name": o["name"]} for o in metadata["outputs"]]}
    ).json()["outputs"]
    assert [(o["name"], o["datatype"], [-1, *o["shape"][1:]]) for o in outputs] == [
        (o["name"], o["datatype"], o["shape"]) for o in metadata["outputs"]
    ]
    with grpc.insecure_channel(server.grpc) as channel:
        request = pb.ModelMetadataRequest(name="support-topics")
        over_grpc = GRPCInferenceServiceStub(channel).ModelMetadata(request, timeout=60)
    assert [t.name for t in over_grpc.outputs] == [o["name"] for o in metadata["outputs"]]
    assert list(over_grpc.versions) == ["support_topics_v3"]


def test_health_and_lists(server: Server) -> None:
    assert server.get("/").json() == {"status": "alive"}
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v1/models").json()["models"] == ["support-topics"]
    assert server.get("/v1/models/support-topics").json().items() >= {"name": "support-topics", "ready": True}.items()
    assert server.get("/v2").json()["name"] == "fairlead"
    assert "request_predict_seconds" in server.get("/metrics").text
    assert server.post("/v2/repository/models/support-topics/load").status_code == 200


EXAMPLES = ROOT / "serving" / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda p: p.name)
def test_the_example_requests_are_answered(server: Server, path: Path) -> None:
    url = V1 if path.name.startswith("v1") else V2
    response = server.post(url, content=path.read_bytes(), headers={"content-type": "application/json"})
    assert response.status_code == 200, response.text
    assert response.headers["x-fairlead-digest"] == server.digest


def commands() -> list[str]:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    return text.split("```sh\n")[1].split("```")[0].strip().splitlines()


@pytest.mark.parametrize("command", commands(), ids=lambda c: c.split()[-1].rsplit("/", 1)[-1].strip('"'))
def test_the_commands_of_the_examples_page_run(server: Server, command: str) -> None:
    command = command.replace("python ", f"{sys.executable} ", 1) if command.startswith("python ") else command
    variables = {"HTTP": server.http, "GRPC": server.grpc, "MODEL": server.model, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60)
    if done.returncode == 127:
        pytest.skip("curl is not installed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "support_topics_v3" in done.stdout


def test_a_truth_is_one_byte_in_the_binary_form() -> None:
    assert raw_bytes(Column("rejected", "BOOL", [2], [True, False])) == b"\x01\x00"
