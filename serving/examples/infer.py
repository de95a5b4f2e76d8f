"""Ask a model server over gRPC: `python serving/examples/infer.py 127.0.0.1:8081 support_topics "where is it"`."""

import sys

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub


def main(address: str, model: str, *texts: str) -> None:
    """Print one line a text: label, probability and the version that answered."""
    contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in texts])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)], contents=contents)
    with grpc.insecure_channel(address) as channel:
        request = pb.ModelInferRequest(model_name=model, inputs=[tensor])
        response = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    label, probability = response.outputs
    for name, value in zip(label.contents.bytes_contents, probability.contents.fp32_contents, strict=True):
        print(f"{name.decode()}\t{value:.4f}\t{response.model_version}")


if __name__ == "__main__":
    main(*sys.argv[1:])
