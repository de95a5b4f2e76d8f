"""What S3 and the network answer, in words."""

from typing import Protocol

from urllib3 import exceptions

from fairlead.errors import ConfigError, FairleadError, NotFound, StorageError
from fairlead.storage.redaction import redact_text
from fairlead.storage.s3_settings import S3Address, S3Settings

REFUSED_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}

# A kind stands before the kinds that it is one of.
REASONS: dict[type[BaseException], str] = {
    exceptions.ConnectTimeoutError: "no connection within the time limit",
    exceptions.ReadTimeoutError: "no answer within the time limit",
    exceptions.SSLError: "its TLS certificate or protocol is refused",
    exceptions.ProtocolError: "the connection was cut",
}


class S3Answer(Protocol):
    """The part of minio's S3Error that is used here."""

    code: str | None
    message: str | None


def sentence_of(answer: S3Answer, where: str, address: S3Address, settings: S3Settings) -> FairleadError:
    """The error for an answer that refuses."""
    endpoint = settings.endpoint_url
    if answer.code in ("NoSuchKey", "NotFound"):
        return NotFound(f"{where}: there is no such object; check the key and the store's address")
    if answer.code == "NoSuchBucket":
        return NotFound(
            f"s3://{address.bucket}: there is no such bucket at {endpoint}; create it or correct the address"
        )
    if answer.code in REFUSED_CREDENTIALS:
        return ConfigError(
            f"{where}: {endpoint} refuses the credentials ({answer.code}); "
            "correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        )
    if answer.code in ("AccessDenied", "AllAccessDisabled"):
        who = "these credentials" if settings.access_key else "anonymous requests (AWS_ACCESS_KEY_ID is not set)"
        return ConfigError(f"{where}: {endpoint} denies access to {who}; ask for the right to read and write there")
    if answer.code == "RequestTimeTooSkewed":
        return ConfigError(f"{where}: this machine's clock differs from that of {endpoint}; set it right")
    if answer.code in ("XMinioStorageFull", "QuotaExceeded", "InsufficientStorage"):
        return StorageError(f"{where}: {endpoint} has no space left; free space there, then run again")
    message = redact_text(answer.message or "no reason given").rstrip(".")
    return StorageError(f"{where}: {endpoint} refuses it: {answer.code} ({message}); see to the store, then run again")


def network_reason(error: BaseException) -> str:
    """Why a request came to nothing, in a few words and without the request's URL."""
    cause = error.reason if isinstance(error, exceptions.MaxRetryError) and error.reason else error
    if isinstance(cause, exceptions.NameResolutionError):
        return "its name does not resolve"
    text = redact_text(str(cause))
    for known in ("Connection refused", "Network is unreachable", "No route to host", "Connection reset by peer"):
        if known in text:
            return known.lower()
    for kind, reason in REASONS.items():
        if isinstance(cause, kind):
            return reason
    return text
