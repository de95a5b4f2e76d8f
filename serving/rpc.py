"""The gRPC door of the Open Inference Protocol.

Methods take and give messages as bytes, so that one that cannot be parsed is the caller's mistake by name. Lack of
room is told once the message is parsed, since the model's name stands in it, and before anything is tokenized.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from fairlead.errors import ConfigError
from serving.answers import Column, columns
from serving.asgi import MAX_MESSAGE_BYTES
from serving.control import Control
from serving.desk import Desk, check_working
from serving.exchange import Answered, Exchange
from serving.failures import RETRIED, InvalidRequest, retry_after, status_of
from serving.interface import NORMALIZE, Interface, interface_of
from serving.jsonparts import MAX_ELEMENTS
from serving.protobuf import SERVICE, pb
from serving.questions import Question, read_generation, read_parameters, wanted_outputs
from serving.reading import LARGE_BYTES, read_sized
from serving.rest import server_metadata
from serving.tensors import Tensor, items_of, read_tensor
from serving.v2 import raw_bytes
from serving.wire import check_message

LISTED_AT_ONCE = 1 << 15
CONTENTS = {"BYTES": "bytes_contents", "INT64": "int64_contents", "INT32": "int_contents"}


class RpcDoor:
    """The service's methods."""

    def __init__(self, desk: Desk, control: Control) -> None:
        self.desk, self.control = desk, control

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service, as a gRPC server takes it."""
        methods = {
            "ServerLive": (pb.ServerLiveRequest, self.live),
            "ServerReady": (pb.ServerReadyRequest, self.ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self.server),
            "ModelReady": (pb.ModelReadyRequest, self.model_ready),
            "ModelMetadata": (pb.ModelMetadataRequest, self.model),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self.load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self.unload),
        }
        served = {name: _parsed(message, method) for name, (message, method) in methods.items()}
        served["ModelInfer"] = _statuses(self.infer)
        return grpc.method_handlers_generic_handler(
            SERVICE, {name: grpc.unary_unary_rpc_method_handler(method) for name, method in served.items()}
        )

    async def infer(self, content: bytes, context: Any) -> bytes:
        """Predict; the answer's parameters go out as trailing metadata, too."""

        def header(name: str) -> str | None:
            return next((value for key, value in context.invocation_metadata() if key == name), None)

        exchange, size = Exchange("grpc", "", header), len(content)
        try:
            request = await read_sized(size, lambda: _parse_infer(content))
        except Exception:
            with self.desk.told(exchange):
                raise
        exchange.model = request.model_name

        async def read(interface: Interface) -> tuple[Question, float | None]:
            return await read_sized(size, lambda: read_question(request, interface)), context.time_remaining()

        answered = await self.desk.answer(exchange, request.model_version, read, size)
        context.set_trailing_metadata(answered.stamp.headers())
        return written(answered)

    async def live(self, _: Any) -> Any:
        """The event loop turns."""
        return pb.ServerLiveResponse(live=True)

    async def ready(self, _: Any) -> Any:
        """Whether new requests are welcome."""
        return pb.ServerReadyResponse(ready=self.desk.ready)

    async def server(self, _: Any) -> Any:
        """The server's metadata."""
        return pb.ServerMetadataResponse(**server_metadata())

    async def model_ready(self, request: Any) -> Any:
        """Whether the model, in the version asked for, answers."""
        check_working(self.desk.find(request.name, request.version))
        return pb.ModelReadyResponse(ready=True)

    async def model(self, request: Any) -> Any:
        """Inputs, outputs and version of the model."""
        served = self.desk.find(request.name, request.version)
        return pb.ModelMetadataResponse(**interface_of(served).metadata(request.name))

    async def load(self, request: Any) -> Any:
        """Load a model again from where it came; the message has no place for another."""
        await self.control.load(request.model_name)
        return pb.RepositoryModelLoadResponse(model_name=request.model_name, isLoaded=True)

    async def unload(self, request: Any) -> Any:
        """Unload a model."""
        await self.control.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse(model_name=request.model_name, isUnloaded=True)


Method = Callable[[bytes, Any], Awaitable[bytes]]


def _parsed(message: Any, method: Callable[[Any], Awaitable[Any]]) -> Method:
    """A method on bytes from one on messages."""

    async def on_bytes(content: bytes, _: Any) -> bytes:
        if len(content) > LARGE_BYTES:
            raise InvalidRequest(
                f"request: {len(content):,} bytes are over the limit of {LARGE_BYTES:,} of a {message.DESCRIPTOR.name}"
            )
        response: bytes = (await method(_parse(message, content))).SerializeToString()
        return response

    return _statuses(on_bytes)


