"""Ask a model server on this network the same at each of its doors; prints both answers as JSON.

Run as `python -m tests.containers.client MODEL TEXT`.
"""

import json
import sys
import time

import grpc
import httpx
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

REST, RPC = "http://127.0.0.1:8080", "127.0.0.1:8081"
SECONDS_TO_START = 180


def main(model: str, text: str) -> None:
    _wait_until_ready()
    # A question, and a body that a server reads beside its event loop.
    texts = [text, *[text * 100] * 32]
    print(json.dumps({"rest": _over_rest(model, texts), "grpc": _over_grpc(model, texts)}))


def _wait_until_ready() -> None:
    """The startup probe of the manifest."""
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{REST}/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    sys.exit("error: the server did not become ready")


def _over_rest(model: str, texts: list[str]) -> list[object]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    answer = (
        httpx.post(f"{REST}/v2/models/{model}/infer", json={"inputs": [tensor]}, timeout=60).raise_for_status().json()
    )
    return [answer["outputs"][0]["data"], answer["model_version"]]


def _over_grpc(model: str, texts: list[str]) -> list[object]:
    contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in texts])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)], contents=contents)
    with grpc.insecure_channel(RPC) as channel:
        request = pb.ModelInferRequest(model_name=model, inputs=[tensor])
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
    return [[label.decode() for label in answer.outputs[0].contents.bytes_contents], answer.model_version]


if __name__ == "__main__":
    main(*sys.argv[1:])
