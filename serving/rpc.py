"""The gRPC door: KServe's own servicer of the Open Inference Protocol, with the status of each failure."""

from typing import Any, NoReturn

import grpc.aio
from grpc_interceptor import AsyncExceptionToStatusInterceptor
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.servicer import InferenceServicer

from fairlead.errors import ConfigError
from serving.dataplane import FixedRepository, VersionDataPlane
from serving.failures import status_of
from serving.questions import check_input
from serving.rest import MAX_BODY_BYTES


class Servicer(InferenceServicer):  # type: ignore[misc]
    """kserve's servicer, and the versions that it leaves out."""

    def __init__(self, dataplane: VersionDataPlane) -> None:
        super().__init__(dataplane, FixedRepository(dataplane.model_registry))
        self.dataplane = dataplane

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:
        """Whether the model is ready, in the version asked for."""
        self.dataplane.check_version(request.name, request.version)
        return await super().ModelReady(request, context)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Any) -> pb.ModelMetadataResponse:
        """Inputs, outputs and versions of the model."""
        self.dataplane.check_version(request.name, request.version)
        return pb.ModelMetadataResponse(**await self.dataplane.model_metadata(request.name))

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        """Predict; the answer's parameters go out as trailing metadata, too."""
        self.dataplane.check_version(request.model_name, request.model_version)
        # kserve decodes by datatype before the model sees the request, and would not name the field.
        for tensor in request.inputs[:1]:
            check_input(tensor.name, tensor.datatype)
        response = await super().ModelInfer(request, context)
        context.set_trailing_metadata(
            tuple(
                (f"x-fairlead-{name.replace('_', '-')}", value.string_param)
                for name, value in response.parameters.items()
            )
        )
        return response


class Statuses(AsyncExceptionToStatusInterceptor):
    """Give every failure its status and one sentence."""

    async def handle_exception(
        self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str
    ) -> NoReturn:
        """End the call."""
        # abort() of an inner handler arrives here again.
        if isinstance(ex, grpc.aio.AbortError):
            raise ex
        _, status, sentence = status_of(ex)
        await context.abort(status, sentence)
        raise AssertionError("abort returns never")


def build_server(dataplane: VersionDataPlane, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """A server bound to `host` and `port` (0 takes a free one), not started yet, and its port.

    Raises ConfigError when the port is taken.
    """
    options = [
        ("grpc.max_receive_message_length", MAX_BODY_BYTES),
        ("grpc.max_send_message_length", -1),
        # Or a second server on the port would silently take half of the calls.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(interceptors=[Statuses()], options=options)
    add_GRPCInferenceServiceServicer_to_server(Servicer(dataplane), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"--grpc_port: {address} cannot be bound; choose another port, or --free-port") from error