def _statuses(method: Method) -> Method:
    """Give every failure its status and one sentence."""

    async def answered(content: bytes, context: Any) -> bytes:
        try:
            return await method(content, context)
        except Exception as error:
            status, rpc, sentence = status_of(error)
            metadata = (("retry-after", retry_after(error)),) if status in RETRIED else ()
        # The library keeps the exception that ends a call in a ring with the call. Whatever hangs on that, this request
        # or the failure and all that it was read into, would wait for the garbage collector, which then takes 40 ms.
        del content
        await context.abort(rpc, sentence, metadata)
        raise AssertionError("abort returns never")

    return answered


def _parse(message: Any, content: bytes) -> Any:
    try:
        return message.FromString(content)
    except DecodeError as error:
        raise InvalidRequest(
            f"request: it is no {message.DESCRIPTOR.name} ({error}); see the Open Inference Protocol"
        ) from error


def _parse_infer(content: bytes) -> Any:
    if len(content) >= LARGE_BYTES:
        check_message(content, pb.ModelInferRequest)
    return _parse(pb.ModelInferRequest, content)


def read_question(request: Any, interface: Interface) -> Question:
    """Read a ModelInferRequest. Raises InvalidRequest, which names the field."""
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidRequest(
            f"raw_input_contents: there are {len(raws)} raw input contents for {len(request.inputs)} inputs; "
            "send one each"
        )
    parameters = read_parameters(_plain(request.parameters), interface)
    tensors = [
        _read_tensor(f"inputs[{index}]", tensor, raws[index] if raws else None)
        for index, tensor in enumerate(request.inputs)
    ]
    outputs = wanted_outputs([output.name for output in request.outputs], parameters, interface)
    binary = frozenset(outputs) if raws else frozenset()
    items = items_of(tensors, interface)
    generation = read_generation(parameters, items, interface)
    return Question(items, outputs, request.id, binary, generation, bool(parameters.get(NORMALIZE)))


def _read_tensor(field: str, given: Any, raw: bytes | None) -> Tensor:
    name, datatype = given.name, given.datatype
    if raw is not None:
        if given.HasField("contents"):
            raise InvalidRequest(f"{field}.contents: it is given beside raw_input_contents; send one of the two")
        return read_tensor(field, name, datatype, list(given.shape), None, raw)
    column = CONTENTS.get(datatype.upper(), "bytes_contents")
    others = [filled.name for filled, _ in given.contents.ListFields() if filled.name != column]
    if others and datatype.upper() in CONTENTS:
        raise InvalidRequest(f"{field}.contents.{others[0]}: {datatype} is sent in {column}; leave the others empty")
    elements = getattr(given.contents, column)
    if len(elements) > MAX_ELEMENTS:
        raise InvalidRequest(
            f"{field}.contents.{column}: {len(elements):,} elements are over the limit of {MAX_ELEMENTS:,}; "
            "send several requests"
        )
    return read_tensor(field, name, datatype, list(given.shape), _listed(elements), None)


def _listed(elements: Sequence[Any]) -> list[Any]:
    """The same in steps, between which others have Python's lock: a million numbers take 30 ms."""
    found: list[Any] = []
    for start in range(0, len(elements), LISTED_AT_ONCE):
        found += elements[start : start + LISTED_AT_ONCE]
    return found


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name; the value of each is one of the message's kinds."""
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in parameters.items()
    }


def written(answered: Answered) -> bytes:
    """The ModelInferResponse; raw when the request was."""
    question, stamp = answered.question, answered.stamp
    response = pb.ModelInferResponse(
        id=question.id or stamp.prediction_id, model_name=stamp.model_name, model_version=stamp.manifest.name
    )
    _set(response.parameters, stamp.parameters())
    for column in columns(question.outputs, answered.answers, answered.interface):
        output = response.outputs.add(name=column.name, datatype=column.datatype, shape=column.shape)
        _set(output.parameters, column.parameters)
        if column.name in question.binary:
            response.raw_output_contents.append(raw_bytes(column))
        else:
            _fill(output.contents, column)
    content: bytes = response.SerializeToString()
    return content


def _set(parameters: Any, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        parameters[name].string_param = value


def _fill(contents: Any, column: Column) -> None:
    if column.datatype == "BYTES":
        contents.bytes_contents.extend([element.encode() for element in column.data])
    elif column.datatype == "BOOL":
        contents.bool_contents.extend(column.data)
    else:
        contents.fp32_contents.extend(column.data)


def build_server(
    desk: Desk, control: Control, host: str, port: int, shared: bool = False
) -> tuple[grpc.aio.Server, int]:
    """A server bound to `host` and `port` (0 takes a free one), not started yet, and its port.

    `shared`: other processes of this server are on the port as well. Raises ConfigError when the port is taken.
    """
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", -1),
        # Or a second server on the port would silently take half of the calls.
        ("grpc.so_reuseport", int(shared)),
    ]
    server = grpc.aio.server(handlers=[RpcDoor(desk, control).handlers()], options=options)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"--grpc_port: {address} cannot be bound; choose another port, or --free-port") from error
