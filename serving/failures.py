"""How failures look to callers: the status of each kind in HTTP and in gRPC, and one sentence."""

import logging
import math

from grpc import StatusCode

from fairlead.errors import (
    Conflict,
    DeadlineExceeded,
    FairleadError,
    IntegrityError,
    NotFound,
    Overloaded,
    RegistryError,
    StorageError,
    UserError,
)

logger = logging.getLogger("fairlead.serving")


class InvalidRequest(UserError):
    """The caller's request cannot be answered as it is; the message names the field."""


class TooLarge(InvalidRequest):
    """The body is over the limit."""


class UnreadableCoding(InvalidRequest):
    """The body is compressed, or otherwise encoded."""


class BodyTooSlow(InvalidRequest):
    """The body did not arrive in time."""


class NotReady(FairleadError):
    """The server cannot answer now: it starts, it ends, or it has no model yet."""


STATUSES: tuple[tuple[type[Exception], int, StatusCode], ...] = (
    (TooLarge, 413, StatusCode.RESOURCE_EXHAUSTED),
    (UnreadableCoding, 415, StatusCode.INVALID_ARGUMENT),
    (BodyTooSlow, 408, StatusCode.DEADLINE_EXCEEDED),
    (InvalidRequest, 400, StatusCode.INVALID_ARGUMENT),
    (NotFound, 404, StatusCode.NOT_FOUND),
    (DeadlineExceeded, 504, StatusCode.DEADLINE_EXCEEDED),
    (Overloaded, 429, StatusCode.RESOURCE_EXHAUSTED),
    (NotReady, 503, StatusCode.UNAVAILABLE),
    (StorageError, 503, StatusCode.UNAVAILABLE),
    (RegistryError, 503, StatusCode.UNAVAILABLE),
    (Conflict, 409, StatusCode.FAILED_PRECONDITION),
    (IntegrityError, 409, StatusCode.FAILED_PRECONDITION),
    (UserError, 400, StatusCode.INVALID_ARGUMENT),
)
# After these the same request may succeed, so they say when to send it again.
RETRIED = (429, 503)


def status_of(error: BaseException) -> tuple[int, StatusCode, str]:
    """HTTP status, gRPC status and sentence of a failure; what is ours goes to the log, never to the caller."""
    for kind, http, rpc in STATUSES:
        if isinstance(error, kind):
            return http, rpc, str(error)
    logger.error("a request failed", exc_info=error)
    return 500, StatusCode.INTERNAL, "server: it failed on this request; the reason is in its log"


def retry_after(error: BaseException) -> str:
    """Whole seconds after which the caller may try again, 1 at least, as the header `Retry-After` has them."""
    return str(max(1, math.ceil(getattr(error, "retry_after_seconds", 1.0))))
