"""One question to a model server by each protocol, and what it says of the version that answered."""

from dataclasses import dataclass

import grpc
import httpx
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from fairlead.cluster.pods import is_ready
from fairlead.cluster.trouble import pods_of
from tests.on_cluster.forwarding import forwarded
from tests.on_cluster.objects import Objects

HTTP, GRPC = 8080, 8081
TEXT = "my card was charged twice"


@dataclass(frozen=True)
class Said:
    """What a server answered."""

    label: str
    version: str
    digest: str


def by_each_protocol(objects: Objects, model: str) -> list[Said]:
    """What a ready pod of the model says."""
    (pod, *_) = [pod["metadata"]["name"] for pod in pods_of(objects.server, model) if is_ready(pod)]
    with forwarded(objects.server, pod, HTTP) as rest, forwarded(objects.server, pod, GRPC) as rpc:
        return [v1(rest, model), v2(rest, model), v2_grpc(rpc, model)]


def v1(address: str, model: str) -> Said:
    """By KServe's V1 protocol."""
    said = _post(f"http://{address}/v1/models/{model}:predict", {"instances": [TEXT]})
    return Said(said["predictions"][0]["label"], said["model_version"], said["digest"])


def v2(address: str, model: str) -> Said:
    """By the Open Inference Protocol over REST."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    said = _post(f"http://{address}/v2/models/{model}/infer", {"inputs": [tensor]})
    label = next(output["data"][0] for output in said["outputs"] if output["name"] == "label")
    return Said(label, said["model_version"], said["parameters"]["digest"])


def v2_grpc(address: str, model: str) -> Said:
    """By the Open Inference Protocol over gRPC."""
    contents = pb.InferTensorContents(bytes_contents=[TEXT.encode()])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1], contents=contents)
    request = pb.ModelInferRequest(model_name=model, inputs=[tensor])
    # The environment's proxy is not for loopback.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = GRPCInferenceServiceStub(channel).ModelInfer.with_call
        response, ended = call(request, timeout=60, wait_for_ready=True)
    metadata = dict(ended.trailing_metadata())
    label = next(output for output in response.outputs if output.name == "label")
    return Said(label.contents.bytes_contents[0].decode(), response.model_version, metadata["x-fairlead-digest"])


def _post(url: str, body: object) -> dict:
    answer = httpx.post(url, json=body, timeout=60, trust_env=False)
    answer.raise_for_status()
    found: dict = answer.json()
    return found
