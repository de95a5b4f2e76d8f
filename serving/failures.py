"""How failures look to callers: the status of each kind in HTTP and in gRPC, and one sentence."""

import logging

from grpc import StatusCode
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady

from fairlead.errors import Overloaded, UserError

logger = logging.getLogger("fairlead.serving")

STATUSES: tuple[tuple[type[Exception], int, StatusCode], ...] = (
    (InvalidInput, 400, StatusCode.INVALID_ARGUMENT),
    (ModelNotFound, 404, StatusCode.NOT_FOUND),
    (ModelNotReady, 503, StatusCode.UNAVAILABLE),
    (ServerNotReady, 503, StatusCode.UNAVAILABLE),
    (Overloaded, 503, StatusCode.UNAVAILABLE),
    (UserError, 400, StatusCode.INVALID_ARGUMENT),
)


def status_of(error: Exception) -> tuple[int, StatusCode, str]:
    """HTTP status, gRPC status and sentence of a failure; what is ours goes to the log, never to the caller."""
    for kind, http, rpc in STATUSES:
        if isinstance(error, kind):
            return http, rpc, str(error)
    logger.error("a request failed", exc_info=error)
    return 500, StatusCode.INTERNAL, "server: it failed on this request; the reason is in its log"
