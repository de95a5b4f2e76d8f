"""Addresses as they may be printed: without credentials."""

import logging
import re
from urllib.parse import urlsplit

HIDDEN = "***"

# The query of an address without its host, as a relative redirect names it.
_QUERY = re.compile(r"(?<=[\w/.*-])\?[^\s'\"<>]+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def redact(address: str) -> str:
    """The address without user name, password, fragment and values of the query; a path stays as it is.

    A presigned URL is a credential, and which names of a query are secret differs by vendor:
    so every value is hidden and the names are kept.
    """
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
        host, query = parts.netloc.rpartition("@")[2], parts.query.split("&")
    except ValueError:
        return address.partition("://")[0] + "://" + HIDDEN
    user = f"{HIDDEN}@" if "@" in parts.netloc else ""
    names = "&".join(f"{part.partition('=')[0]}={HIDDEN}" if "=" in part else HIDDEN for part in query)
    return f"{parts.scheme}://{user}{host}{parts.path}" + (f"?{names}" if parts.query else "")


def redact_text(text: str) -> str:
    """`text` (another library's message) with every URL in it redacted."""
    return _URL.sub(lambda match: redact(match[0]), text)


class RedactingFilter(logging.Filter):
    """Redacts every address in the messages of another library's logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, without credentials."""
        record.msg, record.args = _QUERY.sub(f"?{HIDDEN}", redact_text(record.getMessage())), ()
        return True
